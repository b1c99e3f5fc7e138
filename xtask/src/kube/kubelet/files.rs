//! The files of a pod: what its volumes hold, and the folder in which a program without a container finds them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::kube::{Api, dns};
use crate::lab::Space;

/// Writes what the volume `volume` of `pod` holds into `folder`: a ConfigMap, or what is projected.
///
/// # Errors
/// What the API server says; a volume of another kind; a file that cannot be written.
pub fn volume(api: &Api, pod: &Value, volume: &Value, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let namespace = pod["metadata"]["namespace"].as_str().context("a pod without a namespace")?;
    let put = |file: &str, text: &str| {
        let path = folder.join(file);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    let sources = match volume["projected"]["sources"].as_array() {
        Some(sources) => sources.as_slice(),
        None => std::slice::from_ref(volume),
    };
    for source in sources {
        if let Some(name) = source["configMap"]["name"].as_str() {
            let map = api.get(&format!("/api/v1/namespaces/{namespace}/configmaps/{name}"))?;
            for (key, text) in map["data"].as_object().into_iter().flatten() {
                put(key, text.as_str().unwrap_or_default())?;
            }
        } else if let Some(file) = source["serviceAccountToken"]["path"].as_str() {
            put(file, &token(api, pod, &source["serviceAccountToken"]["expirationSeconds"])?)?;
        } else if let Some(items) = source["downwardAPI"]["items"].as_array() {
            for item in items {
                match item["fieldRef"]["fieldPath"].as_str() {
                    Some("metadata.namespace") => put(item["path"].as_str().unwrap_or_default(), namespace)?,
                    other => bail!("{other:?} of a pod is not known here"),
                }
            }
        } else {
            bail!("a volume of another kind: {volume}");
        }
    }
    Ok(())
}

/// A token of the account of `pod` that is bound to the pod, as kubelets ask for it.
fn token(api: &Api, pod: &Value, seconds: &Value) -> Result<String> {
    let (metadata, account) = (&pod["metadata"], &pod["spec"]["serviceAccountName"]);
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]});
    let spec = json!({"boundObjectRef": bound, "expirationSeconds": seconds});
    let account = account.as_str().context("a pod without an account")?;
    api.token(metadata["namespace"].as_str().unwrap_or_default(), account, &spec)
}

/// The texts of a list.
pub(super) fn texts(list: &Value) -> impl Iterator<Item = String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned))
}

/// The files that are a program's own: it finds them in /run.
#[derive(Debug)]
pub struct Home(PathBuf);

impl Home {
    /// Makes one for a program of `space`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(space: &Space) -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::at(space.lab().dir().join(format!("home-{}-{number}", space.netns())))
    }

    /// The one in the folder `path`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Writes what a kubelet writes into `resolv.conf`, for a pod of `namespace`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn resolver(&self, namespace: &str, servers: &[&str], options: &str) -> Result<()> {
        let servers: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        let search = format!("search {namespace}.svc.cluster.local svc.cluster.local cluster.local\n");
        fs::write(self.0.join("resolv.conf"), format!("{search}{servers}options ndots:5 {options}\n"))
            .context("write resolv.conf")
    }

    /// What stands before a command that is to find these files.
    #[must_use]
    pub fn prefix(&self) -> Vec<String> {
        // Where the machine's own resolv.conf is in /run, it is not there any more.
        const ENTER: &str = "mount --bind \"$1\" /run && file=$(readlink -m /etc/resolv.conf) && \
                             mkdir -p \"${file%/*}\" && { [ -e \"$file\" ] || : > \"$file\"; } && \
                             mount --bind /run/resolv.conf \"$file\" && shift && exec \"$@\"";
        let home = self.0.display().to_string();
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", &home];
        words.map(str::to_owned).to_vec()
    }

    /// A command that runs `program` in `space` with these files.
    #[must_use]
    pub fn command(&self, space: &Space, program: impl AsRef<OsStr>) -> Command {
        let prefix = self.prefix();
        let mut command = space.command(&prefix[0]);
        command.args(&prefix[1..]).arg(program);
        command
    }

    /// Starts `words` as the container of `pod` in `space`, with its volumes, its environment and the cluster's DNS.
    ///
    /// # Errors
    /// What the API server says of its volumes; when the program cannot be started.
    pub(super) fn start(
        &self,
        api: &Api,
        space: &Space,
        pod: &Value,
        mut words: Vec<String>,
    ) -> Result<Child> {
        let (metadata, container) = (&pod["metadata"], &pod["spec"]["containers"][0]);
        let name = metadata["name"].as_str().unwrap_or_default();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            let volume =
                volumes.find(|it| it["name"] == mount["name"]).context("a mount without a volume")?;
            let inside = mount["mountPath"].as_str().context("a mount without a path")?;
            match inside.strip_prefix("/var/run/") {
                Some(rest) => self::volume(api, pod, volume, &self.0.join(rest))?,
                // Elsewhere it would take a folder of the machine's.
                None => {
                    let own = format!("volumes/{}", mount["name"].as_str().unwrap_or_default());
                    self::volume(api, pod, volume, &self.0.join(&own))?;
                    for word in &mut words {
                        *word = word.replace(inside, &format!("/run/{own}"));
                    }
                }
            }
        }
        self.resolver(metadata["namespace"].as_str().unwrap_or_default(), &dns::ADDRESSES, "")?;
        let log = space.lab().dir().join(format!("{name}.log"));
        let log = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let (program, arguments) = words.split_first().context("no program named")?;
        let mut command = self.command(space, program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.env("KUBERNETES_SERVICE_HOST", "10.96.0.1").env("KUBERNETES_SERVICE_PORT", "443");
        for variable in container["env"].as_array().into_iter().flatten() {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                None => variable["value"].as_str().unwrap_or_default(),
                Some("metadata.name") => name,
                Some(other) => bail!("{other} of a pod is not known here"),
            };
            command.env(variable["name"].as_str().unwrap_or_default(), value);
        }
        command.spawn().with_context(|| format!("start {program}"))
    }
}
