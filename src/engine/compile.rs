//! From rules to a [`RuleSet`]: immutable, shared, swapped whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::index::{self, Index};
use super::predicate::{Interner, Predicate, Program};
use super::simplify::simplified;
use crate::alert::RuleInfo;
use crate::event::project::CLUSTER;
use crate::event::{FieldPath, Projection, Slot};
use crate::rule::ir::{Correlation, CorrelationKind, Expr, Op, Rule, Rules};
use crate::rule::template::Template;

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
type ByRule = HashMap<Arc<str>, Vec<(usize, usize)>>;

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
    consumers: Vec<Consumer>,
    by_rule: ByRule,
    loaded: Rules,
}

#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) id: Arc<str>,
    pub(super) expr: Expr,
    pub(super) program: Program,
    /// Fields that its matches carry for grouping and counting.
    pub(super) fields: Vec<FieldPath>,
    /// Fields that its alerts show besides.
    pub(super) shown: Vec<FieldPath>,
    /// What its alerts say.
    pub(super) output: Option<Template>,
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
    /// Same id and same fingerprint: state lives on over a reload.
    pub fingerprint: u64,
}

impl RuleSet {
    /// Compiles rules. `repeat_after`: how long matches of a single-event rule join the same episode.
    #[must_use]
    pub fn compile(rules: Rules, repeat_after: Duration) -> Self {
        let fields = fields_of(&rules);
        let mut paths: BTreeSet<&str> = KNOWN.into_iter().chain(index::FIELDS).collect();
        for rule in &rules.rules {
            rule.expr.each_test(&mut |test| {
                // What is no plain path is asked of the whole event.
                paths.extend(test.field.plain().map(FieldPath::path));
                if let Op::Field { other, .. } = &test.op {
                    paths.extend(other.plain().map(FieldPath::path));
                }
            });
        }
        let projection = Projection::new(paths);
        let exprs: Vec<Expr> = rules.rules.iter().map(|rule| simplified(&rule.expr)).collect();
        let mut interner = Interner::new(&projection);
        let compiled: Vec<CompiledRule> = rules
            .rules
            .iter()
            .zip(&exprs)
            .map(|(rule, expr)| {
                let id: Arc<str> = rule.info.id.as_str().into();
                CompiledRule {
                    program: interner.program(expr),
                    expr: rule.expr.clone(),
                    shown: rule.shown.clone(),
                    output: rule.output.clone(),
                    fields: fields.get(&id).cloned().unwrap_or_default(),
                    id,
                }
            })
            .collect();
        let predicates = interner.predicates;
        let index = Index::new(&rules.rules, &exprs, &projection);
        let (consumers, by_rule) = consumers(&rules, repeat_after);
        let (known, cluster) = (KNOWN.map(|path| projection.slot(path)), projection.slot(CLUSTER));
        Self { projection, known, cluster, predicates, index, rules: compiled, consumers, by_rule, loaded: rules }
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
        self.consumers.iter().map(|consumer| consumer.timespan).max().unwrap_or_default()
    }
}

fn consumers(rules: &Rules, repeat_after: Duration) -> (Vec<Consumer>, ByRule) {
    let alerting = rules.alerting();
    let mut consumers = Vec::new();
    let mut by_rule = ByRule::new();
    for rule in &rules.rules {
        let id: Arc<str> = rule.info.id.as_str().into();
        if alerting.get(&id).copied().unwrap_or(false) {
            by_rule.entry(id).or_default().push((consumers.len(), 0));
            consumers.push(own(rule, repeat_after));
        }
    }
    for correlation in &rules.correlations {
        for (member, id) in correlation.rules.iter().enumerate() {
            by_rule.entry(Arc::clone(id)).or_default().push((consumers.len(), member));
        }
        consumers.push(correlated(correlation, rules));
    }
    (consumers, by_rule)
}

fn own(rule: &Rule, repeat_after: Duration) -> Consumer {
    let bound = crate::rule::ir::Condition { bounds: vec![(crate::rule::ir::Ordering::Gte, 1)] };
    Consumer {
        info: Arc::clone(&rule.info),
        kind: CorrelationKind::EventCount(bound),
        group_by: own_group().into_iter().map(|field| (field.shared(), vec![field])).collect(),
        members: 1,
        timespan: repeat_after,
        single: true,
        fingerprint: rule.fingerprint,
    }
}

fn own_group() -> Vec<FieldPath> {
    OWN_GROUP.iter().filter_map(|path| FieldPath::parse(path).ok()).collect()
}

fn correlated(correlation: &Correlation, rules: &Rules) -> Consumer {
    let mut fingerprint = correlation.fingerprint;
    for id in &correlation.rules {
        let rule = rules.rules.iter().find(|rule| *rule.info.id == **id);
        fingerprint = fingerprint.rotate_left(7) ^ rule.map_or(0, |rule| rule.fingerprint);
    }
    Consumer {
        info: Arc::clone(&correlation.info),
        kind: correlation.kind.clone(),
        group_by: correlation.group_by.iter().map(|group| (Arc::clone(&group.name), group.fields.clone())).collect(),
        members: correlation.rules.len(),
        timespan: correlation.timespan,
        single: false,
        fingerprint,
    }
}

/// The fields that the matches of each rule must carry.
fn fields_of(rules: &Rules) -> BTreeMap<Arc<str>, Vec<FieldPath>> {
    let mut fields: BTreeMap<Arc<str>, BTreeSet<FieldPath>> = BTreeMap::new();
    for (id, alone) in rules.alerting() {
        let own = if alone { own_group() } else { Vec::new() };
        fields.entry(id).or_default().extend(own);
    }
    for correlation in &rules.correlations {
        for (member, id) in correlation.rules.iter().enumerate() {
            let needed = fields.entry(Arc::clone(id)).or_default();
            needed.extend(correlation.group_by.iter().filter_map(|group| group.fields.get(member).cloned()));
            if let CorrelationKind::ValueCount(field, _) = &correlation.kind {
                needed.insert(field.clone());
            }
        }
    }
    fields.into_iter().map(|(id, fields)| (id, fields.into_iter().collect())).collect()
}
