//! Small maps that are kept by the ten thousand.

use std::collections::BTreeMap;

/// A map in the order of its keys, without room to grow: a `BTreeMap` of one entry takes the memory of eleven.
#[derive(Debug)]
pub(super) struct Flat<K, V>(Box<[(K, V)]>);

impl<K: Ord, V> Flat<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let position = self.0.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        self.0.get(position).map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K, V> Default for Flat<K, V> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<K: Ord, V> From<BTreeMap<K, V>> for Flat<K, V> {
    fn from(map: BTreeMap<K, V>) -> Self {
        Self(map.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_it_was_made_of() {
        let map = BTreeMap::from([(3, 'c'), (1, 'a'), (2, 'b')]);
        let flat = Flat::from(map.clone());
        assert!(flat.iter().eq(&map));
        assert_eq!(
            [0, 1, 2, 3, 4].map(|key| flat.get(&key).copied()),
            [None, Some('a'), Some('b'), Some('c'), None]
        );
        assert!(!flat.is_empty() && Flat::<u8, u8>::default().is_empty());
    }
}
