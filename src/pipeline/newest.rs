//! The newest event of each source and cluster: what shows that one of them has fallen silent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Timestamp;

/// Source and cluster label.
type Place = (Arc<str>, Arc<str>);

/// Event times by source and cluster label. Bounded as the labels are: by the configured sources, and by `max_clusters`.
#[derive(Debug, Default)]
pub struct Newest(Mutex<BTreeMap<Place, Timestamp>>);

impl Newest {
    /// Notes the newest event of a batch; gives the newest of all.
    pub fn note(&self, source: &Arc<str>, cluster: &Arc<str>, time: Timestamp) -> Timestamp {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = seen.entry((Arc::clone(source), Arc::clone(cluster))).or_insert(time);
        *newest = time.max(*newest);
        *newest
    }

    /// Source, cluster label and event time, in this order.
    #[must_use]
    pub fn all(&self) -> Vec<(Arc<str>, Arc<str>, Timestamp)> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|((source, cluster), time)| (Arc::clone(source), Arc::clone(cluster), *time)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_and_cluster_has_its_own_and_none_goes_back() {
        let newest = Newest::default();
        let note = |source: &str, cluster: &str, time| newest.note(&source.into(), &cluster.into(), Timestamp(time)).0;
        assert_eq!((note("webhook", "a", 5), note("webhook", "a", 3), note("file", "a", 1)), (5, 5, 1));
        note("webhook", "b", 2);
        let all = newest.all();
        let all: Vec<_> = all.iter().map(|(source, cluster, time)| (&**source, &**cluster, time.0)).collect();
        assert_eq!(all, [("file", "a", 1), ("webhook", "a", 5), ("webhook", "b", 2)]);
    }
}
