//! How many alerts there are of what, for charts and lists of the most frequent: one walk over an index that holds all
//! that is counted.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::alerts::Filter;
use super::{AlertQuery, Bar, Count, Figures, StoreError, outbox};
use crate::alert::Level;
use crate::clock::Timestamp;

/// The most frequent values of a kind that are told.
const TOP: usize = 10;

/// Counts what answers the query, in `bars` spans of the same length from the first to the last moment.
pub(super) fn count(
    connection: &Connection,
    query: &AlertQuery,
    now: Timestamp,
    bars: usize,
) -> Result<Figures, StoreError> {
    let since = match query.since {
        Some(since) => since,
        None => oldest(connection)?.unwrap_or(now),
    };
    let until = query.until.unwrap_or(now).max(since);
    let bars = bars.max(1);
    let width = (until.0.saturating_sub(since.0) / i64::try_from(bars).unwrap_or(i64::MAX)).saturating_add(1);
    let mut figures = Figures { since, until, ..Figures::default() };
    figures.bars = (0..bars).map(|n| Bar { from: bar_start(since, width, n), levels: [0; 5] }).collect();
    let filter = Filter::new(&AlertQuery { before: None, ..query.clone() });
    let mut select = connection.prepare_cached(&format!(
        "SELECT time, level, rule, username, namespace, cluster, verb FROM {} WHERE 1{}",
        table(query),
        filter.sql
    ))?;
    let mut rows = select.query(params_from_iter(filter.values))?;
    let mut tallies: [Tally; 5] = Default::default();
    while let Some(row) = rows.next()? {
        let text = |column: usize| row.get_ref(column).map(|value| value.as_str().ok());
        let level = text(1)?.and_then(|level| level.parse::<Level>().ok()).unwrap_or_default() as usize;
        let time: i64 = row.get(0)?;
        // What is dated after now stands at its end.
        let at = usize::try_from(time.saturating_sub(since.0) / width).unwrap_or(0).min(bars - 1);
        figures.bars[at].levels[level] += 1;
        figures.levels[level] += 1;
        figures.total += 1;
        for (tally, column) in tallies.iter_mut().zip(2..) {
            if let Some(value) = text(column)? {
                tally.add(value);
            }
        }
    }
    let [rules, users, namespaces, clusters, verbs] = tallies.map(Tally::top);
    figures.rules = rules.into_iter().map(|rule| titled(connection, rule)).collect::<Result<_, _>>()?;
    (figures.users, figures.namespaces, figures.clusters, figures.verbs) = (users, namespaces, clusters, verbs);
    Ok(figures)
}

/// Free text is looked for in the bodies, which stand in no index: where nothing else narrows the alerts, the way through
/// an index to each of them would only be longer.
fn table(query: &AlertQuery) -> &'static str {
    let narrowed = query.since.is_some()
        || [&query.rule, &query.cluster, &query.namespace, &query.object].iter().any(|value| value.is_some());
    let searched = query.text.as_ref().is_some_and(|text| !text.is_empty());
    if searched && !narrowed { "alerts NOT INDEXED" } else { "alerts" }
}

fn bar_start(since: Timestamp, width: i64, n: usize) -> Timestamp {
    Timestamp(since.0.saturating_add(width.saturating_mul(i64::try_from(n).unwrap_or(i64::MAX))))
}

fn oldest(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let mut select = connection.prepare_cached("SELECT min(time) FROM alerts")?;
    let time: Option<i64> = select.query_row([], |row| row.get(0))?;
    Ok(time.map(Timestamp))
}

/// Adds the title that the rule's newest alert bears.
fn titled(connection: &Connection, mut rule: Count) -> Result<Count, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT body FROM alerts WHERE rule = ?1 ORDER BY time DESC, id DESC LIMIT 1")?;
    let body: Option<String> = select.query_row([&rule.value], |row| row.get(0)).optional()?;
    rule.title = body.map(|body| outbox::alert(&body)).transpose()?.map(|alert| alert.rule.title.clone());
    Ok(rule)
}

/// How often each value came.
#[derive(Default)]
struct Tally(HashMap<Box<str>, u64, foldhash::fast::RandomState>);

impl Tally {
    fn add(&mut self, value: &str) {
        match self.0.get_mut(value) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(value.into(), 1)),
        }
    }

    /// The most frequent, the most frequent first; of equals the first by name.
    fn top(self) -> Vec<Count> {
        let mut counts: Vec<_> =
            self.0.into_iter().map(|(value, count)| Count { value: value.into(), count, title: None }).collect();
        counts.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
        counts.truncate(TOP);
        counts
    }
}
