//! What the API server was asked, and what came of it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// Which requests are recorded: those of ServiceAccounts, but not of the controllers, which are many.
const POLICY: &str = r#"{
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
        { "level": "None", "userGroups": ["system:serviceaccounts:kube-system"] },
        { "level": "Metadata", "userGroups": ["system:serviceaccounts"] }
    ]
}"#;

/// Writes the policy into `dir` and gives its path, and that of the records.
pub(super) fn prepare(dir: &Path) -> Result<[PathBuf; 2]> {
    let policy = dir.join("audited.json");
    fs::write(&policy, POLICY).with_context(|| format!("write {}", policy.display()))?;
    Ok([policy, records(dir)])
}

/// The records, in the form of `audit.k8s.io/v1`.
pub(super) fn read(dir: &Path) -> Result<Vec<Value>> {
    let path = records(dir);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    // The last line may be about to be written.
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn records(dir: &Path) -> PathBuf {
    dir.join("audit.log")
}
