//! What `cargo xtask` is made of: one module per verb, and the lab that the demo and the tests share.

pub mod bench;
pub mod build;
pub mod compiler;
pub mod demo;
pub mod fuzz;
pub mod image;
pub mod kube;
pub mod lab;
pub mod lint;
pub mod machine;
pub mod matrix;
pub mod setup;
pub mod sh;
pub mod soak;
pub mod tally;
pub mod test;
pub mod titles;
pub mod transcript;
