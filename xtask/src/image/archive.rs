//! The image as an archive in the form of the Open Container Initiative, the same bytes for the same files.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{BINARY, Contents};

/// The name and tag that the archive carries.
pub(super) fn reference() -> String {
    format!("sluice:{}", env!("CARGO_PKG_VERSION"))
}

/// The name of this machine's architecture in images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A blob of the archive, named by its digest.
struct Blob {
    bytes: Vec<u8>,
    digest: String,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = digest(&bytes);
        Self { bytes, digest }
    }

    fn json(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    /// How another blob names this one.
    fn descriptor(&self, kind: &str) -> Value {
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": kind, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len()})
    }
}

/// SHA-256 in hexadecimal.
fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Contents {
    /// Writes the image to `path` and gives the digest of its manifest.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn archive(&self, path: &Path) -> Result<String> {
        let layer = self.layer().context("make the layer")?;
        let unpacked = format!("sha256:{}", digest(&layer));
        let mut compressed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
        compressed.write_all(&layer)?;
        let layer = Blob::new(compressed.finish()?);
        let config = Blob::json(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": [format!("/{BINARY}")],
                "Cmd": ["agent"],
                "Env": ["PATH=/usr/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": [unpacked]},
        }));
        let manifest = Blob::json(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("config.v1+json"),
            "layers": [layer.descriptor("layer.v1.tar+gzip")],
        }));
        let mut entry = manifest.descriptor("manifest.v1+json");
        // The former name is for containerd, which takes the whole reference; the tag alone is what the standard has.
        entry["annotations"] = json!({
            "io.containerd.image.name": format!("docker.io/library/{}", reference()),
            "org.opencontainers.image.ref.name": env!("CARGO_PKG_VERSION"),
        });
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
        let mut blobs = [layer, config, manifest];
        let digest = format!("sha256:{}", blobs[2].digest);
        blobs.sort_by(|a, b| a.digest.cmp(&b.digest));

        let mut tar = tar::Builder::new(Vec::new());
        for blob in &blobs {
            file(&mut tar, &Path::new("blobs/sha256").join(&blob.digest), &blob.bytes, 0o644)?;
        }
        file(&mut tar, Path::new("index.json"), index.as_bytes(), 0o644)?;
        file(&mut tar, Path::new("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        fs::write(path, tar.into_inner()?).with_context(|| format!("write {}", path.display()))?;
        Ok(digest)
    }

    /// The one layer, as an archive that is not compressed.
    fn layer(&self) -> std::io::Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for folder in self.folders() {
            let mut header = header(tar::EntryType::Directory, 0, 0o755);
            tar.append_data(&mut header, folder.join(""), std::io::empty())?;
        }
        for (path, contents) in &self.files {
            file(&mut tar, path, &contents.bytes, contents.mode)?;
        }
        tar.into_inner()
    }
}

fn file(tar: &mut tar::Builder<Vec<u8>>, path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    tar.append_data(&mut header(tar::EntryType::Regular, bytes.len(), mode), path, bytes)
}

/// Root's, and as old as can be: neither who built it nor when makes a difference.
fn header(kind: tar::EntryType, size: usize, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;
    use std::path::PathBuf;

    use super::*;
    use crate::image::File;

    /// What is in an archive: path, permission bits, time, bytes.
    fn unpack(bytes: &[u8]) -> Vec<(PathBuf, u32, u64, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let header = entry.header();
            (entry.path().unwrap().into_owned(), header.mode().unwrap(), header.mtime().unwrap(), bytes)
        });
        entries.collect()
    }

    #[test]
    fn the_same_files_make_the_same_archive_and_every_digest_fits() {
        let files = [("usr/bin/sluice", "program", 0o755), ("lib/libc.so.6", "library", 0o644)];
        let files = files.map(|(path, text, mode)| (path.into(), File { bytes: text.into(), mode }));
        let contents = Contents { files: BTreeMap::from(files) };
        let folder = std::env::temp_dir().join(format!("sluice-image-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [a, b] = ["a", "b"].map(|name| {
            let digest = contents.archive(&folder.join(name)).unwrap();
            (digest, fs::read(folder.join(name)).unwrap())
        });
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(a, b);

        let outer: BTreeMap<_, _> =
            unpack(&a.1).into_iter().map(|(path, _, _, bytes)| (path, bytes)).collect();
        let blob = |descriptor: &Value| {
            let name = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = &outer[&Path::new("blobs/sha256").join(name)];
            assert_eq!(
                (digest(bytes).as_str(), Some(bytes.len() as u64)),
                (name, descriptor["size"].as_u64())
            );
            bytes.clone()
        };
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = parse(&outer[Path::new("index.json")]);
        let manifest = parse(&blob(&index["manifests"][0]));
        let config = parse(&blob(&manifest["config"]));
        let mut layer = Vec::new();
        let compressed = blob(&manifest["layers"][0]);
        flate2::read::GzDecoder::new(compressed.as_slice()).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", digest(&layer)));

        let container_file = fs::read_to_string(crate::sh::root().join("deploy/Containerfile")).unwrap();
        let config = &config["config"];
        for line in [
            format!("ENTRYPOINT {}", config["Entrypoint"]),
            format!("CMD {}", config["Cmd"]),
            format!("ENV {}", config["Env"][0].as_str().unwrap()),
        ] {
            assert!(container_file.lines().any(|there| there == line), "deploy/Containerfile lacks {line}");
        }

        let entries = unpack(&layer);
        assert!(entries.iter().all(|(_, _, time, _)| *time == 0));
        let files = entries.iter().filter(|(_, _, _, bytes)| !bytes.is_empty());
        let files: Vec<_> =
            files.map(|(path, mode, _, bytes)| (path.to_str().unwrap(), *mode, bytes.as_slice())).collect();
        assert_eq!(files, [("lib/libc.so.6", 0o644, &b"library"[..]), ("usr/bin/sluice", 0o755, b"program")]);
    }
}
