//! The target `manifests` under the engine.

#![no_main]

use fuzz::manifests;

libfuzzer_sys::fuzz_target!(init: fuzz::plant(manifests::seeds), |input: &[u8]| manifests::run(input));
