//! Detection of one body: frame, project, index, match.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::compile::{KNOWN, RuleSet};
use super::evidence::Sight;
use super::excerpt::Excerpt;
use super::index::Candidates;
use super::predicate::{Answers, Case};
use super::shown::{Fields, Packed};
use super::{Rejected, Rejections, rejections};
use crate::clock::Timestamp;
use crate::event::frame::{Reason, Refusal, Reject, Taken, describe, frame_from, told_apart};
use crate::event::project::ProjectError;
use crate::event::{FrameError, Framed, Scratch, Val};
#[cfg(debug_assertions)]
use crate::rule::naive;

/// Clusters that are told apart in what one batch holds: a sender may invent one for every event.
const NAMED_MAX: usize = 1_000;

/// One rule was true of one delivered event: everything that correlation and an alert may need of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The rule's id.
    pub rule: Arc<str>,
    /// The event's cluster label.
    pub cluster: Arc<str>,
    /// The source that delivered it, by its name.
    pub source: Arc<str>,
    /// Event time (`stageTimestamp`).
    pub time: Timestamp,
    /// What was delivered: hash of auditID, stage, stageTimestamp and content.
    pub delivery: u64,
    /// What was requested: hash of auditID, requestReceivedTimestamp, user and URI.
    pub request: u64,
    /// The event's, as alerts show it.
    pub audit_id: Arc<str>,
    /// The values of every field that groups or counts this rule's matches; several where the path crosses an array.
    pub fields: Arc<Fields>,
    /// What alerts show of it.
    pub shown: Packed,
}

impl Match {
    /// The same, which shows something else.
    #[cfg(test)]
    pub(crate) fn showing(self, change: impl FnOnce(&mut super::shown::Shown)) -> Self {
        let mut shown = self.shown.open();
        shown.fields = Fields::clone(&self.fields);
        change(&mut shown);
        Self { audit_id: shown.event.audit_id.as_str().into(), shown: shown.into(), ..self }
    }
}

/// What was found in bodies; reused from one to the next.
#[derive(Debug, Default)]
pub struct Detected {
    /// Good events.
    pub events: u64,
    /// Those of them that were cut off, of which only what was left could be looked at.
    pub truncated: u64,
    /// Records of envelopes that are no audit events and need not be.
    pub skipped: u64,
    /// The newest `stageTimestamp` of those whose envelope names no cluster.
    pub newest: Option<Timestamp>,
    /// Those of which an envelope says which cluster they are from. Events of clusters beyond the bound have their labels
    /// too, but count with those that name none.
    pub named: BTreeMap<Arc<str>, Seen>,
    /// Matches, in the order of the events.
    pub matches: Vec<Match>,
    /// Pieces that were refused.
    pub rejects: Rejections,
}

/// How far [`Detected`] had come.
pub struct Mark {
    events: u64,
    truncated: u64,
    skipped: u64,
    newest: Option<Timestamp>,
    named: BTreeMap<Arc<str>, Seen>,
    matches: usize,
    rejects: rejections::Mark,
}

/// Events of one cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How many.
    pub events: u64,
    /// Their newest `stageTimestamp`.
    pub newest: Option<Timestamp>,
}

impl Detected {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.events = 0;
        self.truncated = 0;
        self.skipped = 0;
        self.newest = None;
        self.named.clear();
        self.matches.clear();
        self.rejects.clear();
    }

    /// How far it has come.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            events: self.events,
            truncated: self.truncated,
            skipped: self.skipped,
            newest: self.newest,
            named: self.named.clone(),
            matches: self.matches.len(),
            rejects: self.rejects.mark(),
        }
    }

    /// Forgets what came after a mark.
    pub fn back_to(&mut self, mark: Mark) {
        (self.events, self.truncated, self.skipped) = (mark.events, mark.truncated, mark.skipped);
        (self.newest, self.named) = (mark.newest, mark.named);
        self.matches.truncate(mark.matches);
        self.rejects.back_to(mark.rejects);
    }

    /// The matches found after a mark.
    pub fn matches_since(&mut self, mark: &Mark) -> &mut [Match] {
        &mut self.matches[mark.matches..]
    }

    /// What there is of each cluster; `own` is that of the events that name none.
    pub fn by_cluster<'d>(&'d self, own: &'d Arc<str>) -> impl Iterator<Item = (&'d Arc<str>, Seen)> {
        let named: u64 = self.named.values().map(|seen| seen.events).sum();
        let rest = Seen { events: self.events.saturating_sub(named), newest: self.newest };
        let rest = (rest.events > 0 || self.named.is_empty()).then_some((own, rest));
        rest.into_iter().chain(self.named.iter().map(|(cluster, seen)| (cluster, *seen)))
    }

    /// What was seen of a cluster, unless it is one too many.
    fn seen(&mut self, label: Arc<str>) -> Option<&mut Seen> {
        let has_room = self.named.len() < NAMED_MAX || self.named.contains_key(&label);
        has_room.then(|| self.named.entry(label).or_default())
    }

    /// The label for a name; made once for each.
    fn label(&self, name: &str) -> Arc<str> {
        self.named.get_key_value(name).map_or_else(|| name.into(), |(label, _)| Arc::clone(label))
    }
}

/// How the events of a body are labelled.
#[derive(Clone, Copy)]
struct Label<'c> {
    name: &'c Arc<str>,
    /// It holds whatever their envelopes say.
    is_certain: bool,
}

/// A worker's scratch: makes one pass over a body without allocating for events that match nothing.
#[derive(Debug, Default)]
pub struct Detector {
    scratch: Scratch,
    answers: Answers,
    candidates: Candidates,
}

impl Detector {
    /// Looks at every event of a body and adds what it finds to `found`. Its cluster is that of its envelope, or else
    /// `cluster`. An error means that the body as a whole is not what it should be; what was refused in it is in `found`
    /// nevertheless.
    pub fn body(
        &mut self,
        rules: &RuleSet,
        cluster: &Arc<str>,
        body: &[u8],
        found: &mut Detected,
    ) -> Result<(), FrameError> {
        self.lines(rules, cluster, body, 0, found)
    }

    /// Like [`Self::body`], of which it is known that all events are from this cluster, whatever their envelopes call it.
    pub fn body_of(
        &mut self,
        rules: &RuleSet,
        cluster: &Arc<str>,
        body: &[u8],
        found: &mut Detected,
    ) -> Result<(), FrameError> {
        self.pieces(rules, Label { name: cluster, is_certain: true }, body, 0, found)
    }

    /// Like [`Self::body`], for a block of lines that follows `lines_before` others.
    pub fn lines(
        &mut self,
        rules: &RuleSet,
        cluster: &Arc<str>,
        block: &[u8],
        lines_before: usize,
        found: &mut Detected,
    ) -> Result<(), FrameError> {
        self.pieces(rules, Label { name: cluster, is_certain: false }, block, lines_before, found)
    }

    fn pieces(
        &mut self,
        rules: &RuleSet,
        label: Label<'_>,
        block: &[u8],
        lines_before: usize,
        found: &mut Detected,
    ) -> Result<(), FrameError> {
        let framed = frame_from(block, lines_before, |piece, named| match piece {
            Framed::Event(bytes) => match named.filter(|_| !label.is_certain) {
                Some(name) => self.look_at_named(rules, name, bytes, found),
                None => self.look(rules, label.name, bytes, found),
            },
            Framed::First(bytes) => self.look_at_first(rules, label.name, bytes, found),
            Framed::Bad(reject) => {
                found.rejects.push(reject.reason.as_str(), || Rejected::from(&reject));
                Ok(0)
            }
        })?;
        found.truncated += framed.truncated;
        found.skipped += framed.skipped;
        Ok(())
    }

    /// Looks at one event.
    pub fn event(&mut self, rules: &RuleSet, cluster: &Arc<str>, bytes: &[u8], found: &mut Detected) {
        if let Err((reason, detail)) = self.look(rules, cluster, bytes, found) {
            let place = format!("event {}", found.events + found.rejects.count());
            found.rejects.push(reason.as_str(), || Rejected::from(&Reject { bytes, place, reason, detail }));
        }
    }

    fn look(&mut self, rules: &RuleSet, cluster: &Arc<str>, bytes: &[u8], found: &mut Detected) -> Taken {
        let text = self.scratch.load(&rules.projection, bytes).map_err(refused)?;
        self.decide(rules, cluster, text, found)?;
        Ok(bytes.len())
    }

    /// Looks at an event whose envelope names its cluster.
    fn look_at_named(&mut self, rules: &RuleSet, name: &str, bytes: &[u8], found: &mut Detected) -> Taken {
        let label = found.label(name);
        let others = found.newest.take();
        let taken = self.look(rules, &label, bytes, found);
        let newest = std::mem::replace(&mut found.newest, others);
        if taken.is_ok()
            && let Some(seen) = found.seen(label)
        {
            *seen = Seen { events: seen.events + 1, newest: seen.newest.max(newest) };
        }
        taken
    }

    /// Looks at the event that `bytes` begin with. An error only says that it has to be told apart from what follows
    /// first; nothing was taken then.
    fn look_at_first(&mut self, rules: &RuleSet, cluster: &Arc<str>, bytes: &[u8], found: &mut Detected) -> Taken {
        let len = self.scratch.load_first(&rules.projection, bytes).ok_or_else(told_apart)?;
        let text = simdutf8::basic::from_utf8(&bytes[..len]).map_err(|_| told_apart())?;
        self.decide(rules, cluster, text, found)?;
        Ok(len)
    }

    /// Asks the rules about the event in the scratch. If it turns out to be broken where they look, it is refused, and
    /// nothing of it is found.
    fn decide(&mut self, rules: &RuleSet, cluster: &Arc<str>, text: &str, found: &mut Detected) -> Result<(), Refusal> {
        let time = self.envelope(rules, cluster, text)?;
        if rules.index.candidates(&rules.projection, &mut self.scratch, text, &mut self.candidates) {
            let before = found.matches.len();
            let asked = self.ask(rules, cluster, text, time, &mut found.matches);
            let broken = self.scratch.broken(text).map(refused);
            if let Some(refusal) = asked.err().or(broken) {
                found.matches.truncate(before);
                return Err(refusal);
            }
        }
        found.events += 1;
        found.newest = found.newest.max(Some(time));
        Ok(())
    }

    /// Adds a match for each candidate that is true.
    fn ask(
        &mut self,
        rules: &RuleSet,
        cluster: &Arc<str>,
        text: &str,
        time: Timestamp,
        matches: &mut Vec<Match>,
    ) -> Result<(), Refusal> {
        self.answers.next_event(rules.predicates.len());
        let Self { scratch, answers, candidates } = self;
        let (projection, predicates) = (&rules.projection, &rules.predicates);
        let mut case = Case { projection, predicates, scratch, answers, event: text, cluster };
        if !rules.index.narrow(&mut case, candidates) {
            return Ok(());
        }
        let mut excerpt: Option<Excerpt> = None;
        for (word, bits) in candidates.rules.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                let rule = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let Some(compiled) = rules.rules.get(rule) else { break };
                if case.holds(&compiled.program) {
                    let excerpt = excerpt.get_or_insert_with(|| {
                        let Answers { harmless, json, .. } = &mut *case.answers;
                        rules.shown.excerpt(projection, case.scratch, text, harmless, json)
                    });
                    #[cfg(debug_assertions)]
                    judge(rules, rule, &mut case)?;
                    matches.push(matching(excerpt, cluster, time, Sight::new(&mut case, rules, rule))?);
                }
            }
        }
        Ok(())
    }

    /// Checks that the event in the scratch has what every event has; its time.
    fn envelope(&mut self, rules: &RuleSet, cluster: &str, text: &str) -> Result<Timestamp, Refusal> {
        if let Some(slot) = rules.cluster {
            self.scratch.inject(slot, cluster);
        }
        let mut time = "";
        for (name, slot) in KNOWN.iter().zip(rules.known) {
            let at = slot.and_then(|slot| self.scratch.first(slot));
            time = match at.map(|at| self.scratch.at(at, text)) {
                Some(Val::Str(text)) => text,
                Some(_) => return Err((Reason::Shape, format!("`{name}` must be text"))),
                None => return Err((Reason::Shape, format!("the event has no `{name}`"))),
            };
        }
        Timestamp::parse(time).ok_or_else(|| (Reason::Shape, "`stageTimestamp` is no RFC 3339 time".to_owned()))
    }
}

/// The event as a whole.
pub(super) fn whole(answers: &mut Answers, cluster: &str, text: &str) -> Result<Arc<Value>, Refusal> {
    answers.whole(text, cluster).map_err(|error| (Reason::Syntax, describe(&error)))
}

fn refused(error: ProjectError) -> Refusal {
    (error.reason, error.detail)
}

/// A rule is true of an event. `excerpt`: what all its matches share.
fn matching(
    excerpt: &Excerpt,
    cluster: &Arc<str>,
    time: Timestamp,
    mut sight: Sight<'_, '_>,
) -> Result<Match, Refusal> {
    let rule = sight.rule();
    let (matched, fields) = (rule.evidence.matched(&mut sight)?, rule.evidence.fields(&mut sight)?);
    let matched = matched.iter().map(|(key, value)| (*key, value));
    let said = sight.said()?;
    let shown = Packed::new(Arc::clone(&excerpt.json), matched, said.as_deref(), &fields, sight.out());
    Ok(Match {
        rule: Arc::clone(&rule.id),
        cluster: Arc::clone(cluster),
        source: Arc::default(),
        time,
        delivery: excerpt.delivery,
        request: excerpt.request,
        audit_id: Arc::clone(&excerpt.audit_id),
        fields: Arc::new(fields),
        shown,
    })
}

/// What was compiled must agree with what is obviously right.
#[cfg(debug_assertions)]
fn judge(rules: &RuleSet, rule: usize, case: &mut Case<'_>) -> Result<(), Refusal> {
    let (written, compiled) = (&rules.loaded().rules[rule], &rules.rules[rule]);
    let mut sight = Sight::new(case, rules, rule);
    let found = (compiled.evidence.matched(&mut sight)?, compiled.evidence.fields(&mut sight)?);
    sight.by_tree = true;
    let judged = (compiled.evidence.matched(&mut sight)?, compiled.evidence.fields(&mut sight)?);
    assert_eq!(found, judged, "what {} shows differs from what the whole event would", compiled.id);
    assert!(naive::holds(&written.expr, &*sight.tree()?), "compiled and naive differ on {}", compiled.id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::rule::load::load_text;

    fn rule(id: &str, test: &str) -> String {
        format!(
            "title: T\nid: {id}\nlogsource: {{product: kubernetes, service: audit}}\ndetection: {{s: {{{test}}}, condition: s}}\n"
        )
    }

    #[test]
    fn of_a_body_of_garbage_all_is_counted_and_the_first_pieces_are_described() {
        let rules = RuleSet::compile(load_text(Path::new("t.yml"), &rule("any", "verb: get")).rules, Duration::ZERO);
        let items = ["7"; 200_000].join(",");
        let body =
            format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{items}]}}"#);
        let mut found = Detected::default();
        Detector::default().body(&rules, &"c".into(), body.as_bytes(), &mut found).expect("a list");
        assert_eq!((found.rejects.count(), found.rejects.kept().len()), (200_000, Rejections::KEPT_MAX));
        assert_eq!(found.rejects.kept()[99].place, "item 99");
    }

    #[test]
    fn invented_clusters_have_their_labels_and_a_bound() {
        let rules = RuleSet::compile(load_text(Path::new("t.yml"), &rule("any", "verb: get")).rules, Duration::ZERO);
        let record = |number: usize| {
            let event = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a","stage":"Panic","verb":"get","requestURI":"/","stageTimestamp":"2026-01-01T00:00:00Z"}"#;
            format!(
                r#"{{"log_group":"/aws/eks/c{number}/cluster","log_stream":"kube-apiserver-audit","message":{event}}}"#
            )
        };
        let lines: Vec<String> = (0..NAMED_MAX + 5).map(record).collect();
        let (own, mut found) = ("own".into(), Detected::default());
        Detector::default().body(&rules, &own, lines.join("\n").as_bytes(), &mut found).expect("records");
        assert_eq!((found.events, found.named.len(), found.newest), (1_005, NAMED_MAX, None));
        assert_eq!(found.by_cluster(&own).next(), Some((&own, Seen { events: 5, newest: None })));
        assert_eq!(found.matches.last().map(|found| &*found.cluster), Some("c1004"));
        let mark = found.mark();
        Detector::default().body(&rules, &own, record(7).as_bytes(), &mut found).expect("a record");
        assert_eq!((found.named["c7"].events, found.matches_since(&mark).len()), (2, 1));
        found.back_to(mark);
        assert_eq!((found.named["c7"].events, found.matches.len(), found.events), (1, 1_005, 1_005));
    }

    #[test]
    fn among_alternatives_those_that_hold_are_shown_whatever_they_ask() {
        let either = "title: T\nid: r\nlogsource: {product: kubernetes, service: audit}\ndetection: {s: [{verb: get}, {verb|fieldref: objectRef.name}], condition: s}\n";
        let rules = RuleSet::compile(load_text(Path::new("t.yml"), either).rules, Duration::ZERO);
        for verb in ["get", "move"] {
            let event = format!(
                r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a","stage":"ResponseComplete","verb":"{verb}","requestURI":"/x","objectRef":{{"name":"move"}},"stageTimestamp":"2026-11-21T04:15:56.715875Z"}}"#
            );
            let mut found = Detected::default();
            Detector::default().body(&rules, &"c".into(), event.as_bytes(), &mut found).expect("an event");
            let matched: Vec<_> = found.matches.iter().map(|found| found.shown.open().matched).collect();
            assert_eq!(matched, [BTreeMap::from([("verb".to_owned(), verb.into())])]);
        }
    }

    /// A client decides what its patch holds: nothing in it may blind a rule or empty an alert.
    #[test]
    fn hostile_bodies_hide_nothing() {
        let texts = [
            rule("envelope", "verb: patch"),
            rule("before", "requestObject.a: 1"),
            rule("after", "requestObject.z.y: 1"),
            rule("inside", "requestObject.m|contains: x"),
        ];
        let loaded = load_text(Path::new("t.yml"), &texts.join("---\n"));
        let rules = RuleSet::compile(loaded.rules, Duration::from_secs(300));
        let (open, close) = ("{\"m\":".repeat(300), "}".repeat(300));
        for (body, matches) in [
            ("7".to_owned(), 3),
            (format!("{open}1{close}"), 3),
            (format!("{}1{}", "[".repeat(300), "]".repeat(300)), 3),
            (r#""x\ud800""#.to_owned(), 4),
            (r#"{"\ud800":"\udfff"}"#.to_owned(), 3),
            ("1e999".to_owned(), 3),
        ] {
            let event = format!(
                r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a","stage":"ResponseComplete","verb":"patch","requestURI":"/x","user":{{"username":"u"}},"requestObject":{{"a":1,"m":{body},"z":{{"y":1}}}},"stageTimestamp":"2026-11-21T04:15:56.715875Z"}}"#
            );
            let mut found = Detected::default();
            Detector::default().body(&rules, &"c".into(), event.as_bytes(), &mut found).expect(&body);
            assert_eq!((found.rejects.count(), found.matches.len()), (0, matches), "{body}");
            for found in found.matches {
                let event = found.shown.event();
                assert_eq!((&*event.request_uri, event.user.username.as_deref()), ("/x", Some("u")));
            }
        }
    }
}
