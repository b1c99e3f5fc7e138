//! Session affinity: the endpoint that a client had last (B62 to B66).
//!
//! What is remembered is one word, and whoever replaces it exchanges it: of two CPUs that open the first connections of
//! a client at once, one has chosen, and the other takes what was chosen. There may be no room for a memory; the
//! connection is opened all the same.

use lb_common::{Address, AffinityWord, Reason, Slot};

use super::{Choice, Chosen, Pick, draw, serving};
use crate::env::{AffinityRef, BackendRef, Env, Inserted};

/// Chooses the endpoint that the client had last, if that is in the scope that applies (B65) and the client has opened a
/// connection to the Service port within the timeout (B64); else another one, which is remembered.
///
/// A segment from the middle of an unknown connection opens none. It goes to the endpoint that the client had last,
/// however long ago: that is where the connection leads, unless it is older than this memory. Only without one it is
/// placed by its hash, like every other such segment; and that is a guess, and not worth remembering.
#[inline(always)]
pub fn stick<A: Address, E: Env<A>>(env: &E, pick: Pick, choice: &mut Choice<A>) -> Result<Chosen, Reason> {
    let served = serving(env, choice)?;
    let entry = env.affinity(&choice.memory);
    // No backend has the id 0.
    let word = entry.map_or(AffinityWord(0), AffinityRef::load);
    let known = recall(env, word, choice);
    if pick != Pick::Next {
        if !known {
            choice.slot = draw(env, &served, pick)?;
        }
        return Ok(Chosen::Kept);
    }
    let now = env.now();
    let next = if known && !word.is_over(served.affinity, now) {
        word.at(now)
    } else {
        choice.slot = draw(env, &served, pick)?;
        AffinityWord::new(choice.slot.backend, choice.slot.generation, now)
    };
    let lost = match entry {
        // An element that was recycled for another client since it was found: that one may lose its memory.
        Some(entry) => word != next && !entry.exchange(word, next),
        None => env.insert_affinity(&choice.memory, next) == Inserted::Exists,
    };
    if lost && let Some(entry) = env.affinity(&choice.memory) {
        recall(env, entry.load(), choice);
    }
    Ok(Chosen::Kept)
}

/// Makes the backend that `word` names the choice, if it is an endpoint that new connections may use in the scope that
/// applies.
#[inline(always)]
fn recall<A: Address, E: Env<A>>(env: &E, word: AffinityWord, choice: &mut Choice<A>) -> bool {
    let Some(backend) = env.backend_record(word.backend()) else {
        return false;
    };
    let (is, id) = (backend.word(), word.backend());
    // Its id may be another's by now, and so may the element in which it was remembered.
    let ours = word.is_of(is.generation()) && backend.service() == choice.memory.service;
    let usable = ours && is.has(choice.scope);
    if usable {
        let (addr, port) = (backend.addr(), backend.port());
        choice.slot = Slot { addr, port, pad: [0; 2], backend: id, generation: is.generation() };
    }
    usable
}
