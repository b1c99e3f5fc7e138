//! The Go toolchain that builds the control plane: the machine's own, or one from the Go module proxy.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::{setup, sh};

/// The toolchain that is fetched where there is none.
const VERSION: &str = "1.26.8";

/// The digest of its archive, by the names that Rust and Go have for an architecture.
const ARCHIVES: &[(&str, &str, &str)] = &[
    ("x86_64", "amd64", "30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7"),
    ("aarch64", "arm64", "02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99"),
];

/// The first Go that fetches a newer toolchain by itself where a module asks for it.
const OLDEST: (u32, u32) = (1, 21);

/// A `go` command, without the settings of a user that would change what is built.
///
/// # Errors
/// When there is none and none can be fetched.
pub(super) fn command() -> Result<Command> {
    let mut go = Command::new(program()?);
    settle(&mut go)?;
    Ok(go)
}

/// Go looks for its caches in the home folder, and for that in the environment alone.
fn settle(go: &mut Command) -> Result<()> {
    go.env("GOTOOLCHAIN", "auto").env("GOWORK", "off").env("CGO_ENABLED", "0").env_remove("GOFLAGS");
    go.env("HOME", setup::home()?);
    Ok(())
}

fn program() -> Result<PathBuf> {
    let usual = [sh::find("go"), Some("/usr/local/go/bin/go".into())];
    if let Some(found) = usual.into_iter().flatten().find(|path| is_usable(path)) {
        return Ok(found);
    }
    let home = setup::cache("kube")?.join(format!("go-{VERSION}"));
    let program = home.join("bin/go");
    if !program.is_file() {
        fetch(&home).with_context(|| format!("no Go from {}.{} on is on the path", OLDEST.0, OLDEST.1))?;
    }
    Ok(program)
}

fn is_usable(go: &Path) -> bool {
    let mut version = Command::new(go);
    version.arg("version").env("GOTOOLCHAIN", "local");
    go.is_file()
        && sh::read(&mut version).is_ok_and(|text| super::version(&text).is_some_and(|it| it >= OLDEST))
}

/// Fetches the toolchain and makes it `home`.
fn fetch(home: &Path) -> Result<()> {
    let Some((_, name, digest)) = ARCHIVES.iter().find(|(rust, ..)| *rust == env::consts::ARCH) else {
        bail!("Go has no pinned toolchain for {}: install Go {VERSION} or later", env::consts::ARCH);
    };
    setup::need(setup::ARCHIVE)?;
    let module = format!("golang.org/toolchain/@v/v0.0.1-go{VERSION}.linux-{name}.zip");
    sh::say(&format!("fetching Go {VERSION}"));
    let parts = home.with_extension("new");
    let _ = fs::remove_dir_all(&parts);
    fs::create_dir_all(&parts).with_context(|| format!("make {}", parts.display()))?;
    let archive = parts.join("go.zip");
    let mut got = Err(anyhow!("GOPROXY names no proxy: install Go, or unset it"));
    for proxy in proxies() {
        got = download(&format!("{proxy}/{module}"), &archive);
        if got.is_ok() {
            break;
        }
    }
    got?;
    let found = sh::read(Command::new("sha256sum").arg(&archive))?;
    if !found.starts_with(digest) {
        bail!("{module} has the digest {}, not {digest}", found.split(' ').next().unwrap_or_default());
    }
    sh::read(Command::new("unzip").args(["-q", "-d"]).args([&parts, &archive]))?;
    let root = parts.join(format!("golang.org/toolchain@v0.0.1-go{VERSION}.linux-{name}"));
    // Archives of modules have no permissions.
    for folder in ["bin".to_owned(), format!("pkg/tool/linux_{name}")] {
        sh::read(Command::new("chmod").args(["-R", "+x"]).arg(root.join(folder)))?;
    }
    fs::rename(&root, home).with_context(|| format!("make {}", home.display()))?;
    fs::remove_dir_all(&parts).with_context(|| format!("remove {}", parts.display()))
}

fn download(url: &str, to: &Path) -> Result<()> {
    sh::read(Command::new("curl").args(["-fsSL", "--retry", "3", "-o"]).arg(to).arg(url)).map(|_| ())
}

/// The proxies of `GOPROXY`, in order.
fn proxies() -> Vec<String> {
    let list = env::var("GOPROXY").ok().filter(|list| !list.is_empty());
    let list = list.unwrap_or_else(|| "https://proxy.golang.org".to_owned());
    let urls = list.split([',', '|']).filter(|it| it.contains("://"));
    urls.map(|url| url.trim_end_matches('/').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_knows_the_home_folder_whatever_the_environment_says() {
        let mut go = Command::new("go");
        go.env_remove("HOME");
        settle(&mut go).unwrap();
        let home = go.get_envs().find(|(name, _)| *name == "HOME").and_then(|(_, value)| value).unwrap();
        assert!(Path::new(home).is_absolute(), "{}", home.display());
    }
}
