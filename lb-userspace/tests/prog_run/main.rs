//! The real programs, run over socket buffers by the kernel: the fixtures of the host tests, and the pair protocol
//! under two CPUs and a running sweep. Needs root; run by `cargo xtask test prog`.

mod fixtures;
mod kernel;
mod node;
mod object;
mod shortcut;
mod stress;
