//! Who has which frontend, where several Services want the same (B26).

use std::collections::{HashMap, HashSet};
use std::mem;
use std::net::IpAddr;

use lb_common::Proto;

use super::ServicePortKey;

/// Address, port and protocol: what the datapath tells Services apart by. A node port has the unspecified address.
pub(super) type Place = (IpAddr, u16, Proto);

/// A Service port that wants a frontend. The least one has it: a ClusterIP, which no other Service can take away by
/// naming it as an address of its own, then that of the oldest Service, by name among equals, so that the outcome
/// depends on neither the order of arrival nor on what was there before.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Claim {
    /// Whether it is none for a ClusterIP.
    pub(super) outside: bool,
    pub(super) created: Option<String>,
    pub(super) key: ServicePortKey,
}

/// All claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_place: HashMap<Place, Vec<Claim>>,
    /// Places that changed hands.
    moved: HashSet<Place>,
}

impl Claims {
    /// Who has `place`.
    pub(super) fn owner(&self, place: &Place) -> Option<&ServicePortKey> {
        self.by_place.get(place)?.first().map(|claim| &claim.key)
    }

    /// Adds a claim.
    pub(super) fn enter(&mut self, place: Place, claim: Claim) {
        // Most places are one Service's alone.
        let claims = self.by_place.entry(place).or_insert_with(|| Vec::with_capacity(1));
        if let Err(position) = claims.binary_search(&claim) {
            claims.insert(position, claim);
            if position == 0 {
                self.moved.insert(place);
            }
        }
    }

    /// Removes a claim.
    pub(super) fn withdraw(&mut self, place: &Place, claim: &Claim) {
        let Some(claims) = self.by_place.get_mut(place) else {
            return;
        };
        if let Ok(position) = claims.binary_search(claim) {
            claims.remove(position);
            if position == 0 {
                self.moved.insert(*place);
            }
        }
        if claims.is_empty() {
            self.by_place.remove(place);
        }
    }

    /// Everybody who wants a place that has changed hands since the last call: the winner, the loser, and those who
    /// still go without, and are told who has it.
    pub(super) fn take_moved(&mut self) -> impl Iterator<Item = &ServicePortKey> {
        let moved = mem::take(&mut self.moved).into_iter();
        let claims = moved.filter_map(|place| self.by_place.get(&place));
        claims.flatten().map(|claim| &claim.key)
    }
}
