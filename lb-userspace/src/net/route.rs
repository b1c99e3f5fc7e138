//! Which way packets leave.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::TryStreamExt as _;
use rtnetlink::packet_route::route::{RouteAttribute, RouteType};
use rtnetlink::{RouteMessageBuilder, new_connection};

use super::watch::NetError;

/// The interfaces by which the network namespace of the calling thread sends to each of `addresses`, by index. What has
/// no route, or stays on this machine, is left out.
///
/// # Errors
/// No socket can be opened.
pub fn ways(addresses: impl IntoIterator<Item = IpAddr>) -> Result<BTreeMap<IpAddr, u32>, NetError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, routes, _) = new_connection()?;
        let answering = tokio::spawn(connection);
        let mut ways = BTreeMap::new();
        for to in addresses {
            let bits = if to.is_ipv4() { 32 } else { 128 };
            let asked = RouteMessageBuilder::<IpAddr>::new().destination_prefix(to, bits);
            let Ok(asked) = asked else { continue };
            // Refused: there is no way.
            let found = routes.route().get(asked.build()).execute().try_next().await;
            let Ok(Some(route)) = found else { continue };
            let way = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            });
            if let Some(index) = way.filter(|_| route.header.kind == RouteType::Unicast) {
                ways.insert(to, index);
            }
        }
        answering.abort();
        Ok(ways)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_here_goes_no_way() {
        let here = ["127.0.0.1", "::1"].map(|addr| addr.parse().unwrap());
        assert!(ways(here).unwrap().is_empty());
    }
}
