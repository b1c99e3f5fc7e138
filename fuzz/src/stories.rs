//! Stories: packets, changes of tables and time, played by the datapath and by the reference.

use lb_ebpf::testing::reference::{decode, play_any};

/// Plays the story that `input` tells.
///
/// # Panics
/// If datapath and reference disagree; the message is the shortest story that suffices.
pub fn run(input: &[u8]) {
    if let Err(fault) = play_any(decode(input)) {
        panic!("{fault}");
    }
}

/// Stories to begin with, one for each kind of event with each value of the byte behind it, after a connection.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let about = [0, 1, 3, 5, 7, 9, 15, 16, 17];
    let open = |client: u8| [0, 0, 0, client, 0, 0, 0, 0];
    let stories = about.iter().flat_map(|about| {
        (0..17).map(move |kind| {
            let mut story = vec![*about];
            story.extend((0..4).flat_map(open));
            for value in 0..12 {
                story.extend([kind, value, value / 2, value, 0]);
                story.extend([9, value, 0, 7, value, 0]);
            }
            story
        })
    });
    stories.collect()
}
