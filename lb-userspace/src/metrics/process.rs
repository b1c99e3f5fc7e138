//! The agent as a process.

use procfs::process::Process;
use procfs::{ProcResult, ticks_per_second};

use super::families::Families;
use super::names::{
    PROCESS_CPU, PROCESS_FDS, PROCESS_MAX_FDS, PROCESS_RESIDENT, PROCESS_START, PROCESS_VIRTUAL,
};

/// Tells what `/proc` says of this process.
///
/// # Errors
/// `/proc` is not mounted.
pub(super) fn tell(families: &mut Families) -> ProcResult<()> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks = ticks_per_second() as f64;
    families.one(&PROCESS_CPU, (stat.utime + stat.stime) as f64 / ticks);
    families.one(&PROCESS_RESIDENT, (stat.rss * procfs::page_size()) as f64);
    families.one(&PROCESS_VIRTUAL, stat.vsize as f64);
    families.one(&PROCESS_FDS, process.fd_count()? as f64);
    if let procfs::process::LimitValue::Value(most) = process.limits()?.max_open_files.soft_limit {
        families.one(&PROCESS_MAX_FDS, most as f64);
    }
    let booted = procfs::boot_time_secs()? as f64;
    families.one(&PROCESS_START, booted + stat.starttime as f64 / ticks);
    Ok(())
}
