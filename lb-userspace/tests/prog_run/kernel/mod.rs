//! The object in the kernel: unpinned maps, loaded programs, nothing attached.

mod contents;

use std::collections::BTreeMap;
use std::{fs, io};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use aya::programs::{
    Program, ProgramError, RawTracePoint, RawTracePointRunOptions, SchedClassifier, TestRun, TestRunOptions,
    Xdp, XdpMode,
};
use aya::{Ebpf, EbpfLoader, Pod};
use lb_common::maps::{self, Sizing};
use lb_common::{
    Addr4, Addr6, BackendStats, EventRecord, FlowKey, FlowValue, POD_SHORTCUT, Point, Reason, ServiceStats,
    StateRecord, SweepReport, UPLINK_XDP,
};
use lb_ebpf::pkt::Pkt as _;
use lb_ebpf::testing::bytes::Bytes;
use lb_ebpf::testing::fixtures::Held;
use lb_ebpf::testing::world::{Counters, Sizes};
use lb_ebpf::verdict::Verdict;
use lb_userspace::bpf::map;
use lb_userspace::bpf::pin::PinDir;
use lb_userspace::bpf::probe;

/// Service ports and backends that the maps have room for.
const ROOM: u32 = 64;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes of an Ethernet and an IPv6 header.
const HEADERS: usize = 54;

/// How a packet comes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Arrival {
    /// Index of the interface; 0: none in particular.
    pub(crate) interface: u32,
    /// Index of the interface by which it came to the node before it leaves; 0: it began here.
    pub(crate) came_by: u32,
    /// Of an aggregate: payload of each packet that it is to be cut into; else 0.
    pub(crate) segment: u32,
}

impl Arrival {
    /// As this one does.
    pub(crate) fn of(packet: &Bytes) -> Self {
        Self { interface: packet.ifindex(), came_by: packet.came_by(), segment: packet.segment() }
    }

    /// A `struct xdp_md` of a frame of so many bytes that says so.
    fn frame(self, length: usize) -> Result<[u8; 24]> {
        const END: usize = 4;
        const IFINDEX: usize = 12;
        let mut context = [0; 24];
        context[END..END + 4].copy_from_slice(&u32::try_from(length)?.to_ne_bytes());
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&self.interface.to_ne_bytes());
        Ok(context)
    }

    /// The start of a `struct __sk_buff` that says so.
    fn context(self) -> [u8; 180] {
        const INGRESS_IFINDEX: usize = 36;
        const IFINDEX: usize = 40;
        const GSO_SIZE: usize = 176;
        let mut context = [0; 180];
        context[INGRESS_IFINDEX..INGRESS_IFINDEX + 4].copy_from_slice(&self.came_by.to_ne_bytes());
        context[IFINDEX..IFINDEX + 4].copy_from_slice(&self.interface.to_ne_bytes());
        context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&self.segment.to_ne_bytes());
        context
    }
}

/// Arrays that are looked at around every packet, in memory: a system call for each record would take minutes.
struct Mapped {
    services: map::Array<ServiceStats>,
    backends: map::Array<BackendStats>,
    marks: map::Array<u64>,
}

impl Mapped {
    /// Those of `ebpf`, which are pinned until they are open.
    fn of(ebpf: &mut Ebpf) -> Result<Self> {
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let pins = PinDir::new(format!("/sys/fs/bpf/sluice-fixtures-{thread}"));
        let open = |ebpf: &mut Ebpf| {
            for name in [maps::SERVICE_STATS, maps::BACKEND_STATS, maps::MARKED] {
                let path = pins.map(name);
                fs::create_dir_all(path.parent().unwrap_or(&path))?;
                ebpf.map_mut(name).with_context(|| format!("no map {name}"))?.pin(&path)?;
            }
            Ok(Self {
                services: map::Array::open(&pins, maps::SERVICE_STATS)?,
                backends: map::Array::open(&pins, maps::BACKEND_STATS)?,
                marks: map::Array::open(&pins, maps::MARKED)?,
            })
        };
        let opened = open(ebpf);
        fs::remove_dir_all(pins.root())?;
        opened
    }

    /// Empties all of them.
    fn clear(&self) -> Result<()> {
        for id in 0..ROOM {
            self.services.set(id, &ServiceStats::default())?;
            self.backends.set(id, &BackendStats::default())?;
        }
        for index in 0..self.marks.len() {
            if self.marks.get(index)? != 0 {
                self.marks.set(index, &0)?;
            }
        }
        Ok(())
    }
}

/// The object, loaded.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    mapped: Mapped,
    /// Whether the kernel has `BPF_F_IPV6`; it is asked once, as that takes a trial program.
    csum_ipv6: bool,
    /// Up to when what rates allow has been held, by the programs' clock, nanoseconds.
    held: u64,
}

/// The object that `cargo xtask test prog` has built.
pub(crate) fn object() -> Result<Vec<u8>> {
    let path = std::env::var("SLUICE_EBPF_OBJECT").context("this test is run by `cargo xtask test prog`")?;
    fs::read(&path).with_context(|| format!("read {path}"))
}

/// Entries of the map `name`.
fn entries(name: &str, sizes: Sizes) -> Result<u32> {
    Ok(match name {
        maps::FLOWS4 | maps::FLOWS6 => u32::try_from(sizes.main)?,
        maps::FLOWS_LRU4 | maps::FLOWS_LRU6 => u32::try_from(sizes.lru)?,
        maps::SLOTS4 | maps::SLOTS6 => 2 * ROOM,
        // An LRU table keeps some elements ready on each CPU.
        maps::AFFINITY => 1024,
        _ => ROOM,
    })
}

impl Kernel {
    /// Makes the maps and loads the programs.
    pub(crate) fn load(sizes: Sizes) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.btf(None).allow_unsupported_maps();
        for spec in maps::ALL.iter().filter(|spec| spec.sizing != Sizing::Fixed) {
            loader.map_max_entries(spec.name, entries(spec.name, sizes)?);
        }
        let mut ebpf = loader.load(&object()?).context("make the maps")?;
        let others = [UPLINK_XDP, POD_SHORTCUT, "sweep4", "sweep6"];
        for name in Point::ALL.map(Point::program).into_iter().chain(others) {
            let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
            match program {
                Program::SchedClassifier(program) => program.load(),
                Program::RawTracePoint(program) => program.load(),
                Program::Xdp(program) => program.load(),
                _ => bail!("{name} is of an unexpected type"),
            }
            .with_context(|| format!("load {name}"))?;
        }
        let mapped = Mapped::of(&mut ebpf)?;
        Ok(Self { ebpf, mapped, csum_ipv6: probe::csum_ipv6_flag()?, held: 0 })
    }

    /// The same for trials of XDP, in the network namespace of this thread, which must be the test's own: the program stands on
    /// `lo` there. One that stands nowhere has the kernel make room for it in a jump table for each trial, and each time wait
    /// until no processor uses the old one.
    pub(crate) fn load_early(sizes: Sizes) -> Result<Self> {
        let mut kernel = Self::load(sizes)?;
        let program: &mut Xdp = kernel.ebpf.program_mut(UPLINK_XDP).context("no such program")?.try_into()?;
        program.attach("lo", XdpMode::Skb)?;
        Ok(kernel)
    }

    fn map(&self, name: &str) -> Result<&Map> {
        self.ebpf.map(name).with_context(|| format!("no map {name}"))
    }

    fn map_mut(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))
    }

    fn array<T: Pod>(&mut self, name: &str) -> Result<Array<&mut MapData, T>> {
        Ok(Array::try_from(self.map_mut(name)?)?)
    }

    fn hash<K: Pod, V: Pod>(&mut self, name: &str) -> Result<HashMap<&mut MapData, K, V>> {
        Ok(HashMap::try_from(self.map_mut(name)?)?)
    }

    /// Writes `contents` from index 0 on.
    fn write<T: Pod>(&mut self, name: &str, contents: &[T]) -> Result<()> {
        let mut map = self.array::<T>(name)?;
        for (index, record) in (0..).zip(contents) {
            map.set(index, record, 0)?;
        }
        Ok(())
    }

    /// What the programs tell each other.
    pub(crate) fn state(&self) -> Result<StateRecord> {
        Ok(Array::<_, StateRecord>::try_from(self.map(maps::STATE)?)?.get(&0, 0)?)
    }

    /// The records of events from number `from` on.
    pub(crate) fn events(&self, from: u64) -> Result<Vec<EventRecord>> {
        let event = |number| self.event(number)?.with_context(|| format!("record {number} is not there"));
        (from..self.state()?.events).map(event).collect()
    }

    /// The record with this number, if it is there; copied by the kernel, as nobody may who wants it whole for certain.
    pub(crate) fn event(&self, number: u64) -> Result<Option<EventRecord>> {
        let events = Array::<_, EventRecord>::try_from(self.map(maps::EVENTS)?)?;
        let index = u32::try_from(number % u64::from(maps::EVENT_RECORDS))?;
        let (record, after) = (events.get(&index, 0)?, events.get(&index, 0)?);
        let whole = |record: &EventRecord| record.sequence == number + 1;
        Ok(Some(record).filter(|record| whole(record) && whole(&after)))
    }

    /// What the flow tables hold.
    pub(crate) fn holds(&self) -> Result<Held> {
        let v4 = |name| self.flows::<Addr4>(name).map(|entries| entries.len());
        let v6 = |name| self.flows::<Addr6>(name).map(|entries| entries.len());
        let state = self.state()?;
        let embryonic =
            [0, 1].map(|family| StateRecord::embryonic(state.begun[family], state.settled[family]));
        Ok(Held {
            main: v4(maps::FLOWS4)? + v6(maps::FLOWS6)?,
            lru: v4(maps::FLOWS_LRU4)? + v6(maps::FLOWS_LRU6)?,
            embryonic: embryonic.iter().sum(),
        })
    }

    /// All entries of one flow table.
    pub(crate) fn flows<A>(&self, name: &str) -> Result<Vec<(FlowKey<A>, FlowValue<A>)>>
    where
        FlowKey<A>: Pod,
        FlowValue<A>: Pod,
    {
        let map = HashMap::<_, FlowKey<A>, FlowValue<A>>::try_from(self.map(name)?)?;
        Ok(map.iter().collect::<Result<_, _>>()?)
    }

    /// All counters.
    pub(crate) fn counters(&self) -> Result<Counters> {
        let reasons = PerCpuArray::<_, u64>::try_from(self.map(maps::REASONS)?)?;
        let Mapped { services, backends, .. } = &self.mapped;
        let mut counters = Counters::default();
        for reason in Reason::ALL {
            let count = reasons.get(&(*reason as u32), 0)?.iter().sum();
            if count != 0 {
                counters.reasons.insert(*reason, count);
            }
        }
        let note = |stats: &mut BTreeMap<u32, ServiceStats>, id, record| {
            if record != ServiceStats::default() {
                stats.insert(id, record);
            }
        };
        for id in 0..ROOM {
            note(&mut counters.services, id, services.get(id)?);
            note(&mut counters.backends, id, backends.get(id)?.traffic);
        }
        Ok(counters)
    }

    /// As [`Kernel::run_from`], by no interface in particular.
    pub(crate) fn run(&self, point: Point, packet: &mut Vec<u8>) -> Result<Option<Verdict>> {
        self.run_from(Arrival::default(), point, packet)
    }

    /// Runs a classifier over `packet`, which then is what it made of it. `None` if the kernel takes no packet of this
    /// length: it wants a whole network header.
    pub(crate) fn run_from(
        &self,
        arrival: Arrival,
        point: Point,
        packet: &mut Vec<u8>,
    ) -> Result<Option<Verdict>> {
        self.run_classifier(arrival, point.program(), packet)
    }

    /// The same with the classifier of this name.
    pub(crate) fn run_classifier(
        &self,
        arrival: Arrival,
        name: &str,
        packet: &mut Vec<u8>,
    ) -> Result<Option<Verdict>> {
        let program: &SchedClassifier = self.ebpf.program(name).context("no such program")?.try_into()?;
        let mut output = vec![0; packet.len() + 128];
        let context = arrival.context();
        let options = TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut output),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = match program.test_run(options) {
            Err(ProgramError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::InvalidInput && packet.len() < HEADERS =>
            {
                return Ok(None);
            }
            result => result?,
        };
        output.truncate(usize::try_from(result.data_size_out)?);
        *packet = output;
        Ok(Some(match result.return_value.cast_signed() {
            -1 => Verdict::Pass,
            2 => Verdict::Drop,
            7 => Verdict::Redirect,
            other => bail!("{name} returned {other}"),
        }))
    }

    /// Runs XDP of an uplink over `frame`, which then is what it made of it. `None` if the kernel takes no frame of this
    /// length: it wants a link-layer header.
    pub(crate) fn run_early(&self, arrival: Arrival, frame: &mut Vec<u8>) -> Result<Option<Verdict>> {
        let program: &Xdp = self.ebpf.program(UPLINK_XDP).context("no such program")?.try_into()?;
        if frame.len() < ETHERNET {
            return Ok(None);
        }
        let mut output = vec![0; frame.len() + 128];
        let context = arrival.frame(frame.len())?;
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut output),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = program.test_run(options)?;
        output.truncate(usize::try_from(result.data_size_out)?);
        *frame = output;
        Ok(Some(match result.return_value {
            1 => Verdict::Drop,
            2 => Verdict::Pass,
            3 => Verdict::Redirect,
            4 => Verdict::Route,
            other => bail!("{UPLINK_XDP} returned {other}"),
        }))
    }

    /// Runs the sweep of a family, 4 or 6, on the CPU `cpu`; one at a time.
    pub(crate) fn sweep(&self, family: u8, cpu: u32) -> Result<SweepReport> {
        let name = if family == 4 { "sweep4" } else { "sweep6" };
        let program: &RawTracePoint = self.ebpf.program(name).context("no such program")?.try_into()?;
        let options = RawTracePointRunOptions { cpu: Some(cpu), ..RawTracePointRunOptions::new() };
        let result = program.test_run(options)?;
        ensure!(result.return_value == 0, "{name} returned {}", result.return_value);
        Ok(Array::<_, SweepReport>::try_from(self.map(maps::SWEEP)?)?.get(&0, 0)?)
    }
}
