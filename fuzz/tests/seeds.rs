//! What the engine begins with, without the engine.

use fuzz::{manifests, packets, stories};

#[test]
fn seeds_are_fine() {
    manifests::seeds().iter().for_each(|seed| manifests::run(seed));
    packets::seeds().iter().step_by(7).for_each(|seed| packets::run(seed));
    stories::seeds().iter().for_each(|seed| stories::run(seed));
}
