//! From rules to a [`RuleSet`]: immutable, shared, swapped whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use super::evidence::Evidence;
use super::excerpt;
use super::index::{self, Index};
use super::predicate::{Interner, Predicate, Program};
use super::redact::{self, OfSecrets};
use super::simplify::simplified;
use crate::alert::RuleInfo;
use crate::event::project::CLUSTER;
use crate::event::{FieldPath, Projection, Slot};
use crate::rule::ir::{Condition, Correlation, CorrelationKind, Expr, Op, Ordering, Rule, Rules, Test};
use crate::rule::template::{Piece, Template};

/// Texts that every event has; the last is its time.
pub(super) const KNOWN: [&str; 4] = ["auditID", "verb", "stage", "stageTimestamp"];

/// What tells the episodes of a rule about single events apart: who, as whom, and the object.
const OWN_GROUP: [&str; 7] = [
    "user.username",
    "impersonatedUser.username",
    "objectRef.apiGroup",
    "objectRef.resource",
    "objectRef.namespace",
    "objectRef.name",
    "objectRef.subresource",
];

/// For each rule, the consumers of its matches and its place among their members.
type ByRule = HashMap<Arc<str>, Vec<Place>>;

/// A consumer, and a place among its members.
type Place = (usize, usize);

/// A compiled set of rules. It never changes.
#[derive(Debug)]
pub struct RuleSet {
    pub(super) projection: Projection,
    /// Where the projection has [`KNOWN`], in its order.
    pub(super) known: [Option<Slot>; 4],
    /// Where rules read the cluster label, if any does.
    pub(super) cluster: Option<Slot>,
    pub(super) predicates: Vec<Predicate>,
    pub(super) index: Index,
    pub(super) rules: Vec<CompiledRule>,
    /// Where the projection has what every alert shows.
    pub(super) shown: excerpt::Slots,
    /// Where it has what tells that an event is about Secrets.
    pub(super) of_secrets: OfSecrets,
    consumers: Vec<Consumer>,
    by_rule: ByRule,
    loaded: Rules,
}

#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) id: Arc<str>,
    pub(super) program: Program,
    /// What its matches show and carry.
    pub(super) evidence: Evidence,
    /// What its alerts say.
    pub(super) output: Option<Template>,
    /// It asks for, or says, what no path yields.
    pub(super) needs_whole: bool,
    /// Made for the first match that needs it: most rules never have one.
    reads: OnceLock<Projection>,
}

impl RuleSet {
    /// All that a rule's matches and their alerts read of an event that is read as a tree.
    pub(super) fn reads(&self, rule: usize) -> &Projection {
        let CompiledRule { reads, evidence, .. } = &self.rules[rule];
        reads.get_or_init(|| {
            let mut paths: BTreeSet<&str> = redact::reads().collect();
            paths.extend(own_paths(&self.loaded.rules[rule]));
            paths.extend(evidence.carried().map(FieldPath::path));
            Projection::new(paths)
        })
    }
}

/// What a rule asks for, shows and says.
fn own_paths(rule: &Rule) -> BTreeSet<&str> {
    let mut paths = BTreeSet::new();
    rule.expr.each_test(&mut |test| paths.extend(read_by(test)));
    let pieces = rule.output.iter().flat_map(|output| &output.0);
    let said = pieces.filter_map(|piece| match piece {
        Piece::Field { field, .. } => field.plain(),
        Piece::Text(_) => None,
    });
    paths.extend(rule.shown.iter().chain(said).map(FieldPath::path));
    paths
}

/// The paths that a test reads; what is neither a path nor made of one's text is asked of the whole event.
fn read_by(test: &Test) -> impl Iterator<Item = &str> {
    let other = match &test.op {
        Op::Field { other, .. } => other.plain(),
        _ => None,
    };
    test.field.plain().or_else(|| test.field.decoded()).into_iter().chain(other).map(FieldPath::path)
}

/// Something that turns matches into episodes: a rule about single events by itself, or a correlation.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// What its alerts say.
    pub info: Arc<RuleInfo>,
    /// What is awaited.
    pub kind: CorrelationKind,
    /// Group entries: name, and the field for each member.
    pub group_by: Vec<(Arc<str>, Vec<FieldPath>)>,
    /// Number of rules whose matches take part.
    pub members: usize,
    /// The sliding window, and the quiet that ends an episode.
    pub timespan: Duration,
    /// Whether it is a single rule's own: its group leaves out what the event lacks, and its summary tells of one event.
    pub single: bool,
    /// Whether its episodes are alerts; if not, they only serve other correlations.
    pub alerts: bool,
    /// The correlations whose matches its episodes are.
    pub feeds: Vec<(usize, usize)>,
    /// Whether more matches never make untrue what was true.
    pub monotone: bool,
    /// It is made of whatever alerts: what one request sets off counts once, however many tell of it.
    pub any: bool,
    /// What each member is, where several take part and alerts tell of each. Empty otherwise.
    pub steps: Vec<Arc<RuleInfo>>,
    /// How far back a match can matter for it: its own timespan and those of what it is made of.
    pub reach: Duration,
    /// Same id and same fingerprint: state lives on over a reload.
    pub fingerprint: u64,
}

impl RuleSet {
    /// Compiles rules. `repeat_after`: how long matches of a single-event rule join the same episode.
    #[must_use]
    pub fn compile(rules: Rules, repeat_after: Duration) -> Self {
        let fields = fields_of(&rules);
        let mut paths: BTreeSet<&str> =
            KNOWN.into_iter().chain(index::FIELDS).chain(excerpt::READS).chain(OfSecrets::reads()).collect();
        for rule in &rules.rules {
            rule.expr.each_test(&mut |test| paths.extend(read_by(test)));
            paths.extend(rule.shown.iter().map(FieldPath::path));
        }
        paths.extend(fields.values().flatten().map(FieldPath::path));
        let exprs: Vec<Expr> = rules.rules.iter().map(|rule| simplified(&rule.expr)).collect();
        let quiet = Index::quiet_stages(&rules.rules, &exprs);
        let projection = Projection::new(paths).closed_by("stage", &quiet, &KNOWN);
        let mut interner = Interner::new(&projection);
        let compiled = rules.rules.iter().zip(&exprs).map(|(rule, expr)| {
            let carried = fields.get(rule.info.id.as_str()).map_or(&[][..], Vec::as_slice);
            CompiledRule {
                id: rule.info.id.as_str().into(),
                program: interner.program(expr),
                evidence: Evidence::new(&rule.expr, &rule.shown, carried, &mut interner),
                output: rule.output.clone(),
                needs_whole: needs_whole(rule),
                reads: OnceLock::new(),
            }
        });
        let compiled: Vec<CompiledRule> = compiled.collect();
        let index = Index::new(&rules.rules, &exprs, &mut interner);
        let predicates = interner.predicates;
        let (consumers, by_rule) = consumers(&rules, repeat_after);
        let (known, cluster) = (KNOWN.map(|path| projection.slot(path)), projection.slot(CLUSTER));
        Self {
            shown: excerpt::Slots::of(&projection),
            of_secrets: OfSecrets::of(&projection),
            projection,
            known,
            cluster,
            predicates,
            index,
            rules: compiled,
            consumers,
            by_rule,
            loaded: rules,
        }
    }

    /// What turns matches into episodes.
    #[must_use]
    pub fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }

    /// Who takes the matches of a rule: consumer and the rule's place among its members.
    #[must_use]
    pub fn consumers_of(&self, rule: &str) -> &[(usize, usize)] {
        self.by_rule.get(rule).map_or(&[], Vec::as_slice)
    }

    /// What it was compiled from.
    #[must_use]
    pub fn loaded(&self) -> &Rules {
        &self.loaded
    }

    /// The rules about single events.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.loaded.rules
    }

    /// The longest time that the past can matter.
    #[must_use]
    pub fn longest_window(&self) -> Duration {
        self.consumers.iter().map(|consumer| consumer.reach).max().unwrap_or_default()
    }
}

fn needs_whole(rule: &Rule) -> bool {
    let mut needs = false;
    rule.expr.each_test(&mut |test| {
        needs |= test.field.plain().is_none();
        needs |= matches!(&test.op, Op::Field { other, .. } if other.plain().is_none());
    });
    let pieces = rule.output.iter().flat_map(|output| &output.0);
    needs || pieces.into_iter().any(|piece| matches!(piece, Piece::Field { field, .. } if field.plain().is_none()))
}

fn consumers(rules: &Rules, repeat_after: Duration) -> (Vec<Consumer>, ByRule) {
    let alerting = rules.alerting();
    let alerts = |id: &str| alerting.get(id).copied().unwrap_or(false);
    let mut consumers = Vec::new();
    let mut by_rule = ByRule::new();
    for rule in rules.rules.iter().filter(|rule| alerts(&rule.info.id)) {
        by_rule.entry(rule.info.id.as_str().into()).or_default().push((consumers.len(), 0));
        consumers.push(own(rule, repeat_after));
    }
    // A correlation comes after those that it is made of.
    let mut places: HashMap<&str, usize> = HashMap::new();
    for correlation in &rules.correlations {
        let here = consumers.len();
        let mut consumer = correlated(correlation, rules, repeat_after);
        consumer.alerts = alerts(&correlation.info.id);
        for (member, id) in correlation.rules.iter().enumerate() {
            match places.get(&**id) {
                Some(&inner) => {
                    let inner: &mut Consumer = &mut consumers[inner];
                    inner.feeds.push((here, member));
                    consumer.reach = consumer.reach.max(consumer.timespan + inner.reach);
                    consumer.fingerprint = consumer.fingerprint.rotate_left(7) ^ inner.fingerprint;
                }
                None => by_rule.entry(Arc::clone(id)).or_default().push((here, member)),
            }
        }
        places.insert(&correlation.info.id, here);
        consumers.push(consumer);
    }
    (consumers, by_rule)
}

fn own(rule: &Rule, repeat_after: Duration) -> Consumer {
    let bound = Condition { bounds: vec![(Ordering::Gte, 1.0)] };
    Consumer {
        info: Arc::clone(&rule.info),
        kind: CorrelationKind::EventCount(bound),
        group_by: OWN_GROUP_FIELDS.clone(),
        members: 1,
        timespan: repeat_after,
        single: true,
        alerts: true,
        feeds: Vec::new(),
        monotone: true,
        any: false,
        steps: Vec::new(),
        reach: repeat_after,
        fingerprint: rule.fingerprint,
    }
}

/// Read once: every rule has them.
static OWN_GROUP_FIELDS: LazyLock<Vec<(Arc<str>, Vec<FieldPath>)>> = LazyLock::new(|| {
    let fields = OWN_GROUP.iter().filter_map(|path| FieldPath::parse(path).ok());
    fields.map(|field| (field.shared(), vec![field])).collect()
});

fn correlated(correlation: &Correlation, rules: &Rules, repeat_after: Duration) -> Consumer {
    let mut fingerprint = correlation.fingerprint;
    for id in &correlation.rules {
        let rule = rules.rules.iter().find(|rule| *rule.info.id == **id);
        fingerprint = fingerprint.rotate_left(7) ^ rule.map_or(0, |rule| rule.fingerprint);
    }
    // What is new is told like the match of a single rule; each new value by itself.
    let first_seen = match &correlation.kind {
        CorrelationKind::FirstSeen(first_seen) => first_seen.fields.as_slice(),
        _ => &[],
    };
    let timespan = if first_seen.is_empty() { correlation.timespan } else { repeat_after };
    let group_by = correlation.group_by.iter().chain(first_seen);
    Consumer {
        info: Arc::clone(&correlation.info),
        kind: correlation.kind.clone(),
        group_by: group_by.map(|group| (Arc::clone(&group.name), group.fields.clone())).collect(),
        members: correlation.rules.len(),
        timespan,
        single: false,
        alerts: true,
        feeds: Vec::new(),
        monotone: correlation.kind.is_monotone(),
        any: correlation.any.is_some(),
        steps: steps(correlation, rules),
        reach: timespan,
        fingerprint,
    }
}

/// What the members are of a correlation that several rules make true together.
fn steps(correlation: &Correlation, rules: &Rules) -> Vec<Arc<RuleInfo>> {
    let learns = matches!(correlation.kind, CorrelationKind::FirstSeen(_) | CorrelationKind::Spike(_));
    if correlation.rules.len() < 2 || learns {
        return Vec::new();
    }
    let infos = || rules.rules.iter().map(|rule| &rule.info).chain(rules.correlations.iter().map(|c| &c.info));
    let info = |id: &Arc<str>| infos().find(|info| *info.id == **id).cloned().unwrap_or_default();
    correlation.rules.iter().map(info).collect()
}

/// The fields that the matches of each rule must carry.
fn fields_of(rules: &Rules) -> BTreeMap<Arc<str>, Vec<FieldPath>> {
    let mut fields: BTreeMap<Arc<str>, BTreeSet<FieldPath>> = BTreeMap::new();
    for (id, alone) in rules.alerting() {
        let own = alone && rules.correlation(&id).is_none();
        let fields = fields.entry(id).or_default();
        if own {
            fields.extend(OWN_GROUP_FIELDS.iter().flat_map(|(_, fields)| fields.iter().cloned()));
        }
    }
    // From the outermost on: what a correlation needs of another, that one needs of its own rules.
    for correlation in rules.correlations.iter().rev() {
        let passed_on = fields.get(correlation.info.id.as_str()).cloned().unwrap_or_default();
        for (member, id) in correlation.rules.iter().enumerate() {
            let needed = fields.entry(Arc::clone(id)).or_default();
            needed.extend(passed_on.iter().cloned());
            let groups = correlation.group_by.iter().chain(correlation.kind.fields());
            needed.extend(groups.filter_map(|group| group.fields.get(member).cloned()));
        }
    }
    fields.into_iter().map(|(id, fields)| (id, fields.into_iter().collect())).collect()
}
