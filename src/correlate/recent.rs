//! What was there lately: a map that forgets the oldest when it is full.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

/// Values by hash, at most so many; the one that was put in first goes first.
pub(super) struct Recent<V> {
    values: HashMap<u64, (u64, V), RandomState>,
    /// Keys with the number of their entry: of one that was taken out and put in again only the newest number counts.
    order: VecDeque<(u64, u64)>,
    entered: u64,
    most: usize,
    forgotten: u64,
}

impl<V> Recent<V> {
    pub(super) fn new(most: usize) -> Self {
        Self { values: HashMap::default(), order: VecDeque::new(), entered: 0, most, forgotten: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn get(&self, key: u64) -> Option<&V> {
        self.values.get(&key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.values.get_mut(&key).map(|(_, value)| value)
    }

    /// Puts a value in, as the newest.
    pub(super) fn insert(&mut self, key: u64, value: V) {
        self.entered += 1;
        self.values.insert(key, (self.entered, value));
        self.order.push_back((key, self.entered));
        while self.values.len() > self.most || self.order.len() > self.most.saturating_mul(2) {
            let Some((oldest, entry)) = self.order.pop_front() else { return };
            if self.values.get(&oldest).is_some_and(|(known, _)| *known == entry) {
                self.values.remove(&oldest);
                self.forgotten += 1;
            }
        }
    }

    /// How many values made way for newer ones since the last call.
    pub(super) fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// Takes a value out.
    pub(super) fn remove(&mut self, key: u64) -> Option<V> {
        self.values.remove(&key).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut recent = Recent::new(3);
        (0..4).for_each(|key| recent.insert(key, key));
        assert_eq!((0..4).filter_map(|key| recent.get(key).copied()).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((recent.take_forgotten(), recent.take_forgotten()), (1, 0));
    }

    #[test]
    fn what_comes_back_is_new_again() {
        let mut recent = Recent::new(3);
        (0..3).for_each(|key| recent.insert(key, key));
        assert_eq!(recent.remove(0), Some(0));
        recent.insert(0, 7);
        recent.insert(3, 3);
        assert_eq!(
            (recent.get(0), recent.get(1)),
            (Some(&7), None),
            "the entry of its first time must not take it along"
        );
    }

    #[test]
    fn coming_and_going_takes_no_more_room() {
        let mut recent = Recent::new(3);
        for key in 0..1_000 {
            recent.insert(key % 3, key);
            recent.remove(key % 3);
            assert!(recent.order.len() <= 6);
        }
        assert_eq!(recent.take_forgotten(), 0, "what was taken out did not have to make way");
    }
}
