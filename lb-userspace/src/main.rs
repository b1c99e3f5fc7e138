//! The binary `sluice`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lb_userspace::ctl::run()
}
