//! The cheapest policy under which every rule can be true: what rules look into is logged with its body, what no rule
//! looks at is left out, and of everything else it is logged who did what.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::api::{self, Kind};
use super::known::Known;
use super::model::{GroupResources, Level, Policy, PolicyRule, Stage};
use super::needs::{Cell, Need, Needs};
use super::noise::{By, NOISE, Noise, TRUSTED, What};
use crate::rule::Rules;

/// What the user wants otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Never log the bodies of what holds credentials, whatever rules ask for.
    pub no_credentials: bool,
}

/// A policy in its parts, for who prints it.
#[derive(Clone, Debug, Default)]
pub struct Generated {
    /// In their order.
    pub sections: Vec<Section>,
    /// Stages of which no event is needed.
    pub omit_stages: Vec<Stage>,
    /// Whether no rule reads `managedFields`.
    pub omit_managed_fields: bool,
    /// Rules that see less than they ask for, because bodies with credentials are left out: what, and the titles.
    pub withheld: BTreeMap<String, BTreeSet<String>>,
}

/// Rules of a policy that are there for one reason.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// In their order.
    pub entries: Vec<Entry>,
}

/// One rule of a policy, and why it is there.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Why, as sentences.
    pub why: Vec<String>,
    /// The detections that it is for, by title.
    pub rules: BTreeSet<String>,
    /// What it says.
    pub rule: PolicyRule,
}

impl Generated {
    /// The policy itself.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let entries = self.sections.iter().flat_map(|section| &section.entries);
        Policy {
            omit_stages: self.omit_stages.clone(),
            omit_managed_fields: self.omit_managed_fields,
            rules: entries.map(|entry| entry.rule.clone()).collect(),
        }
    }
}

/// Makes the policy for these rules.
#[must_use]
pub fn generate(rules: &Rules, options: Options) -> Generated {
    let needs = Needs::new(rules);
    let rest = needs.cells(&BTreeSet::from([Kind::others(None)]), false);
    let rest = rest.values().map(|need| need.level).max().unwrap_or_default();
    let mut kinds = needs.kinds();
    kinds.remove(&Kind::others(None));
    // A rule may mean them when it names no more than their group.
    kinds.extend(credentials());
    // Where everything is logged, only bodies need be looked for.
    let mut cells = needs.cells(&kinds, rest > Level::None);
    let withheld = if options.no_credentials { withhold(&needs, &mut cells) } else { BTreeMap::new() };
    let (bodies, metadata): (BTreeMap<Cell, Need>, BTreeMap<Cell, Need>) =
        cells.into_iter().partition(|(_, need)| need.level > Level::Metadata);
    let maker = Maker { needs: &needs };
    let mut sections = vec![
        // Where nothing is logged but what rules name, there is nothing to leave out.
        Section { title: NOISE_TITLE, entries: if rest > Level::None { maker.noise() } else { Vec::new() } },
        Section { title: "What rules look into: bodies", entries: maker.bodies(bodies, rest) },
    ];
    let last = maker.rest(&metadata, rest, needs.paths().level);
    sections.push(last);
    sections.retain(|section| !section.entries.is_empty());
    Generated {
        sections,
        omit_stages: if needs.names_stage(Stage::RequestReceived) { Vec::new() } else { vec![Stage::RequestReceived] },
        omit_managed_fields: !needs.read_managed_fields(),
        withheld,
    }
}

const NOISE_TITLE: &str = "Noise, where no rule looks";

/// What holds credentials: group, resource, the level from which on they are in a log, and what they are.
const CREDENTIALS: [(&str, &str, Level, &str); 8] = [
    ("", "secrets", Level::Request, "Secrets"),
    ("", "configmaps", Level::Request, "ConfigMaps, which often hold credentials"),
    // What is asked for is no secret; the answer is one.
    ("", "serviceaccounts/token", Level::RequestResponse, "fresh tokens of service accounts"),
    ("authentication.k8s.io", "tokenreviews", Level::Request, "bearer tokens"),
    ("oauth.openshift.io", "oauthaccesstokens", Level::Request, "tokens of users"),
    ("oauth.openshift.io", "oauthauthorizetokens", Level::Request, "tokens of users"),
    ("oauth.openshift.io", "oauthclients", Level::Request, "secrets of OAuth clients"),
    ("route.openshift.io", "routes", Level::Request, "routes, which may hold private keys"),
];

/// Why a body should not be in a log: what it holds.
#[must_use]
pub fn secret_in(kind: &Kind, level: Level) -> Option<&'static str> {
    let (group, name) = (kind.group.as_deref()?, kind.name());
    let found = CREDENTIALS.iter().find(|(of, resource, _, _)| *of == group && *resource == name);
    found.filter(|(_, _, from, _)| level >= *from).map(|(_, _, _, what)| *what)
}

/// The kinds of which bodies hold credentials.
fn credentials() -> impl Iterator<Item = Kind> {
    CREDENTIALS.iter().map(|(group, resource, _, _)| Kind::new(group, resource))
}

/// Who touched credentials, but nothing of what they are.
fn credentials_without_bodies(kinds: &[Kind]) -> Entry {
    let why = vec!["Who touched credentials, never what they are.".to_owned()];
    Entry { why, rules: BTreeSet::new(), rule: about(Level::Metadata, &[], kinds) }
}

/// Lowers the level of what holds credentials; says which rules that is at the expense of.
fn withhold(needs: &Needs<'_>, cells: &mut BTreeMap<Cell, Need>) -> BTreeMap<String, BTreeSet<String>> {
    let mut withheld: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for ((_, kind), need) in cells.iter_mut() {
        while secret_in(kind, need.level).is_some() {
            need.level = if need.level == Level::RequestResponse { Level::Request } else { Level::Metadata };
            withheld.entry(kind.name()).or_default().extend(titles(needs, &need.rules));
        }
    }
    withheld
}

fn titles(needs: &Needs<'_>, rules: &BTreeSet<usize>) -> BTreeSet<String> {
    rules.iter().map(|at| needs.rules[*at].rule.info.title.clone()).collect()
}

struct Maker<'m> {
    needs: &'m Needs<'m>,
}

impl Maker<'_> {
    /// What is left out.
    fn noise(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for noise in NOISE {
            match noise.what {
                What::Resources(verbs, resources) => {
                    let kinds = api::kinds().filter(|kind| is_one_of(kind, resources)).collect();
                    let (quiet, _) = self.told_apart(noise.by, verbs, &kinds);
                    entries.extend(by(noise, merged(quiet.into_iter().map(|cell| (cell, Level::None)))));
                }
                What::All(verbs) => entries.extend(self.noise_about_all(noise, verbs)),
                What::Paths(paths) => entries.extend(self.noise_on(noise, paths)),
            }
        }
        entries
    }

    /// Whole groups, but first what rules look at in them.
    fn noise_about_all(&self, noise: &Noise, verbs: &'static [&'static str]) -> Vec<Entry> {
        let whole: BTreeSet<Kind> = api::GROUPS.iter().map(|(group, _)| Kind::others(Some(group))).collect();
        let (quiet, loud) = self.told_apart(noise.by, verbs, &whole);
        let loud: BTreeSet<Kind> = loud.into_iter().map(|(_, kind)| kind).collect();
        let groups: Vec<Kind> = quiet.into_iter().map(|(_, kind)| kind).filter(|kind| !loud.contains(kind)).collect();
        let groups: Vec<Kind> = BTreeSet::from_iter(groups).into_iter().collect();
        let is_in = |kind: &Kind| groups.iter().any(|whole| whole.group == kind.group);
        let (_, looked_at) = self.told_apart(noise.by, verbs, &api::kinds().filter(is_in).collect());
        let mut levels: BTreeMap<Level, (BTreeSet<&'static str>, BTreeSet<Kind>)> = BTreeMap::new();
        for ((verb, kind), level) in looked_at.into_iter().map(|cell| (cell.clone(), self.level(noise.by, &cell))) {
            let of_level = levels.entry(level).or_default();
            of_level.0.insert(verb);
            of_level.1.insert(kind);
        }
        let merged = levels
            .into_iter()
            .rev()
            .map(|(level, (verbs, kinds))| (level, in_order(verbs), kinds.into_iter().collect()));
        let why = "Rules look at these, whoever reads them.".to_owned();
        let loud = by(noise, merged.collect()).into_iter().map(|entry| Entry { why: vec![why.clone()], ..entry });
        loud.chain(by(noise, vec![(Level::None, verbs.to_vec(), groups)])).collect()
    }

    /// The level at which such a request is needed.
    fn level(&self, by: By, (verb, kind): &Cell) -> Level {
        let of = |who| {
            let rules = self.needs.rules.iter();
            rules.map(|asked| asked.level(&asked.known(verb, kind, &who))).max().unwrap_or_default()
        };
        by.whos().into_iter().map(of).max().unwrap_or_default()
    }

    /// Tells requests that no rule looks at from the others. Rules that look at whatever these callers do see the rest of
    /// it.
    fn told_apart(&self, by: By, verbs: &[&'static str], kinds: &BTreeSet<Kind>) -> (BTreeSet<Cell>, BTreeSet<Cell>) {
        let (mut quiet, mut loud) = (BTreeSet::new(), BTreeSet::new());
        let whos = by.whos();
        for verb in verbs {
            // Rules that look at some kinds only, by caller.
            let of = |who| self.needs.rules.iter().filter(move |asked| !asked.is_about_any_kind(verb, who));
            let choosy: Vec<Vec<_>> = whos.iter().map(|who| of(who).collect()).collect();
            for kind in kinds.iter().filter(|kind| kind.takes(verb)) {
                let looked_at = whos.iter().zip(&choosy).any(|(who, choosy)| {
                    // Most rules are about something else, which is told quicker without what bodies lack.
                    let known = Known::resource(verb, kind, who);
                    let mut near = choosy.iter().filter(|asked| asked.may_be(&known));
                    near.any(|asked| asked.may_be(&asked.known(verb, kind, who)))
                });
                if looked_at { &mut loud } else { &mut quiet }.insert((*verb, kind.clone()));
            }
        }
        (quiet, loud)
    }

    fn noise_on(&self, noise: &Noise, paths: &[&str]) -> Option<Entry> {
        let is_quiet = |path: &&&str| {
            let example = path.replace('*', "/x").replace("//", "/");
            noise.by.whos().iter().all(|who| {
                let known = Known::path(None, Some(&example), who);
                let elsewhere = Known::path(None, Some("/elsewhere"), who);
                self.needs.rules.iter().all(|asked| !asked.may_be(&known) || asked.may_be(&elsewhere))
            })
        };
        let quiet: Vec<String> = paths.iter().filter(is_quiet).map(|path| (*path).to_owned()).collect();
        let (users, user_groups) = noise.by.users_and_groups();
        let rule = PolicyRule { users, user_groups, non_resource_urls: quiet, ..PolicyRule::default() };
        let entry = Entry { why: vec![noise.title.to_owned()], rules: BTreeSet::new(), rule };
        (!entry.rule.non_resource_urls.is_empty()).then_some(entry)
    }

    /// Bodies; what is said of a whole group is not said of the credentials in it, which come before.
    fn bodies(&self, cells: BTreeMap<Cell, Need>, rest: Level) -> Vec<Entry> {
        let in_whole_group = |kind: &Kind| cells.keys().any(|(_, of)| of.resource.is_none() && of.group == kind.group);
        let guarded: Vec<Kind> = credentials().filter(in_whole_group).collect();
        let (first, later): (BTreeMap<_, _>, BTreeMap<_, _>) =
            cells.into_iter().partition(|((_, kind), _)| guarded.contains(kind));
        let mut entries = self.entries(&first);
        if !guarded.is_empty() {
            entries.push(credentials_without_bodies(&guarded));
        }
        entries.extend(self.bodies_by_sender(later, rest));
        entries
    }

    /// Bodies; those that matter only where others than the control plane send them come after what it sends.
    fn bodies_by_sender(&self, mut cells: BTreeMap<Cell, Need>, rest: Level) -> Vec<Entry> {
        let mut entries = Vec::new();
        // Where bodies of everything are logged, or of nothing but what rules name, nobody's are left out.
        if rest != Level::Metadata {
            return self.entries(&cells);
        }
        let mut trusted: Vec<(By, &str, BTreeSet<Cell>)> =
            TRUSTED.iter().map(|(by, why)| (*by, *why, self.of_interest(&cells, *by))).collect();
        trusted.sort_by_key(|(_, _, matter)| matter.len());
        for (by, why, matter) in trusted {
            let (first, later): (BTreeMap<_, _>, BTreeMap<_, _>) =
                cells.into_iter().partition(|(cell, _)| matter.contains(cell));
            cells = later;
            entries.extend(self.entries(&first));
            if cells.is_empty() {
                return entries;
            }
            let (users, user_groups) = by.users_and_groups();
            let rule = PolicyRule { level: Level::Metadata, users, user_groups, ..PolicyRule::default() };
            entries.push(Entry { why: vec![why.to_owned()], rules: BTreeSet::new(), rule });
        }
        entries.extend(self.entries(&cells));
        entries
    }

    /// Those kinds of request whose bodies matter when these callers send them too.
    fn of_interest(&self, cells: &BTreeMap<Cell, Need>, by: By) -> BTreeSet<Cell> {
        let matters = |cell: &Cell, need: &Need| {
            by.whos().iter().any(|who| {
                let rules = need.rules.iter().map(|at| &self.needs.rules[*at]);
                rules.into_iter().any(|asked| asked.level(&asked.known(cell.0, &cell.1, who)) > Level::Metadata)
            })
        };
        // All that is written of a kind stands together: that is easier to read, and costs next to nothing.
        let kinds: BTreeSet<&Kind> =
            cells.iter().filter(|(cell, need)| matters(cell, need)).map(|((_, kind), _)| kind).collect();
        cells.keys().filter(|(_, kind)| kinds.contains(kind)).cloned().collect()
    }

    /// The most first, and what holds for a whole group last.
    fn entries(&self, cells: &BTreeMap<Cell, Need>) -> Vec<Entry> {
        let said = |(cell, need): (&Cell, &Need)| {
            let whole = cell.1.resource.is_none();
            let topic = if need.level > Level::Metadata { cell.1.topic() } else { (0, "") };
            (cell.clone(), (Reverse(need.level), whole, topic, secret_in(&cell.1, need.level)))
        };
        let entry = |((level, _, topic, secret), verbs, kinds): Merged<Said>| {
            let of = |verb: &&'static str| kinds.iter().filter_map(|kind| cells.get(&(*verb, kind.clone())));
            let for_rules: BTreeSet<usize> = verbs.iter().flat_map(of).flat_map(|need| &need.rules).copied().collect();
            let warning = secret
                .map(|what| format!("CAREFUL: the log will hold {what}. See --no-credentials, or disable the rules."));
            let topic = Some(topic.1.to_owned()).filter(|topic| !topic.is_empty());
            Entry {
                why: topic.into_iter().chain(warning).collect(),
                rules: titles(self.needs, &for_rules),
                rule: about(level.0, &verbs, &kinds),
            }
        };
        joined(merged(cells.iter().map(said))).into_iter().map(entry).collect()
    }

    /// What remains: all of it without bodies, or nothing but what rules name.
    fn rest(&self, metadata: &BTreeMap<Cell, Need>, rest: Level, paths: Level) -> Section {
        let catch_all = |level: Level, why: &str| Entry {
            why: vec![why.to_owned()],
            rules: BTreeSet::new(),
            rule: PolicyRule { level, ..PolicyRule::default() },
        };
        if rest == Level::None {
            let mut entries = self.entries(metadata);
            if paths > Level::None {
                let rule = PolicyRule {
                    level: Level::Metadata,
                    non_resource_urls: vec!["*".to_owned()],
                    ..Default::default()
                };
                entries.push(Entry { rule, ..Entry::default() });
            }
            entries.push(catch_all(Level::None, "No rule looks at anything else."));
            return Section { title: "What rules look at without bodies, and the rest", entries };
        }
        let mut entries = Vec::new();
        if rest > Level::Metadata {
            entries.push(credentials_without_bodies(&credentials().collect::<Vec<_>>()));
            entries.push(catch_all(rest, "Rules look into bodies whatever the resource is."));
        } else {
            entries.push(catch_all(rest, "Who did what. Some rules look at every request."));
        }
        Section { title: "Everything else", entries }
    }
}

/// Whether a kind is among these; of the group `*` are subresources of any.
fn is_one_of(kind: &Kind, resources: &[(&str, &[&str])]) -> bool {
    resources.iter().any(|(group, names)| match (*group, *names) {
        ("*", names) => names.contains(&&*kind.subresource),
        (group, names) => kind.group.as_deref() == Some(group) && names.contains(&&*kind.name()),
    })
}

/// Level, whether it is of a whole group, what it is about, and which secrets it reveals.
type Said = (Reverse<Level>, bool, (usize, &'static str), Option<&'static str>);

/// Rules about the noise of somebody.
fn by(noise: &Noise, merged: Vec<Merged<Level>>) -> Vec<Entry> {
    let (users, user_groups) = noise.by.users_and_groups();
    let entry = |(level, verbs, kinds): Merged<Level>| Entry {
        why: vec![noise.title.to_owned()],
        rules: BTreeSet::new(),
        rule: PolicyRule { users: users.clone(), user_groups: user_groups.clone(), ..about(level, &verbs, &kinds) },
    };
    merged.into_iter().filter(|(_, _, kinds)| !kinds.is_empty()).map(entry).collect()
}

/// Verbs in their usual order.
pub(super) fn in_order(verbs: impl IntoIterator<Item = &'static str>) -> Vec<&'static str> {
    let mut verbs: Vec<_> = verbs.into_iter().collect();
    verbs.sort_by_key(|verb| api::VERBS.iter().position(|known| known == verb));
    verbs
}

/// What is said of all requests of some verbs about some kinds.
type Merged<T> = (T, Vec<&'static str>, Vec<Kind>);

/// Puts together the kinds of which the same is said for the same verbs.
fn merged<T: Ord + Copy>(cells: impl Iterator<Item = (Cell, T)>) -> Vec<Merged<T>> {
    let mut verbs: BTreeMap<(T, Kind), Vec<&'static str>> = BTreeMap::new();
    for ((verb, kind), said) in cells {
        verbs.entry((said, kind)).or_default().push(verb);
    }
    let mut kinds: BTreeMap<(T, Vec<&'static str>), Vec<Kind>> = BTreeMap::new();
    for ((said, kind), of) in verbs {
        kinds.entry((said, in_order(of))).or_default().push(kind);
    }
    kinds.into_iter().map(|((said, verbs), kinds)| (said, verbs, kinds)).collect()
}

/// Puts kinds together that differ in verbs only of which there are no requests: nobody creates `pods/ephemeralcontainers`.
fn joined<T: Ord>(mut merged: Vec<Merged<T>>) -> Vec<Merged<T>> {
    merged.sort_by(|a, b| (&a.0, Reverse(a.1.len())).cmp(&(&b.0, Reverse(b.1.len()))));
    let mut joined: Vec<Merged<T>> = Vec::new();
    for (said, verbs, kinds) in merged {
        let holds_them = |others: &[&'static str]| {
            let mut more = others.iter().filter(|verb| !verbs.contains(verb));
            verbs.iter().all(|verb| others.contains(verb))
                && more.all(|verb| kinds.iter().all(|kind| !kind.takes(verb)))
        };
        match joined.iter().position(|(other, of, _)| *other == said && holds_them(of)) {
            Some(at) => {
                joined[at].2.extend(kinds);
                joined[at].2.sort();
            }
            None => joined.push((said, verbs, kinds)),
        }
    }
    joined
}

/// Says `*/status` where all of a group's are there.
fn shorten(group: &mut GroupResources) {
    let all: Vec<String> = api::kinds()
        .filter(|kind| kind.group.as_deref() == Some(&group.group) && kind.subresource == "status")
        .map(|kind| kind.name())
        .collect();
    if !all.is_empty() && all.iter().all(|name| group.resources.contains(name)) {
        group.resources.retain(|name| !all.contains(name));
        group.resources.push("*/status".to_owned());
    }
}

/// A rule about all requests of some verbs about some kinds.
pub(super) fn about(level: Level, verbs: &[&str], kinds: &[Kind]) -> PolicyRule {
    let mut resources: Vec<GroupResources> = Vec::new();
    let whole = |group: &Option<String>| kinds.iter().any(|kind| kind.resource.is_none() && kind.group == *group);
    for kind in kinds {
        let group = kind.group.clone().unwrap_or_default();
        if resources.last().is_none_or(|last| last.group != group) {
            resources.push(GroupResources { group, ..GroupResources::default() });
        }
        if let Some(last) = resources.last_mut().filter(|_| !whole(&kind.group)) {
            last.resources.push(kind.name());
        }
    }
    resources.iter_mut().for_each(shorten);
    // All verbs are as good as none named.
    let all = verbs.len() == api::VERBS.len();
    let verbs = if all { Vec::new() } else { verbs.iter().map(|verb| (*verb).to_owned()).collect() };
    PolicyRule { level, verbs, resources, ..PolicyRule::default() }
}
