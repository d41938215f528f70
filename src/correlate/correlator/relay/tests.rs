//! Shares against one correlator that holds everything.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::super::{Change, Limits};
use super::*;
use crate::alert::{self, Kind, Status};
use crate::rule::load::load_text;

const SECOND: i64 = 1_000_000;
const LATENESS: Duration = Duration::from_secs(30);
/// How far time goes at once where nothing happens.
const STEP: Duration = Duration::from_secs(10);

/// Every type, by different groups; one made of others, over all groups.
fn rules() -> Arc<RuleSet> {
    let head = "logsource: {product: kubernetes, service: audit}";
    let rule = |id: &str, verb: &str| {
        format!("title: {id}\nid: {id}\nlevel: low\n{head}\ndetection: {{s: {{verb: {verb}}}, condition: s}}\n---\n")
    };
    let correlation =
        |id: &str, text: &str| format!("title: {id}\nid: {id}\nname: {id}\ncorrelation: {{{text}}}\n---\n");
    let by_user = "group-by: [user.username], timespan: 60s";
    let by_object = "group-by: [objectRef.uid], timespan: 60s";
    let text = [
        rule("base", "get"),
        rule("other", "list"),
        correlation("count", &format!("type: event_count, rules: [base], {by_user}, condition: {{gte: 3}}")),
        correlation("lists", &format!("type: event_count, rules: [other], {by_object}, condition: {{gte: 2}}")),
        correlation(
            "values",
            &format!("type: value_count, rules: [base, other], {by_user}, condition: {{field: objectRef.uid, gte: 3}}"),
        ),
        correlation("both", &format!("type: temporal, rules: [base, other], {by_object}")),
        correlation("ordered", &format!("type: temporal_ordered, rules: [base, other], {by_user}")),
        correlation(
            "sum",
            &format!("type: value_sum, rules: [base], {by_object}, condition: {{field: number, gte: 20}}"),
        ),
        correlation(
            "spread",
            "type: value_count, rules: [count], timespan: 300s, condition: {field: user.username, gte: 2}",
        ),
        correlation(
            "mixed",
            "type: temporal, rules: [count, other], group-by: [user.username], timespan: 120s, generate: true",
        ),
        correlation("story", "type: temporal, rules: [count, lists], timespan: 300s, generate: true"),
    ]
    .concat();
    let loaded = load_text(Path::new("t.yml"), text.trim_end().trim_end_matches("---"));
    assert!(!loaded.has_errors(), "{:?}", loaded.findings);
    Arc::new(RuleSet::compile(loaded.rules, Duration::from_secs(60)))
}

#[derive(Clone, Debug)]
struct Step {
    rule: bool,
    user: u8,
    object: u8,
    second: i64,
    late: i64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<bool>(), 0_u8..4, 0_u8..5, 0_i64..20, 0_i64..25);
    let step = step.prop_map(|(rule, user, object, second, late)| Step { rule, user, object, second, late });
    prop::collection::vec(step, 1..80)
}

fn matches(steps: &[Step]) -> Vec<Match> {
    let mut second = 1_000;
    let one = |(n, step): (usize, &Step)| {
        second += step.second;
        let request = n as u64 + 1;
        Match {
            rule: if step.rule { "base" } else { "other" }.into(),
            cluster: "k".into(),
            source: "s".into(),
            // No two at one time, whose order would be the requests'.
            time: Timestamp((second - step.late) * SECOND + i64::try_from(n).unwrap()),
            delivery: request * 10,
            request,
            fields: Arc::new(BTreeMap::from([
                ("user.username".into(), vec![json!(format!("u{}", step.user))]),
                ("objectRef.uid".into(), vec![json!(format!("o{}", step.object))]),
                ("number".into(), vec![json!(request % 11)]),
            ])),
            audit_id: Arc::default(),
            shown: Shown::default().into(),
        }
        .showing(|shown| shown.event.audit_id = format!("a{request}"))
    };
    steps.iter().enumerate().map(one).collect()
}

/// What became of each alert in the end.
#[derive(Default, Debug, PartialEq)]
struct Told(BTreeMap<String, (Said, Vec<alert::Step>)>);

/// Rule, group, count, first and last match, and whether it has ended.
type Said = (String, String, u64, Timestamp, Timestamp, Status);

impl Told {
    fn note(&mut self, changes: Vec<Change>) {
        for Change { kind, alert } in changes {
            let status = if kind == Kind::Resolved { Status::Resolved } else { Status::Firing };
            let group = format!("{:?}", alert.group);
            let Alert { id, rule, count, first_seen, last_seen, timeline, .. } = alert;
            self.0.insert(id, ((rule.id.clone(), group, count, first_seen, last_seen, status), timeline));
        }
    }
}

impl Told {
    /// The story's episodes without their ids: it is told as soon as it holds, so it is named by the oldest of the episodes
    /// that were heard of by then, and shares are heard of in another order.
    fn named_where_they_must(&self) -> Vec<String> {
        let named = |(id, told): (&String, &(Said, Vec<alert::Step>))| {
            let id = if told.0.0 == "story" { "" } else { id };
            format!("{id} {told:?}")
        };
        let mut all: Vec<String> = self.0.iter().map(named).collect();
        all.sort_unstable();
        all
    }
}

fn limits() -> Limits {
    Limits { lateness: LATENESS, max_keys: 10_000 }
}

fn alone(rules: &Arc<RuleSet>, matches: &[Match], end: Timestamp) -> Told {
    let (mut correlator, mut told) = (Correlator::new(Arc::clone(rules), limits()), Told::default());
    for found in matches {
        correlator.take(std::slice::from_ref(found), None);
        told.note(correlator.drain());
    }
    correlator.advance(&"k".into(), end);
    told.note(correlator.drain());
    told
}

/// The shares, with what is on its way between them.
struct Shares {
    rules: Arc<RuleSet>,
    correlators: Vec<Correlator>,
    /// How far event time has come.
    time: Option<Timestamp>,
    told: Told,
}

impl Shares {
    fn new(rules: &Arc<RuleSet>, of: u32) -> Self {
        let share = |number| Correlator::new(Arc::clone(rules), limits()).of_share(Share { number, of });
        let correlators = (0..of).map(share).collect();
        Self { rules: Arc::clone(rules), correlators, time: None, told: Told::default() }
    }

    fn take(&mut self, found: &Match) {
        for share in shares_of_match(&self.rules, found, self.of()) {
            let correlator = &mut self.correlators[share as usize];
            correlator.begin(&found.cluster, found.time);
            correlator.take(std::slice::from_ref(found), None);
        }
    }

    /// Not at once, as [`Correlator::stride`] says: what is on its way between shares must not be overtaken.
    fn advance(&mut self, time: Timestamp) {
        loop {
            let next = self.time.map_or(time, |now| now.plus(STEP).min(time));
            self.time = Some(next);
            self.step(next);
            if next == time {
                return;
            }
        }
    }

    fn step(&mut self, time: Timestamp) {
        self.correlators.iter_mut().for_each(|correlator| correlator.advance(&"k".into(), time));
        // What one yields goes to the others, which may yield more.
        loop {
            let episodes: Vec<Episode> = self.correlators.iter_mut().flat_map(Correlator::drain_episodes).collect();
            if episodes.is_empty() {
                break;
            }
            for episode in episodes.iter().chain(&episodes) {
                for share in shares_of_episode(&self.rules, episode, self.of()) {
                    self.correlators[share as usize].begin(&episode.cluster, time);
                    self.correlators[share as usize].take_episode(episode);
                }
            }
        }
        let changes = self.correlators.iter_mut().flat_map(Correlator::drain).collect();
        self.told.note(changes);
    }

    fn of(&self) -> u32 {
        u32::try_from(self.correlators.len()).unwrap()
    }
}

/// What shares tell of these, and what one correlator does.
fn told_of(steps: &[Step], of: u32) -> [Vec<String>; 2] {
    let (rules, matches) = (rules(), matches(steps));
    let newest = matches.iter().map(|found| found.time).max().unwrap();
    let end = newest.plus(Duration::from_secs(3_600));
    let mut shares = Shares::new(&rules, of);
    let mut time = Timestamp::MIN;
    for found in &matches {
        shares.take(found);
        time = time.max(found.time);
        shares.advance(time);
    }
    // And on, as it is held back for a while.
    shares.advance(end.plus(Duration::from_secs(600)));
    [shares.told.named_where_they_must(), alone(&rules, &matches, end).named_where_they_must()]
}

/// The second episode of `o4` opens when the first is over, but not settled: a share hears of time after the match. It has
/// to be told then, and not when others may hear of it, or a late match gives it another name.
#[test]
fn an_episode_ends_in_its_time_though_another_waits_to_be_heard_of() {
    let list = |object, second, late| Step { rule: false, user: 0, object, second, late };
    let steps =
        [list(4, 0, 0), list(4, 12, 12), list(0, 66, 0), list(4, 0, 0), list(0, 11, 0), list(4, 3, 0), list(4, 0, 15)];
    let [shares, one] = told_of(&steps, 1);
    assert_eq!(shares, one);
}

proptest! {
    #[test]
    fn shares_find_what_one_finds(steps in steps(), of in 1_u32..13) {
        let [shares, one] = told_of(&steps, of);
        prop_assert_eq!(shares, one);
    }

    #[test]
    fn what_is_older_than_the_oldest_need_not_be_read_again(steps in steps(), cut in 0_usize..80) {
        let (rules, matches) = (rules(), matches(&steps));
        let cut = cut.min(matches.len());
        let end = matches.iter().map(|found| found.time).max().unwrap().plus(Duration::from_secs(3_600));
        let share = Share { number: 0, of: 1 };
        let new = || Correlator::new(Arc::clone(&rules), limits()).of_share(share);
        let (mut whole, mut firing, mut time) = (new(), BTreeMap::new(), Timestamp::MIN);
        let mut relayed = Vec::new();
        let take = |correlator: &mut Correlator, found: &Match, time: Timestamp| {
            correlator.begin(&found.cluster, time);
            correlator.take(std::slice::from_ref(found), None);
            correlator.advance(&"k".into(), time);
        };
        // As the log has it: matches and, where they came, episodes.
        let mut log: Vec<(Option<&Match>, Option<Episode>, Timestamp)> = Vec::new();
        for found in &matches[..cut] {
            time = time.max(found.time);
            take(&mut whole, found, time);
            log.push((Some(found), None, time));
            for episode in whole.drain_episodes() {
                whole.take_episode(&episode);
                log.push((None, Some(episode.clone()), time));
                relayed.push(episode);
            }
            for Change { kind, alert } in whole.drain() {
                if kind == Kind::Resolved { firing.remove(&alert.id); } else { firing.insert(alert.id.clone(), alert); }
            }
        }
        let oldest = whole.oldest().unwrap_or(Timestamp(i64::MAX));
        let of = |found: &Option<&Match>, episode: &Option<Episode>| {
            found.map_or_else(|| Timestamp(episode.as_ref().unwrap().time), |found| found.time)
        };
        let from = log.iter().position(|(found, episode, _)| of(found, episode) >= oldest).unwrap_or(log.len());
        let mut again = new();
        again.rebuild(Vec::new());
        for (found, episode, time) in &log[from..] {
            if let Some(found) = found { take(&mut again, found, *time); }
            if let Some(episode) = episode { again.take_episode(episode); }
            again.drain();
        }
        again.adopt(&firing.into_values().collect::<Vec<_>>());
        let mut told = [Told::default(), Told::default()];
        for (correlator, told) in [&mut whole, &mut again].into_iter().zip(&mut told) {
            let mut time = time;
            for found in &matches[cut..] {
                time = time.max(found.time);
                take(correlator, found, time);
                for episode in correlator.drain_episodes() { correlator.take_episode(&episode); }
                told.note(correlator.drain());
            }
            while time < end {
                time = time.plus(STEP);
                correlator.advance(&"k".into(), time);
                for episode in correlator.drain_episodes() { correlator.take_episode(&episode); }
                told.note(correlator.drain());
            }
        }
        let [whole, again] = told;
        prop_assert_eq!(again, whole);
    }
}
