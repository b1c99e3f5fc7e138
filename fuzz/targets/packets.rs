//! The target `packets` under the engine.

#![no_main]

use fuzz::packets;

libfuzzer_sys::fuzz_target!(init: fuzz::plant(packets::seeds), |input: &[u8]| packets::run(input));
