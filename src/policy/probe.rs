//! Examples of requests of which a rule can be true: what a policy is asked about.

use super::api::{Kind, VERBS};
use super::evaluate::{Request, Resource, Target};
use super::known::{Known, Who};
use super::model::Stage;
use super::needs::Asked;

/// Values that a rule names for a field of which examples are made.
const VALUES_MAX: usize = 8;

/// An example: what is known of it to the rule, and how kube-apiserver sees it.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) verb: &'static str,
    /// `None` for a request about no resource.
    pub(super) kind: Option<Kind>,
    pub(super) known: Known,
    pub(super) request: Request,
    /// The stages at which events of it are written, before a policy omits any.
    pub(super) stages: Vec<Stage>,
}

/// Examples of all kinds of request of which a rule can be true. Of a rule that is about requests of any kind they are
/// such as no policy names.
pub(super) fn probes(asked: &Asked<'_>, kinds: &[(Known, Kind)]) -> Vec<Probe> {
    let callers = callers(asked);
    let general = |verb: &str| callers.iter().any(|who| asked.is_about_any_kind(verb, who));
    let others = [Kind::others(None)];
    let kinds: Vec<Kind> =
        kinds.iter().filter(|(known, _)| asked.may_be(known)).map(|(_, kind)| kind.clone()).collect();
    let mut found = Vec::new();
    for verb in VERBS.into_iter().filter(|verb| asked.may_be(&Known::of_verb(verb))) {
        let kinds = if general(verb) { &others[..] } else { &kinds };
        for kind in kinds.iter().filter(|kind| kind.takes(verb)) {
            found.extend(callers.iter().flat_map(|who| about(asked, verb, kind, who)));
        }
    }
    found.extend(callers.iter().filter_map(|who| elsewhere(asked, who)));
    found
}

/// Examples of all requests of some kinds, for a rule that is about any.
pub(super) fn everywhere(asked: &Asked<'_>, kinds: &[(Known, Kind)]) -> Vec<Probe> {
    let callers = callers(asked);
    let of = |verb| kinds.iter().filter(move |(_, kind)| kind.takes(verb)).map(move |(_, kind)| (verb, kind));
    let cells = VERBS.into_iter().flat_map(of);
    cells
        .flat_map(|(verb, kind)| callers.iter().flat_map(|who| about(asked, verb, kind, who)).collect::<Vec<_>>())
        .collect()
}

fn caller(name: &str, groups: &[&str]) -> Who {
    Who::Caller { name: name.to_owned(), groups: groups.iter().map(|group| (*group).to_owned()).collect() }
}

/// Callers that the rule can be about: those it names, or else the first of some usual ones; and nobody.
fn callers(asked: &Asked<'_>) -> Vec<Who> {
    let usual = [
        caller("alice", &["system:authenticated"]),
        caller(
            "system:serviceaccount:shop:web",
            &["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
        ),
        caller(
            "system:serviceaccount:shop:default",
            &["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"],
        ),
        caller("system:anonymous", &["system:unauthenticated"]),
        caller("kubernetes-admin", &["system:masters", "kubeadm:cluster-admins", "system:authenticated"]),
        caller("system:node:node-1", &["system:nodes", "system:authenticated"]),
        caller("system:bootstrap:abcdef", &["system:bootstrappers", "system:authenticated"]),
    ];
    let may_be = |who: &Who| asked.may_be(&Known::of_caller(who));
    let mut found: Vec<Who> = usual.into_iter().find(|who| may_be(who)).into_iter().collect();
    if found.is_empty() {
        let named = asked.values("user.username").into_iter().take(VALUES_MAX).map(|name| Who::User(name.to_owned()));
        found.extend(named.filter(|who| may_be(who)));
    }
    found.extend(Some(Who::Nobody).filter(may_be));
    if found.is_empty() { vec![Who::Anybody] } else { found }
}

/// Examples of one kind of request, in the namespaces and with the names that the rule names.
fn about(asked: &Asked<'_>, verb: &'static str, kind: &Kind, who: &Who) -> Vec<Probe> {
    let known = asked.known(verb, kind, who);
    if !asked.may_be(&known) {
        return Vec::new();
    }
    let mut probes = Vec::new();
    let namespaces: &[&str] = if kind.is_namespaced() { &["shop", ""] } else { &["", "web"] };
    for namespace in choices(asked, &known, "namespace", namespaces) {
        let known = with(&known, "namespace", namespace.as_deref());
        for name in choices(asked, &known, "name", &["web", ""]) {
            let known = with(&known, "name", name.as_deref());
            let (namespace, name) = (namespace.as_deref().unwrap_or("shop"), name.as_deref().unwrap_or("web"));
            probes.push(probe(verb, kind, who, known, namespace, name));
        }
    }
    probes
}

fn with(known: &Known, field: &str, value: Option<&str>) -> Known {
    let mut known = known.clone();
    if let Some(value) = value {
        known.set_below("objectRef", field, value);
    }
    known
}

/// What a field can be: all that the rule names, or the first of some usual values.
fn choices(asked: &Asked<'_>, known: &Known, field: &str, usual: &[&str]) -> Vec<Option<String>> {
    let may_be = |value: &&str| {
        let mut known = known.clone();
        known.set_below("objectRef", field, value);
        asked.may_be(&known)
    };
    let path = format!("objectRef.{field}");
    let examples = asked.examples(&path);
    let named = asked.values(&path).into_iter().chain(examples.iter().map(String::as_str));
    let mut found: Vec<&str> = named.filter(may_be).take(VALUES_MAX).collect();
    if found.is_empty() {
        found.extend(usual.iter().copied().find(may_be));
    }
    // Whatever it is that the rule wants there, a policy can hardly name it.
    let unknown = found.is_empty().then_some(None);
    found.into_iter().map(|value| Some(value.to_owned())).chain(unknown).collect()
}

fn probe(verb: &'static str, kind: &Kind, who: &Who, known: Known, namespace: &str, name: &str) -> Probe {
    let (user, groups) = identity(who);
    let named = verb != "create" || !kind.subresource.is_empty();
    let resource = Resource {
        group: kind.group.clone().unwrap_or_else(|| "example.com".to_owned()),
        resource: kind.resource.clone().unwrap_or_else(|| "widgets".to_owned()),
        subresource: kind.subresource.clone(),
        namespace: namespace.to_owned(),
        name: if named { name.to_owned() } else { String::new() },
    };
    Probe {
        verb,
        kind: Some(kind.clone()),
        known,
        request: Request { verb: verb.to_owned(), user, groups, target: Target::Resource(resource) },
        stages: stages(who, kind.is_long_running(verb)),
    }
}

/// A request about no resource, if the rule can be true of one.
fn elsewhere(asked: &Asked<'_>, who: &Who) -> Option<Probe> {
    let known = Known::path(None, None, who);
    let (user, groups) = identity(who);
    let target = Target::Path("/elsewhere".to_owned());
    let request = Request { verb: "get".to_owned(), user, groups, target };
    let stages = stages(who, false);
    asked.may_be(&known).then_some(Probe { verb: "get", kind: None, known, request, stages })
}

fn identity(who: &Who) -> (Option<String>, Vec<String>) {
    match who {
        Who::User(name) => (Some(name.clone()), vec!["system:authenticated".to_owned()]),
        Who::Caller { name, groups } => (Some(name.clone()), groups.clone()),
        Who::Anybody | Who::Named { .. } => (Some("alice".to_owned()), vec!["system:authenticated".to_owned()]),
        Who::Nobody => (None, Vec::new()),
    }
}

fn stages(who: &Who, long_running: bool) -> Vec<Stage> {
    match who {
        Who::Nobody => vec![Stage::RequestReceived, Stage::ResponseStarted],
        _ if long_running => vec![Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete],
        _ => vec![Stage::RequestReceived, Stage::ResponseComplete],
    }
}
