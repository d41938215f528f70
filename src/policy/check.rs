//! Which rules a policy blinds, and why.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::api::Kind;
use super::generate::{about, in_order};
use super::known::{Known, level_of, reads};
use super::model::{Level, Policy, Stage};
use super::needs::{Asked, Needs};
use super::probe::{self, Probe};
use super::render;
use crate::alert::{self, RuleInfo};
use crate::rule::ir::{Awaited, CorrelationKind, Members};
use crate::rule::{Correlation, Rules};

/// Fields that a reason names.
const FIELDS_MAX: usize = 3;

/// What a rule sees under a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sight {
    /// Nothing: it cannot fire.
    Blind,
    /// Some of what it looks for.
    Partly,
    /// All of it.
    Full,
    /// No example could be made of what it looks for, so that nothing can be said.
    Unknown,
}

/// A rule under a policy.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Its id.
    pub id: String,
    /// Its title.
    pub title: String,
    /// How bad it is what it looks for.
    pub level: alert::Level,
    /// What it sees.
    pub sight: Sight,
    /// What it does not see; empty if it sees all.
    pub gaps: Vec<Gap>,
}

/// Requests that a rule does not see as it must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Why not.
    pub why: Why,
    /// The line of the policy's rule that decides; `None` where no rule matches.
    pub line: Option<usize>,
    /// `create pods`, `patch pods`…
    pub requests: Vec<String>,
    /// The level at which they are logged.
    pub has: Level,
    /// The level that the rule needs.
    pub needs: Level,
    /// Fields that the rule reads and that are not there.
    pub fields: Vec<String>,
    /// The rule that it is about, where a correlation is made of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// A rule to put before the one that decides, where there is one that does not let everything through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<String>,
}

/// Why a rule does not see a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is not logged.
    NotLogged,
    /// The stages at which it can be seen are omitted.
    StageOmitted,
    /// The level is too low: fields that must be there are not.
    LevelTooLow,
    /// The level lets the rule be true, but not in all the ways that it looks for.
    FieldsMissing,
    /// It is seen, but only when the request ends.
    Late,
}

/// What failed examples have in common: why, the policy's rule, the stage, the level there is and the level needed.
type Reason = (Why, Option<usize>, Option<Stage>, Level, Level);

/// What becomes of one example.
struct Looked {
    why: Why,
    stage: Option<Stage>,
    has: Level,
    needs: Level,
    rule: Option<usize>,
}

/// Looks at every rule, in the order in which they are loaded, correlations last.
#[must_use]
pub fn check(policy: &Policy, rules: &Rules) -> Vec<Checked> {
    let needs = Needs::new(rules);
    let mut kinds = needs.kinds();
    kinds.extend(named_kinds(policy));
    let kinds = kinds.into_iter().map(|kind| (Known::of_kind(&kind), kind)).collect();
    let checker = Checker { policy, kinds };
    let mut checked: Vec<Checked> = needs.rules.iter().map(|asked| checker.rule(asked)).collect();
    for correlation in &rules.correlations {
        let found = of_correlation(correlation, &checked);
        checked.push(found);
    }
    let alerting = rules.alerting();
    checked.retain(|checked| alerting.get(checked.id.as_str()).copied().unwrap_or(true));
    checked
}

/// Kinds that a policy names, without wildcards.
fn named_kinds(policy: &Policy) -> impl Iterator<Item = Kind> {
    let groups = policy.rules.iter().flat_map(|rule| &rule.resources);
    let named = groups.flat_map(|group| group.resources.iter().map(|name| (&group.group, name)));
    named.filter(|(_, name)| !name.contains('*')).map(|(group, name)| Kind::new(group, name))
}

struct Checker<'c> {
    policy: &'c Policy,
    /// With what is known of requests about them.
    kinds: Vec<(Known, Kind)>,
}

impl Checker<'_> {
    fn rule(&self, asked: &Asked<'_>) -> Checked {
        let mut probes = probe::probes(asked, &self.kinds);
        // What no stage tells of, no policy can show: a refused credential has no ResponseComplete.
        probes.retain(|probe| !telling(asked, probe, Level::RequestResponse).is_empty());
        let looked: Vec<Option<Looked>> = probes.iter().map(|probe| self.look(asked, probe)).collect();
        let mut sight = sight(&looked);
        // A rule about requests of any kind may see some that the policy names.
        if sight == Sight::Blind && probes.iter().any(|probe| probe.kind == Some(Kind::others(None))) {
            let more = probe::everywhere(asked, &self.kinds);
            if more.iter().any(|probe| self.look(asked, probe).is_none_or(|looked| !looked.blinds())) {
                sight = Sight::Partly;
            }
        }
        let failed = probes.into_iter().zip(looked).filter_map(|(probe, looked)| Some((probe, looked?)));
        let gaps = self.gaps(asked, failed.collect());
        let RuleInfo { id, title, level, .. } = &*asked.rule.info;
        Checked { id: id.clone(), title: title.clone(), level: *level, sight, gaps }
    }

    /// What is wrong with an example; `None` if the rule sees it.
    fn look(&self, asked: &Asked<'_>, probe: &Probe) -> Option<Looked> {
        let verdict = self.policy.judge(&probe.request);
        let needs = asked.level(&probe.known);
        let looked = |why, stage| Looked { why, stage, has: verdict.level, needs, rule: verdict.rule };
        if verdict.level == Level::None {
            return Some(looked(Why::NotLogged, None));
        }
        let shown_at = telling(asked, probe, Level::RequestResponse);
        let omitted = |stage: &Stage| verdict.omit_stages.contains(stage);
        let Some(first) = shown_at.iter().find(|stage| !omitted(stage)) else {
            return Some(looked(Why::StageOmitted, shown_at.first().copied()));
        };
        if telling(asked, probe, verdict.level).iter().all(omitted) {
            return Some(looked(Why::LevelTooLow, None));
        }
        if verdict.level < needs {
            return Some(looked(Why::FieldsMissing, None));
        }
        // An exec that is seen when it ends is seen too late to end it.
        let late = shown_at.first().filter(|stage| omitted(stage) && *first > **stage);
        late.map(|stage| looked(Why::Late, Some(*stage)))
    }

    /// The failed examples, those together that fail for the same reason.
    fn gaps(&self, asked: &Asked<'_>, failed: Vec<(Probe, Looked)>) -> Vec<Gap> {
        let mut together: BTreeMap<_, Vec<Probe>> = BTreeMap::new();
        for (probe, Looked { why, stage, has, needs, rule }) in failed {
            together.entry((why, rule, stage, has, needs)).or_default().push(probe);
        }
        let gap = |((why, rule, stage, has, needs), probes): (Reason, Vec<Probe>)| {
            let fields = match stage {
                Some(stage) => vec![format!("stage {stage}")],
                None if why == Why::NotLogged => Vec::new(),
                None => missing(asked, has),
            };
            Gap {
                why,
                line: rule.map(|at| self.policy.rules[at].line),
                requests: requests(&probes),
                has,
                needs,
                fields,
                of: None,
                add: Some(&probes)
                    .filter(|_| !matches!(why, Why::StageOmitted | Why::Late))
                    .and_then(|p| addition(needs, p)),
            }
        };
        together.into_iter().map(gap).collect()
    }
}

/// The stages whose events make the rule true of an example, where they are logged at a level.
fn telling(asked: &Asked<'_>, probe: &Probe, level: Level) -> Vec<Stage> {
    let sees = |stage: &Stage| {
        let mut known = probe.known.clone();
        known.at(*stage);
        known.limit(level);
        (asked.rule.names_stage || *stage != Stage::RequestReceived) && asked.may_be(&known)
    };
    probe.stages.iter().copied().filter(sees).collect()
}

impl Looked {
    fn blinds(&self) -> bool {
        matches!(self.why, Why::NotLogged | Why::StageOmitted | Why::LevelTooLow)
    }
}

fn sight(looked: &[Option<Looked>]) -> Sight {
    let blinded = |looked: &Option<Looked>| looked.as_ref().is_some_and(Looked::blinds);
    if looked.is_empty() {
        Sight::Unknown
    } else if looked.iter().all(blinded) {
        Sight::Blind
    } else if looked.iter().all(Option::is_none) {
        Sight::Full
    } else {
        Sight::Partly
    }
}

/// Fields that the rule reads, and correlations of it, and that events of a level have not.
fn missing(asked: &Asked<'_>, has: Level) -> Vec<String> {
    let mut fields: BTreeSet<String> = BTreeSet::new();
    asked.expr.each_test(&mut |test| match reads(test) {
        Some(paths) => fields.extend(paths.into_iter().filter(|path| level_of(path) > has).map(str::to_owned)),
        None => {
            fields.insert("any field of the body".to_owned());
        }
    });
    fields.extend(asked.counted.iter().map(|path| path.path()).filter(|path| level_of(path) > has).map(str::to_owned));
    let more = fields.len().saturating_sub(FIELDS_MAX);
    let mut fields: Vec<String> = fields.into_iter().take(FIELDS_MAX).collect();
    if more > 0 {
        fields.push(format!("{more} more"));
    }
    fields
}

/// The verbs of each kind.
fn by_kind(probes: &[Probe]) -> BTreeMap<Option<&Kind>, Vec<&'static str>> {
    let mut kinds: BTreeMap<Option<&Kind>, BTreeSet<&'static str>> = BTreeMap::new();
    for probe in probes {
        kinds.entry(probe.kind.as_ref()).or_default().insert(probe.verb);
    }
    kinds.into_iter().map(|(kind, verbs)| (kind, in_order(verbs))).collect()
}

/// `create, patch pods`, the same verbs together.
fn requests(probes: &[Probe]) -> Vec<String> {
    let mut by_verbs: BTreeMap<Vec<&str>, Vec<String>> = BTreeMap::new();
    for (kind, verbs) in by_kind(probes) {
        let name = match kind {
            None => "paths that are no resources".to_owned(),
            Some(Kind { group: None, .. }) => "most resources".to_owned(),
            Some(Kind { group: Some(group), resource: None, .. }) => format!("anything of {group}"),
            Some(kind) => match kind.group.as_deref() {
                Some(group)
                    if super::api::group_of(kind.resource.as_deref().unwrap_or_default()).is_none()
                        && !group.is_empty() =>
                {
                    format!("{}.{group}", kind.name())
                }
                _ => kind.name(),
            },
        };
        by_verbs.entry(verbs).or_default().push(name);
    }
    by_verbs.into_iter().map(|(verbs, kinds)| format!("{} {}", verbs.join("/"), kinds.join(", "))).collect()
}

/// A rule that lets all of these through; `None` where only one for all requests does, which nobody wants.
fn addition(level: Level, probes: &[Probe]) -> Option<String> {
    let by_kind = by_kind(probes);
    let verbs = in_order(by_kind.values().flatten().copied().collect::<BTreeSet<_>>());
    let kinds: Vec<Kind> = by_kind.keys().flatten().map(|kind| (*kind).clone()).collect();
    let of_any = kinds.iter().any(|kind| kind.group.is_none());
    if of_any || (by_kind.contains_key(&None) && !kinds.is_empty()) {
        return None;
    }
    let mut rule = about(level, if kinds.is_empty() { &[] } else { &verbs }, &kinds);
    if kinds.is_empty() {
        rule.non_resource_urls.push("*".to_owned());
    }
    Some(render::flow(&rule))
}

/// What a correlation sees, by its members.
fn of_correlation(correlation: &Correlation, checked: &[Checked]) -> Checked {
    let member = |id: &str| checked.iter().find(|checked| checked.id == id);
    let members: Vec<Option<&Checked>> = correlation.rules.iter().map(|id| member(id)).collect();
    let sights: Vec<Sight> = members.iter().map(|member| member.map_or(Sight::Full, |checked| checked.sight)).collect();
    let counts_missing = |at: usize| {
        let paths = correlation.kind.fields().iter().filter_map(|field| field.fields.get(at));
        let level = paths.map(|path| level_of(path.path())).max().unwrap_or_default();
        members[at].is_some_and(|member| {
            member.sight != Sight::Full
                && !member.gaps.is_empty()
                && level > Level::Metadata
                && member.gaps.iter().all(|gap| gap.why == Why::FieldsMissing && gap.has < level)
        })
    };
    let may_be: Vec<bool> =
        sights.iter().enumerate().map(|(at, sight)| *sight != Sight::Blind && !counts_missing(at)).collect();
    let sight = if !can_hold(&correlation.kind, &may_be) {
        Sight::Blind
    } else if correlation.any.is_some() {
        // It is about the alerts that there are; what its rules miss is told of them.
        Sight::Full
    } else if sights.contains(&Sight::Unknown) {
        Sight::Unknown
    } else if sights.iter().all(|sight| *sight == Sight::Full) {
        Sight::Full
    } else {
        Sight::Partly
    };
    let mut gaps = Vec::new();
    for member in members.into_iter().flatten().filter(|_| sight != Sight::Full) {
        let of = |gap: &Gap| Gap { of: gap.of.clone().or_else(|| Some(member.title.clone())), ..gap.clone() };
        gaps.extend(member.gaps.iter().map(of));
    }
    let RuleInfo { id, title, level, .. } = &*correlation.info;
    Checked { id: id.clone(), title: title.clone(), level: *level, sight, gaps }
}

/// Whether a correlation can be true when only some of its rules can.
fn can_hold(kind: &CorrelationKind, may_be: &[bool]) -> bool {
    match kind {
        CorrelationKind::Temporal(awaited) | CorrelationKind::TemporalOrdered(awaited) => match awaited {
            Awaited::All => may_be.iter().all(|may_be| *may_be),
            Awaited::Number(condition) => {
                let most = u32::try_from(may_be.iter().filter(|may_be| **may_be).count()).unwrap_or(u32::MAX);
                (1..=most).any(|number| condition.holds(f64::from(number)))
            }
            Awaited::These(members) => can_be(members, may_be),
        },
        _ => may_be.iter().any(|may_be| *may_be),
    }
}

fn can_be(members: &Members, may_be: &[bool]) -> bool {
    match members {
        Members::All(parts) => parts.iter().all(|part| can_be(part, may_be)),
        Members::Any(parts) => parts.iter().any(|part| can_be(part, may_be)),
        // What is not seen is as good as not there.
        Members::Not(_) => true,
        Members::Member(at) => may_be.get(*at).copied().unwrap_or_default(),
    }
}
