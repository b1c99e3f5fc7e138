//! Maps made or adopted, programs loaded, both pinned.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::maps;
use tracing::{info, warn};

use super::map::{self, MapError};
use super::pin::{PinDir, PinError, PinLock};
use super::size::Sizes;
use super::sys;

/// Lines of the verifier's log that are shown.
const LOG_LINES: usize = 30;
/// How often a program is offered: the verifier gives up with `EAGAIN` when a signal is pending, or the process is being
/// frozen.
const ATTEMPTS: usize = 5;

/// Why the programs are not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The build embedded no eBPF object.
    #[error("built without its eBPF programs: run cargo xtask build")]
    NoObject,
    /// The object cannot be read, or one of its maps cannot be made.
    #[error("load the eBPF object")]
    Object(#[source] Box<EbpfError>),
    /// The kernel refused a program.
    #[error("BPF_PROG_LOAD of {name}: {source}{log}")]
    Program {
        /// Name of the program.
        name: String,
        /// What the kernel answered.
        source: io::Error,
        /// The end of the verifier's log, where it says why; on lines of its own.
        log: String,
    },
    /// The object holds a program of a kind that this loader does not know, or lacks one that it needs.
    #[error("the eBPF object has no usable {what} {name}: this is a broken build")]
    Broken {
        /// "map" or "program".
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A pinned map cannot be adopted.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A pin cannot be made.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// The programs in the kernel and the right to change their pins.
#[derive(Debug)]
pub struct Datapath {
    pins: PinDir,
    progs: BTreeMap<String, OwnedFd>,
    _lock: PinLock,
}

impl Datapath {
    /// Adopts the maps that are pinned, makes those that are not, loads the programs of `object` over them and pins
    /// everything. Attached programs stay what they are until `attach` swaps them.
    ///
    /// Adopted maps keep their sizes; a flag in `sizes` that asks for another one is warned about.
    ///
    /// # Errors
    /// [`MapError::Shape`] if a pinned map does not fit, else the program or map that the kernel refused.
    pub fn load(pins: &PinDir, lock: PinLock, object: &[u8], sizes: &Sizes) -> Result<Self, LoadError> {
        let mut loader = EbpfLoader::new();
        // Nothing in the object is relocated against the kernel's types, and parsing them takes longer than all else.
        loader.btf(None);
        let memory = machine_memory();
        let mut adopted = 0;
        for spec in maps::ALL {
            let wanted = sizes.entries(spec, memory);
            match map::open_checked(&pins.map(spec.name), spec)? {
                Some(pinned) => {
                    adopted += 1;
                    let found = map::entries(pinned.as_fd(), spec)?;
                    if let Some(flag) = sizes.flag(spec).filter(|_| found != wanted) {
                        warn!(
                            "the pinned map {} keeps its {found} entries: for the {wanted} of {flag} run `sluice cleanup` first",
                            spec.name
                        );
                    }
                }
                // Socket storage has no size.
                None if wanted == 0 => {}
                None => {
                    loader.map_max_entries(spec.name, wanted);
                }
            }
            loader.map_pin_path(spec.name, pins.map(spec.name));
        }
        info!("{adopted} maps adopted, {} made", maps::ALL.len() - adopted);

        let mut ebpf = loader.load(object).map_err(|error| LoadError::Object(Box::new(error)))?;
        for spec in maps::ALL {
            if map::open_checked(&pins.map(spec.name), spec)?.is_none() {
                return Err(broken("map", spec.name));
            }
        }
        let progs = load_programs(&mut ebpf)?;
        for (name, prog) in &progs {
            pin_program(pins, name, prog.as_fd())?;
        }
        Ok(Self { pins: pins.clone(), progs, _lock: lock })
    }

    /// Where everything is pinned.
    #[must_use]
    pub fn pins(&self) -> &PinDir {
        &self.pins
    }

    /// The program `name`.
    ///
    /// # Errors
    /// [`LoadError::Broken`] if the object has none of that name.
    pub fn program(&self, name: &str) -> Result<BorrowedFd<'_>, LoadError> {
        match self.progs.get(name) {
            Some(prog) => Ok(prog.as_fd()),
            None => Err(broken("program", name)),
        }
    }
}

fn broken(what: &'static str, name: &str) -> LoadError {
    LoadError::Broken { what, name: name.to_owned() }
}

fn load_programs(ebpf: &mut Ebpf) -> Result<BTreeMap<String, OwnedFd>, LoadError> {
    let mut progs = BTreeMap::new();
    for (name, program) in ebpf.programs_mut() {
        let refused = |error| refusal(name, error);
        let mut load = || match program {
            Program::SchedClassifier(program) => Ok(program.load()),
            Program::CgroupSockAddr(program) => Ok(program.load()),
            Program::CgroupSock(program) => Ok(program.load()),
            Program::RawTracePoint(program) => Ok(program.load()),
            Program::Xdp(program) => Ok(program.load()),
            _ => Err(broken("program", name)),
        };
        let mut loaded = load()?;
        for _ in 1..ATTEMPTS {
            if !matches!(&loaded, Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == io::ErrorKind::WouldBlock)
            {
                break;
            }
            loaded = load()?;
        }
        loaded.map_err(refused)?;
        let fd = program.fd().map_err(refused)?.as_fd();
        let fd = fd.try_clone_to_owned().map_err(|error| refused(ProgramError::IOError(error)))?;
        progs.insert(name.to_owned(), fd);
    }
    Ok(progs)
}

pub(super) fn refusal(name: &str, error: ProgramError) -> LoadError {
    let (source, log) = match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            (io_error, last_lines(&verifier_log.to_string()))
        }
        other => (io::Error::other(other), String::new()),
    };
    LoadError::Program { name: name.to_owned(), source, log }
}

/// The end of `text`, which can be megabytes, each line after a line feed.
fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().flat_map(|line| ["\n", line]).collect()
}

/// Pins `prog` in the place of an older one of that name, in one step.
fn pin_program(pins: &PinDir, name: &str, prog: BorrowedFd<'_>) -> Result<(), PinError> {
    let path = pins.prog(name);
    let fresh = pins.prog(&format!("{name}-new"));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(PinError::of("unlink", &fresh)(error));
        }
        _ => {}
    }
    sys::obj_pin(prog, &fresh).map_err(PinError::of("BPF_OBJ_PIN", &fresh))?;
    fs::rename(&fresh, &path).map_err(PinError::of("rename", &fresh))
}

/// Bytes of memory of this machine.
fn machine_memory() -> u64 {
    let info = rustix::system::sysinfo();
    // Both are wider on some machines than on others.
    info.totalram as u64 * u64::from(info.mem_unit)
}
