//! The target `stories` under the engine.

#![no_main]

use fuzz::stories;

libfuzzer_sys::fuzz_target!(init: fuzz::plant(stories::seeds), |input: &[u8]| stories::run(input));
