//! What the rules need of an audit policy: of which requests they can be true, and which level that takes.

use std::collections::{BTreeMap, BTreeSet};

use super::api::{self, Kind, VERBS};
use super::known::{Known, Who, example, insists, level_of, reads};
use super::model::{Level, Stage};
use crate::event::FieldPath;
use crate::rule::ir::{Expr, Test};
use crate::rule::{Rule, Rules};

/// A request of a verb about a kind of resource.
pub type Cell = (&'static str, Kind);

/// The rules, and what correlations read of their events.
pub struct Needs<'r> {
    /// In the order in which they are loaded.
    pub rules: Vec<Asked<'r>>,
}

/// A rule and what is asked of it.
pub struct Asked<'r> {
    /// The rule.
    pub rule: &'r Rule,
    /// What it asks, but for what excuses a trial deletion, for which no policy is made.
    pub expr: Expr,
    /// Fields of its events that correlations group by, or whose values they count.
    pub counted: Vec<&'r FieldPath>,
    /// The values that it insists on for the group, the resource and the subresource: asked for all the time.
    groups: BTreeSet<&'r str>,
    resources: BTreeSet<&'r str>,
    subresources: BTreeSet<&'r str>,
}

/// Which rules need what of one kind of request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// The level that all of them need together.
    pub level: Level,
    /// The rules that need more than [`Level::Metadata`], by their places.
    pub rules: BTreeSet<usize>,
}

impl<'r> Needs<'r> {
    /// Of these rules.
    #[must_use]
    pub fn new(rules: &'r Rules) -> Self {
        let mut counted: BTreeMap<&str, Vec<&FieldPath>> = BTreeMap::new();
        for correlation in &rules.correlations {
            let fields = correlation.group_by.iter().chain(correlation.kind.fields());
            for field in fields {
                for (member, path) in correlation.rules.iter().zip(&field.fields) {
                    counted.entry(member).or_default().push(path);
                }
            }
        }
        let asked = |rule: &'r Rule| Asked {
            rule,
            expr: without_trials(&rule.expr, true),
            counted: counted.remove(&*rule.info.id).unwrap_or_default(),
            groups: values(rule, "objectRef.apiGroup"),
            resources: values(rule, "objectRef.resource"),
            subresources: values(rule, "objectRef.subresource"),
        };
        Self { rules: rules.rules.iter().map(asked).collect() }
    }

    /// The kinds of resources that every Kubernetes serves, those that rules name, and the rest.
    #[must_use]
    pub fn kinds(&self) -> BTreeSet<Kind> {
        let mut kinds: BTreeSet<Kind> = api::kinds().collect();
        for asked in &self.rules {
            asked.named_kinds(&mut kinds);
        }
        kinds.insert(Kind::others(None));
        kinds
    }

    /// What each of these kinds of requests is needed at, by anybody; those that no rule looks at are left out, and where
    /// `bodies` is set those whose bodies none looks into.
    #[must_use]
    pub fn cells(&self, kinds: &BTreeSet<Kind>, bodies: bool) -> BTreeMap<Cell, Need> {
        let of_kinds: Vec<(Known, &Kind)> = kinds.iter().map(|kind| (Known::of_kind(kind), kind)).collect();
        let of_verbs = VERBS.map(|verb| (Known::of_verb(verb), verb));
        let mut cells: BTreeMap<Cell, Need> = BTreeMap::new();
        for (at, asked) in self.rules.iter().enumerate().filter(|(_, asked)| !bodies || asked.reads_bodies()) {
            let verbs: Vec<_> =
                of_verbs.iter().filter(|(known, _)| asked.may_be(known)).map(|(_, verb)| *verb).collect();
            for &(_, kind) in of_kinds.iter().filter(|(known, _)| asked.may_be(known)) {
                for verb in verbs.iter().filter(|verb| kind.takes(verb)) {
                    let levels = [Who::Anybody, Who::Nobody].map(|who| asked.level(&asked.known(verb, kind, &who)));
                    let level = levels[0].max(levels[1]);
                    if level > Level::None && (!bodies || level > Level::Metadata) {
                        cells.entry((verb, kind.clone())).or_default().add(at, level);
                    }
                }
            }
        }
        cells
    }

    /// What requests are needed at that are about no resource.
    #[must_use]
    pub fn paths(&self) -> Need {
        let mut need = Need::default();
        for (at, asked) in self.rules.iter().enumerate() {
            for who in [Who::Anybody, Who::Nobody] {
                need.add(at, asked.level(&Known::path(None, None, &who)));
            }
        }
        need
    }

    /// Whether any rule that names stages can be true of an event of this one.
    #[must_use]
    pub fn names_stage(&self, stage: Stage) -> bool {
        let mut known = Known::of_verb("");
        known.at(stage);
        known.forget_verb();
        self.rules.iter().any(|asked| asked.rule.names_stage && asked.may_be(&known))
    }

    /// Whether any rule reads who owns which field.
    #[must_use]
    pub fn read_managed_fields(&self) -> bool {
        let mut found = false;
        for asked in &self.rules {
            asked.expr.each_test(&mut |test| {
                found |= reads(test).unwrap_or_default().iter().any(|path| path.contains("managedFields"));
            });
            found |= asked.counted.iter().any(|path| path.path().contains("managedFields"));
        }
        found
    }
}

impl Asked<'_> {
    /// What is known to this rule of a request.
    #[must_use]
    pub fn known(&self, verb: &str, kind: &Kind, who: &Who) -> Known {
        let mut known = Known::resource(verb, kind, who);
        let names = |values: &BTreeSet<&str>, name: &Option<String>| {
            name.as_deref().is_some_and(|name| !name.is_empty() && values.contains(name))
        };
        let meant = match &*kind.subresource {
            "" => names(&self.groups, &kind.group) || names(&self.resources, &kind.resource),
            subresource => self.subresources.contains(subresource),
        };
        kind.lacks(meant).iter().for_each(|path| known.lacks(&format!("requestObject.{path}")));
        known
    }

    /// Whether an event can make the rule true.
    #[must_use]
    pub fn may_be(&self, known: &Known) -> bool {
        known.ask(&self.expr).may_be()
    }

    /// The level that such an event needs; `None` if it cannot make the rule true.
    #[must_use]
    pub fn level(&self, known: &Known) -> Level {
        let level = known.ask(&self.expr).level();
        if level == Level::None {
            return level;
        }
        self.counted.iter().map(|path| known.level_of(path.path())).fold(level, Level::max)
    }

    /// Whether it reads anything that events of level Metadata have not.
    fn reads_bodies(&self) -> bool {
        let mut found = self.counted.iter().any(|path| level_of(path.path()) > Level::Metadata);
        self.expr.each_test(&mut |test| {
            found |= reads(test).is_none_or(|paths| paths.iter().any(|path| level_of(path) > Level::Metadata));
        });
        found
    }

    /// Whether the rule is about requests of this verb by these callers, whatever they are about: then it sees them by
    /// others of their requests too.
    #[must_use]
    pub fn is_about_any_kind(&self, verb: &str, who: &Who) -> bool {
        self.may_be(&self.known(verb, &Kind::others(None), who))
    }

    /// The values that the rule insists on for a field.
    #[must_use]
    pub fn values(&self, field: &str) -> BTreeSet<&str> {
        values(self.rule, field)
    }

    /// Texts that fit what the rule wants of a field in some way, such as an ending.
    #[must_use]
    pub fn examples(&self, field: &str) -> BTreeSet<String> {
        let mut values = BTreeSet::new();
        positive(&self.rule.expr, true, &mut |test| {
            if test.field.plain().is_some_and(|path| path.path() == field) {
                values.extend(example(&test.op));
            }
        });
        values
    }

    /// Adds the kinds that the rule names and that not every Kubernetes serves.
    fn named_kinds(&self, kinds: &mut BTreeSet<Kind>) {
        let Self { groups, resources, subresources, .. } = self;
        for resource in resources {
            let elsewhere: Vec<&str> = api::elsewhere(resource).filter(|_| groups.is_empty()).collect();
            for group in groups.iter().copied().chain(elsewhere) {
                for subresource in std::iter::once("").chain(subresources.iter().copied()) {
                    kinds.insert(Kind { subresource: subresource.to_owned(), ..Kind::new(group, resource) });
                }
            }
        }
        kinds.extend(groups.iter().map(|group| Kind::others(Some(group))));
    }
}

impl Need {
    /// One rule needs this level.
    fn add(&mut self, rule: usize, level: Level) {
        self.level = self.level.max(level);
        if level > Level::Metadata {
            self.rules.insert(rule);
        }
    }
}

/// Where deletions say that they are trials.
const TRIAL: &str = "requestObject.dryRun";

/// An expression that does not ask whether a deletion is a trial, unless that is what it looks for. Only the bodies of
/// deletions say so. Where they are not logged, which is cheaper by far, trials are told as deletions are; nothing is missed.
fn without_trials(expr: &Expr, wanted: bool) -> Expr {
    let all = |parts: &[Expr]| parts.iter().map(|part| without_trials(part, wanted)).collect();
    match expr {
        Expr::All(parts) => Expr::All(all(parts)),
        Expr::Any(parts) => Expr::Any(all(parts)),
        Expr::Not(part) => Expr::Not(Box::new(without_trials(part, !wanted))),
        Expr::Test(test) if !wanted && test.field.plain().is_some_and(|path| path.path() == TRIAL) => {
            Expr::Any(Vec::new())
        }
        Expr::Test(_) => expr.clone(),
    }
}

/// The values that a rule insists on for a field.
fn values<'r>(rule: &'r Rule, field: &str) -> BTreeSet<&'r str> {
    let mut values = BTreeSet::new();
    positive(&rule.expr, true, &mut |test| {
        if test.field.plain().is_some_and(|path| path.path() == field) {
            values.extend(insists(&test.op).iter().map(String::as_str));
        }
    });
    values
}

/// Calls `each` for the tests that an expression wants to be true.
fn positive<'e>(expr: &'e Expr, wanted: bool, each: &mut dyn FnMut(&'e Test)) {
    match expr {
        Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| positive(part, wanted, each)),
        Expr::Not(part) => positive(part, !wanted, each),
        Expr::Test(test) if wanted => each(test),
        Expr::Test(_) => {}
    }
}
