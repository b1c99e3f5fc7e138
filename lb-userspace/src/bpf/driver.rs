//! The object of `sluice bench`: a driver that writes a frame and hands it to the program under test, and a generator
//! that sends it.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::{Program, ProgramFd};
use aya::{Ebpf, EbpfLoader};
use aya_obj::generated::{XDP_FLAGS_DRV_MODE, bpf_attach_type};
use lb_common::generator::{Generator, SAMPLES, TARGETS};

use super::load::LoadError;
use super::object;
use super::sys::{self, Trial};

/// Where the index of the interface stands in a `struct __sk_buff`, and in a `struct xdp_md`; what else there is to tell
/// stands before it.
const SKB_INTERFACE: usize = 40;
/// See there.
const XDP_INTERFACE: usize = 12;
/// Where the end of the data stands in a `struct xdp_md`: its length, to a test run.
const XDP_END: usize = 4;

/// Why nothing can be driven.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The object is not in the kernel.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel refused a call.
    #[error("{call}: {source}")]
    Syscall {
        /// Name of the call.
        call: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// The driver in the kernel; one thread uses it at a time.
#[derive(Debug)]
pub struct Driver {
    ebpf: Ebpf,
    /// How many programs of a kind it can call.
    targets: [u32; 2],
    /// What makes interfaces have frames to drive, or programs that do nothing.
    links: Vec<Attached>,
}

/// An attachment that goes with this value.
#[derive(Debug)]
pub struct Attached {
    _link: OwnedFd,
}

/// Kinds of programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Classifiers, of tcx.
    Tc,
    /// XDP, of frames that may be in parts.
    Xdp,
}

impl Kind {
    /// The table of what can be called, the driver, the empty program.
    const fn names(self) -> [&'static str; 3] {
        match self {
            Self::Tc => ["targets_tc", "drive_tc", "empty_tc"],
            Self::Xdp => ["targets_xdp", "drive_xdp", "empty_xdp"],
        }
    }
}

/// A program that it can call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TargetNumber {
    /// Of this kind.
    pub kind: Kind,
    /// Of these the one with this number; 0: the empty one.
    pub number: u32,
}

impl Driver {
    /// Loads it. The first target of each kind is the empty program.
    ///
    /// # Errors
    /// [`LoadError`], the kernel's as well.
    pub fn load() -> Result<Self, DriveError> {
        let mut loader = EbpfLoader::new();
        let mut ebpf =
            loader.btf(None).load(object::bench()?).map_err(|error| LoadError::Object(Box::new(error)))?;
        for (name, program) in ebpf.programs_mut() {
            match program {
                Program::SchedClassifier(program) => program.load(),
                Program::Xdp(program) => program.load(),
                _ => return Err(LoadError::Broken { what: "program", name: name.to_owned() }.into()),
            }
            .map_err(|error| super::load::refusal(name, error))?;
        }
        let mut driver = Self { ebpf, targets: [0; 2], links: Vec::new() };
        for kind in [Kind::Tc, Kind::Xdp] {
            let [_, _, empty] = kind.names();
            let empty = driver.program(empty)?.as_fd().try_clone_to_owned().map_err(failed("dup"))?;
            driver.add(kind, empty.as_fd())?;
        }
        Ok(driver)
    }

    /// Makes `program` one that can be called.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn add(&mut self, kind: Kind, program: BorrowedFd<'_>) -> Result<TargetNumber, DriveError> {
        let number = self.targets[kind as usize];
        debug_assert!(number < TARGETS, "the table of targets is full");
        let [name, ..] = kind.names();
        let map = match self.map(name)? {
            Map::ProgramArray(map) => map.fd().as_fd(),
            _ => return Err(broken("map", name)),
        };
        let fd = program.as_raw_fd();
        sys::update(map, &number.to_ne_bytes(), &fd.to_ne_bytes(), 0)
            .map_err(failed("BPF_MAP_UPDATE_ELEM"))?;
        self.targets[kind as usize] += 1;
        Ok(TargetNumber { kind, number })
    }

    /// Has the interface with this index, of the namespace that this thread is in, have queues for XDP, as long as the
    /// driver lives: without, no frame can be said to come by it. What comes by it in truth passes.
    ///
    /// # Errors
    /// The kernel refused: its driver has no XDP, or there is a program on it.
    pub fn open(&mut self, interface: u32) -> Result<(), DriveError> {
        let attached = self.attach(Kind::Xdp, "empty_xdp", interface)?;
        self.links.push(attached);
        Ok(())
    }

    /// Attaches its program `name` to the interface with this index, of the namespace that this thread is in: on the way
    /// in, for as long as the value lives.
    ///
    /// # Errors
    /// The kernel refused: the interface's driver has no XDP, or there is a program on it.
    pub fn attach(&self, kind: Kind, name: &str, interface: u32) -> Result<Attached, DriveError> {
        Self::attach_program(kind, self.program(name)?.as_fd(), interface)
    }

    /// The same of any program.
    ///
    /// # Errors
    /// As [`Driver::attach`].
    pub fn attach_program(
        kind: Kind,
        program: BorrowedFd<'_>,
        interface: u32,
    ) -> Result<Attached, DriveError> {
        let (attach_type, flags) = match kind {
            Kind::Tc => (bpf_attach_type::BPF_TCX_INGRESS, 0),
            Kind::Xdp => (bpf_attach_type::BPF_XDP, XDP_FLAGS_DRV_MODE),
        };
        Self::link(program, interface, attach_type, flags)
    }

    /// Has the interface with this index, of the namespace that this thread is in, have the empty program of tc both ways, as
    /// long as the driver lives.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn idle(&mut self, interface: u32) -> Result<(), DriveError> {
        let [_, _, empty] = Kind::Tc.names();
        for attach_type in [bpf_attach_type::BPF_TCX_INGRESS, bpf_attach_type::BPF_TCX_EGRESS] {
            let link = Self::link(self.program(empty)?.as_fd(), interface, attach_type, 0)?;
            self.links.push(link);
        }
        Ok(())
    }

    fn link(
        program: BorrowedFd<'_>,
        interface: u32,
        attach_type: bpf_attach_type,
        flags: u32,
    ) -> Result<Attached, DriveError> {
        let link = sys::link_create(program, interface, attach_type as u32, flags);
        link.map(|link| Attached { _link: link }).map_err(failed("BPF_LINK_CREATE"))
    }

    /// Frames that its counting programs have met.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn counted(&self) -> Result<u64, DriveError> {
        let map =
            PerCpuArray::<_, u64>::try_from(self.map("counted")?).map_err(|_| broken("map", "counted"))?;
        Ok(map.get(&0, 0).map_err(unwritten)?.iter().sum())
    }

    /// Drives with `generator`, `repeat` times, frames that come by the interface with this index of the namespace that
    /// this thread is in. Gives nanoseconds per run, and leaves in `generator` how far it has come.
    ///
    /// # Errors
    /// The kernel refused; it does so where there is no such interface.
    pub fn drive(
        &mut self,
        kind: Kind,
        generator: &mut Generator,
        interface: u32,
        repeat: u32,
    ) -> Result<u32, DriveError> {
        self.generator()?.set(0, *generator, 0).map_err(unwritten)?;
        let data = frame(generator);
        let context = context(kind, interface, generator.length);
        let trial = Trial { data, context: &context, repeat, live: false };
        let [_, driver, _] = kind.names();
        let program = self.program(driver)?.as_fd();
        let (_, nanoseconds) = sys::trial(program, &trial).map_err(failed("BPF_PROG_TEST_RUN"))?;
        *generator = self.generator()?.get(&0, 0).map_err(unwritten)?;
        Ok(nanoseconds)
    }

    /// Sends `count` frames of `generator` by the interface with the index `generator.target` of the namespace that this
    /// thread is in. Gives nanoseconds per frame; whether the interface took them, nobody says.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn send(&mut self, generator: &mut Generator, count: u32) -> Result<u32, DriveError> {
        self.generator()?.set(0, *generator, 0).map_err(unwritten)?;
        let trial = Trial { data: frame(generator), context: &[], repeat: count, live: true };
        let program = self.program("generate")?.as_fd();
        let (_, nanoseconds) =
            sys::trial(program, &trial).map_err(failed("BPF_PROG_TEST_RUN of live frames"))?;
        *generator = self.generator()?.get(&0, 0).map_err(unwritten)?;
        Ok(nanoseconds)
    }

    /// Sets the numbers that flows are sampled from.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn sample(&mut self, samples: impl Iterator<Item = u32>) -> Result<(), DriveError> {
        let map = self.ebpf.map_mut("samples").ok_or_else(|| broken("map", "samples"))?;
        let mut map = Array::<_, u32>::try_from(map).map_err(|_| broken("map", "samples"))?;
        (0..SAMPLES as u32)
            .zip(samples)
            .try_for_each(|(index, flow)| map.set(index, flow, 0))
            .map_err(unwritten)
    }

    fn generator(&mut self) -> Result<Array<&mut MapData, Generator>, DriveError> {
        let map = self.ebpf.map_mut("generator").ok_or_else(|| broken("map", "generator"))?;
        Array::try_from(map).map_err(|_| broken("map", "generator"))
    }

    fn map(&self, name: &str) -> Result<&Map, DriveError> {
        self.ebpf.map(name).ok_or_else(|| broken("map", name))
    }

    fn program(&self, name: &str) -> Result<&ProgramFd, DriveError> {
        let program = self.ebpf.program(name).ok_or_else(|| broken("program", name))?;
        program.fd().map_err(|_| broken("program", name))
    }
}

/// The start of a program's context, as a test run takes it.
fn context(kind: Kind, interface: u32, length: u32) -> Vec<u8> {
    let (size, place) = match kind {
        Kind::Tc => (SKB_INTERFACE + 4, SKB_INTERFACE),
        // The whole of it.
        Kind::Xdp => (XDP_INTERFACE + 12, XDP_INTERFACE),
    };
    let mut context = vec![0; size];
    context[place..place + 4].copy_from_slice(&interface.to_ne_bytes());
    if kind == Kind::Xdp {
        context[XDP_END..XDP_END + 4].copy_from_slice(&length.to_ne_bytes());
    }
    context
}

/// The bytes of its frames.
fn frame(generator: &Generator) -> &[u8] {
    let data = bytemuck::bytes_of(&generator.frame);
    data.get(..generator.length as usize).unwrap_or(data)
}

fn broken(what: &'static str, name: &str) -> DriveError {
    LoadError::Broken { what, name: name.to_owned() }.into()
}

fn failed(call: &'static str) -> impl FnOnce(io::Error) -> DriveError {
    move |source| DriveError::Syscall { call, source }
}

fn unwritten(error: aya::maps::MapError) -> DriveError {
    DriveError::Syscall { call: "access to a map of the driver", source: io::Error::other(error) }
}
