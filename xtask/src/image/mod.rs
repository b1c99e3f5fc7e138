//! `cargo xtask image`: the container image, without a container engine.
//!
//! [`Contents`] is the one list of what the image holds: the verb writes it as a folder and as an archive that every
//! engine loads, the container file copies the folder, and the tests run the agent in it.

mod archive;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{build, setup, sh};

/// Where the binary is in the image; also what the image runs.
pub const BINARY: &str = "usr/bin/sluice";

/// Mounted over, or filled by the container engine, which cannot make them in a read-only root.
const FOLDERS: [&str; 5] = ["dev", "etc", "proc", "run", "sys"];

/// A file of the image.
#[derive(Debug)]
struct File {
    bytes: Vec<u8>,
    /// Permission bits; the owner is root.
    mode: u32,
}

/// What the image holds: paths without a leading slash, files, and folders beside their own parents.
#[derive(Debug)]
pub struct Contents {
    files: BTreeMap<PathBuf, File>,
}

impl Contents {
    /// The image of the program at `sluice`: the program without its debug information, and the shared libraries that it
    /// names with their loader.
    ///
    /// # Errors
    /// A program without eBPF programs in it, or for another machine; a file that cannot be read.
    pub fn of(sluice: &Path) -> Result<Self> {
        let version = sh::read(Command::new(sluice).args(["-j", "version"]))?;
        let version: serde_json::Value =
            serde_json::from_str(&version).context("output of sluice version")?;
        if version["programs_embedded"] != true {
            bail!("{} has no eBPF programs in it: cargo xtask build makes one that has", sluice.display());
        }
        let stripped = build::without_debug_information(sluice)?;
        let mut files = BTreeMap::from([(BINARY.into(), File { bytes: stripped, mode: 0o755 })]);
        for library in libraries(sluice)? {
            let bytes = fs::read(&library).with_context(|| format!("read {}", library.display()))?;
            let path = library.strip_prefix("/").unwrap_or(&library).to_owned();
            files.insert(path, File { bytes, mode: 0o755 });
        }
        Ok(Self { files })
    }

    /// Writes the root file system as the folder `root`, in place of what is there.
    ///
    /// # Errors
    /// When something cannot be removed or written.
    pub fn write(&self, root: &Path) -> Result<()> {
        let at = |path: &Path| format!("write {}", root.join(path).display());
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("remove {}", root.display()))?;
        }
        for folder in self.folders() {
            fs::create_dir_all(root.join(&folder)).with_context(|| at(&folder))?;
        }
        for (path, file) in &self.files {
            let (to, mode) = (root.join(path), fs::Permissions::from_mode(file.mode));
            fs::write(&to, &file.bytes)
                .and_then(|()| fs::set_permissions(&to, mode))
                .with_context(|| at(path))?;
        }
        Ok(())
    }

    /// All folders, parents first.
    fn folders(&self) -> Vec<PathBuf> {
        let parents = self.files.keys().flat_map(|path| path.ancestors().skip(1));
        let folders = FOLDERS.into_iter().map(Path::new).chain(parents);
        let mut folders: Vec<_> = folders.filter(|path| *path != Path::new("")).map(Path::to_owned).collect();
        folders.sort();
        folders.dedup();
        folders
    }
}

/// The verb: builds the binary, then `target/image/root` and `target/image/sluice.tar`.
///
/// # Errors
/// As [`Contents::of`], or a failed build.
pub fn run() -> Result<()> {
    let contents = Contents::of(&build::sluice(&setup::build_tools()?)?)?;
    let folder = build::target_folder()?.join("image");
    contents.write(&folder.join("root"))?;
    let archive = folder.join("sluice.tar");
    let digest = contents.archive(&archive)?;
    sh::say(&format!("root file system in {}", folder.join("root").display()));
    sh::say(&format!("OCI image {} in {}", archive::reference(), archive.display()));
    sh::say(&format!("manifest {digest}"));
    Ok(())
}

/// The files that the loader brings in for `program`, itself among them, by the names under which it looks for them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = sh::read(Command::new("ldd").arg(program))?;
    if listed.contains("not found") {
        bail!("{} lacks libraries:\n{listed}", program.display());
    }
    Ok(paths(&listed))
}

/// The absolute paths that ldd lists; the kernel's own library has none.
fn paths(listed: &str) -> Vec<PathBuf> {
    let words = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_their_loader_are_found() {
        let listed = "\tlinux-vdso.so.1 (0x00007f11759db000)\n\
                      \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1174c1e000)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f11759dd000)\n";
        assert_eq!(
            paths(listed),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
        assert_eq!(paths("\tstatically linked\n"), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let files = BTreeMap::from([("a/b/c".into(), File { bytes: vec![], mode: 0o644 })]);
        let folders = Contents { files }.folders();
        let names: Vec<_> = folders.iter().filter_map(|path| path.to_str()).collect();
        assert_eq!(names, ["a", "a/b", "dev", "etc", "proc", "run", "sys"]);
    }
}
