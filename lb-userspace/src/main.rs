//! The binary `sluice`.

use std::process::ExitCode;

use lb_userspace::{agent, ctl};

fn main() -> ExitCode {
    ctl::run(agent::run)
}
