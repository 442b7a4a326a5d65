//! A sorted map of which many versions live at once: a copy costs next to nothing, and a change of one entry what a few entries cost.
//!
//! Entries stand in pieces, and versions share all pieces that are the same in both.

use std::{borrow::Borrow, cmp::Ordering, fmt, mem, ops::Index, sync::Arc};

/// Entries of one piece at most.
const PIECE: usize = 64;

/// The map.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    /// In order, none of them empty.
    pieces: Arc<Vec<Piece<K, V>>>,
    len: usize,
}

type Piece<K, V> = Arc<Vec<(K, V)>>;

impl<K, V> SharedMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.pieces.iter().flat_map(|piece| piece.iter()).map(|(key, value)| (key, value))
    }

    /// All keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The key that comes first.
    pub fn first_key(&self) -> Option<&K> {
        self.keys().next()
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    /// What stands under a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (piece, Ok(at)) = self.place(key) else { return None };
        Some(&self.pieces.get(piece)?.get(at)?.1)
    }

    /// Whether something stands under a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The piece where a key belongs, and where it is in that, or would be.
    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
    {
        let begins_before = |piece: &Piece<K, V>| {
            piece.first().is_some_and(|(first, _)| first.borrow().cmp(key) != Ordering::Greater)
        };
        let piece = self.pieces.partition_point(begins_before).saturating_sub(1);
        let Some(entries) = self.pieces.get(piece) else { return (0, Err(0)) };
        (piece, entries.binary_search_by(|(other, _)| other.borrow().cmp(key)))
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// Puts a value under a key, and gives back what stood there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (piece, at) = self.place(&key);
        let pieces = Arc::make_mut(&mut self.pieces);
        let Some(entries) = pieces.get_mut(piece).map(Arc::make_mut) else {
            pieces.push(Arc::new(vec![(key, value)]));
            self.len += 1;
            return None;
        };
        match at {
            Ok(at) => Some(mem::replace(&mut entries[at].1, value)),
            Err(at) => {
                entries.insert(at, (key, value));
                self.len += 1;
                if entries.len() > PIECE {
                    let rest = entries.split_off(PIECE / 2);
                    pieces.insert(piece + 1, Arc::new(rest));
                }
                None
            }
        }
    }

    /// Takes out what stands under a key.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (piece, Ok(at)) = self.place(key) else { return None };
        let pieces = Arc::make_mut(&mut self.pieces);
        let entries = Arc::make_mut(&mut pieces[piece]);
        let (_, value) = entries.remove(at);
        let left = entries.len();
        self.len -= 1;
        if left == 0 {
            pieces.remove(piece);
        } else if let Some(next) = pieces.get(piece + 1)
            && left + next.len() <= PIECE / 2
        {
            let next = pieces.remove(piece + 1);
            Arc::make_mut(&mut pieces[piece]).extend(next.iter().cloned());
        }
        Some(value)
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { pieces: Arc::default(), len: 0 }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for SharedMap<K, V> {
    type Output = V;

    /// As of every map: who is not sure that a key is there asks by [`SharedMap::get`].
    fn index(&self, key: &Q) -> &V {
        let (piece, at) = self.place(key);
        &self.pieces[piece][at.unwrap_or(usize::MAX)].1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Pieces that one version has and the other has not.
    fn own(one: &SharedMap<u32, u32>, other: &SharedMap<u32, u32>) -> usize {
        let is_shared =
            |piece: &&Piece<u32, u32>| other.pieces.iter().any(|it| Arc::ptr_eq(it, piece));
        one.pieces.len() - one.pieces.iter().filter(is_shared).count()
    }

    #[test]
    fn it_holds_what_a_map_holds_and_a_version_stays_as_it_was() {
        let (mut map, mut model) = (SharedMap::default(), BTreeMap::new());
        let mut seed = 7_u64;
        let mut draw = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            u32::try_from((seed >> 33) % below).unwrap_or_default()
        };
        for round in 0..40_000_u32 {
            let (key, before) =
                (draw(3_000), (round % 997 == 0).then(|| (map.clone(), model.clone())));
            // It grows, shrinks to almost nothing, and grows again.
            let grows = (round / 10_000) % 2 == 0;
            if draw(10) < if grows { 8 } else { 1 } {
                assert_eq!(map.insert(key, round), model.insert(key, round));
            } else {
                assert_eq!(map.remove(&key), model.remove(&key));
            }
            assert_eq!(map.get(&key), model.get(&key));
            assert_eq!(map.len(), model.len());
            if let Some((map, model)) = before {
                assert!(map.iter().eq(model.iter()));
            }
        }
        assert!(map.iter().eq(model.iter()));
        assert!(map.pieces.iter().all(|piece| (1..=PIECE).contains(&piece.len())));
        for key in model.into_keys() {
            map.remove(&key);
        }
        assert!(map.is_empty() && map.pieces.is_empty() && map.first_key().is_none());
    }

    #[test]
    fn a_change_costs_a_piece_however_much_there_is() {
        let mut map = SharedMap::default();
        for key in 0..100_000 {
            map.insert(key, 0);
        }
        let before = map.clone();
        assert!(Arc::ptr_eq(&before.pieces, &map.pieces));
        map.insert(50_000, 1);
        assert_eq!((own(&map, &before), own(&before, &map)), (1, 1));
        map.remove(&7);
        map.insert(100_001, 0);
        assert!(own(&map, &before) <= 5, "{}", own(&map, &before));
    }
}
