//! Small maps that are kept by the ten thousand.

use std::collections::BTreeMap;

/// A map in the order of its keys, without room to grow: a `BTreeMap` of one entry takes the memory of eleven.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Flat<K, V>(Vec<(K, V)>);

impl<K: Ord, V> Flat<K, V> {
    fn position(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        let position = self.position(key).ok()?;
        self.0.get(position).map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        match self.position(&key) {
            Ok(position) => self.0[position].1 = value,
            Err(position) => {
                self.0.reserve_exact(1);
                self.0.insert(position, (key, value));
            }
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Ok(position) = self.position(key) {
            self.0.remove(position);
            self.0.shrink_to_fit();
        }
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
        Self(Vec::new())
    }
}

impl<K: Ord, V> From<BTreeMap<K, V>> for Flat<K, V> {
    fn from(map: BTreeMap<K, V>) -> Self {
        let mut entries: Vec<_> = map.into_iter().collect();
        entries.shrink_to_fit();
        Self(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_it_was_made_of() {
        let map = BTreeMap::from([(3, 'c'), (1, 'a'), (2, 'b')]);
        let mut flat = Flat::from(map.clone());
        assert!(flat.iter().eq(&map));
        assert_eq!(
            [0, 1, 2, 3, 4].map(|key| flat.get(&key).copied()),
            [None, Some('a'), Some('b'), Some('c'), None]
        );
        flat.insert(0, 'z');
        flat.insert(2, 'y');
        flat.remove(&3);
        flat.remove(&3);
        assert!(flat.iter().eq([(&0, &'z'), (&1, &'a'), (&2, &'y')]));
        assert!(!flat.is_empty() && Flat::<u8, u8>::default().is_empty());
    }
}
