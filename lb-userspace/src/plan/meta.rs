//! Names of Service ports as the tables hold them.

use std::sync::Arc;

use lb_common::{Port, Proto, ServiceMeta};

use crate::model::{Family, ServicePortKey};

/// The names of `key`, whose port number is `port`. Of a name longer than 64 bytes the first 64 remain; the model lets
/// no such name through.
#[must_use]
pub fn encode_meta(key: &ServicePortKey, port: u16) -> ServiceMeta {
    ServiceMeta {
        namespace: padded(&key.namespace),
        name: padded(&key.name),
        port_name: padded(&key.port_name),
        port: Port::new(port),
        proto: key.proto as u8,
        family: key.family.number(),
        pad: [0; 4],
    }
}

/// The key and the port number that `meta` names; `None` if it was not written by [`encode_meta`].
#[must_use]
pub fn decode_meta(meta: &ServiceMeta) -> Option<(ServicePortKey, u16)> {
    let family = Family::ALL.into_iter().find(|family| family.number() == meta.family)?;
    let key = ServicePortKey {
        namespace: text(&meta.namespace)?,
        name: text(&meta.name)?,
        port_name: text(&meta.port_name)?,
        proto: Proto::from_number(meta.proto)?,
        family,
    };
    Some((key, meta.port.number()))
}

fn padded(name: &str) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    bytes
}

fn text(bytes: &[u8; 64]) -> Option<Arc<str>> {
    let bytes = bytes.split(|byte| *byte == 0).next()?;
    Some(std::str::from_utf8(bytes).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b11_names_survive_the_tables() {
        let key = ServicePortKey {
            namespace: "default".into(),
            name: "n".repeat(63).into(),
            port_name: "".into(),
            proto: Proto::Udp,
            family: Family::V6,
        };
        assert_eq!(decode_meta(&encode_meta(&key, 53)), Some((key, 53)));
    }

    #[test]
    fn foreign_bytes_name_nothing() {
        let key = ServicePortKey {
            namespace: "a".into(),
            name: "b".into(),
            port_name: "c".into(),
            proto: Proto::Tcp,
            family: Family::V4,
        };
        let good = encode_meta(&key, 80);
        assert_eq!(decode_meta(&ServiceMeta { name: [0xff; 64], ..good }), None);
        assert_eq!(decode_meta(&ServiceMeta { proto: 1, ..good }), None);
        assert_eq!(decode_meta(&ServiceMeta { family: 5, ..good }), None);
    }
}
