//! Who has which frontend, where several Services want the same (B26).

use std::collections::HashMap;
use std::net::IpAddr;

use lb_common::Proto;

use super::ServicePortKey;

/// Address, port and protocol: what the datapath tells Services apart by.
pub(super) type Place = (IpAddr, u16, Proto);

/// A Service port that wants a frontend. The least one has it: that of the oldest Service, by name among equals, so
/// that the outcome depends on neither the order of arrival nor on what was there before.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Claim {
    pub(super) created: Option<String>,
    pub(super) key: ServicePortKey,
}

/// All claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_place: HashMap<Place, Vec<Claim>>,
}

impl Claims {
    /// Who has `place`.
    pub(super) fn owner(&self, place: &Place) -> Option<&ServicePortKey> {
        self.by_place.get(place)?.first().map(|claim| &claim.key)
    }

    /// Adds a claim, and names who has lost the place by it.
    pub(super) fn enter(&mut self, place: Place, claim: Claim) -> Option<ServicePortKey> {
        let claims = self.by_place.entry(place).or_default();
        match claims.binary_search(&claim) {
            Ok(_) => None,
            Err(position) => {
                claims.insert(position, claim);
                claims
                    .get(1)
                    .filter(|_| position == 0)
                    .map(|loser| loser.key.clone())
            }
        }
    }

    /// Removes a claim, and names who has the place from now on, if that is somebody else than before.
    pub(super) fn withdraw(&mut self, place: &Place, claim: &Claim) -> Option<ServicePortKey> {
        let claims = self.by_place.get_mut(place)?;
        let position = claims.binary_search(claim).ok()?;
        claims.remove(position);
        if claims.is_empty() {
            self.by_place.remove(place);
            return None;
        }
        claims
            .first()
            .filter(|_| position == 0)
            .map(|heir| heir.key.clone())
    }
}
