//! Sluice's user space: the agent and the command line, one library behind the one binary `sluice`.

pub mod status;
