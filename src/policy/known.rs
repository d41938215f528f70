//! What is known of an event before it is there: some fields, some that it lacks, and of others what they may be. An
//! expression asked about it is true, false, or open, and then it reads fields that a policy must let through.

use serde_json::{Value, json};

use super::api::{self, CONNECTS, Kind, READS};
use super::model::{Level, Stage};
use crate::rule::field::Field;
use crate::rule::ir::{Expr, Glob, Op, Relation, Test, Text};
use crate::rule::naive;

/// What an expression comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// No such event makes it true.
    False,
    /// Every such event makes it true.
    True,
    /// It depends on fields of this level.
    Open(Level),
}

impl Truth {
    /// Whether an event may make it true.
    #[must_use]
    pub fn may_be(&self) -> bool {
        *self != Self::False
    }

    /// The level that an event must have so that nothing is missing; `None` where no event makes it true.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::False => Level::None,
            Self::True => Level::Metadata,
            Self::Open(level) => *level,
        }
    }

    fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::True => Self::False,
            Self::Open(level) => Self::Open(level),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Anybody, with or without a credential.
    Anybody,
    /// The user of this name.
    User(String),
    /// A user with these groups and no others.
    Caller {
        /// The name.
        name: String,
        /// The groups.
        groups: Vec<String>,
    },
    /// Those whose names begin so.
    Named {
        /// How their names begin.
        prefix: &'static str,
        /// A group that they are all in, and nobody else.
        group: &'static str,
    },
    /// Nobody: the credential was refused.
    Nobody,
}

/// What a field may be.
#[derive(Clone, Debug)]
enum Samples {
    /// A text that begins so.
    Beginning(&'static str),
    /// A resource that not every Kubernetes serves.
    OtherResource,
    /// A group that neither every Kubernetes has nor any rule names.
    OtherGroup,
    /// One of these.
    These(Vec<Value>),
}

const AUTHENTICATED: &str = "system:authenticated";

/// The groups of the control plane's own users.
fn groups_of(name: &str) -> &'static [&'static str] {
    match name {
        "system:apiserver" => &["system:masters", AUTHENTICATED],
        "system:kube-controller-manager" | "system:kube-scheduler" | "system:kube-proxy" => &[AUTHENTICATED],
        "system:anonymous" => &["system:unauthenticated"],
        _ => &[],
    }
}

/// What is known of an event.
#[derive(Clone, Debug)]
pub struct Known {
    event: Value,
    /// Paths of which all is known, what lies below them included. What the event lacks there is not there.
    paths: Vec<String>,
    samples: Vec<(&'static str, Samples)>,
}

/// The codes of answers to requests with a good credential.
const CODES: [u16; 18] = [101, 200, 201, 202, 204, 304, 400, 403, 404, 405, 409, 410, 413, 422, 429, 500, 503, 504];

impl Known {
    /// A request of a verb about a kind of resource.
    #[must_use]
    pub fn resource(verb: &str, kind: &Kind, who: &Who) -> Self {
        let mut known = Self::caller(who);
        known.set("verb", json!(verb));
        known.event["objectRef"] = json!({});
        match (&kind.group, &kind.resource) {
            (Some(group), Some(resource)) => {
                known.set_below("objectRef", "apiGroup", group);
                known.set_below("objectRef", "resource", resource);
                known.set_below("objectRef", "subresource", &kind.subresource);
            }
            (Some(group), None) => {
                known.set_below("objectRef", "apiGroup", group);
                known.samples.push(("objectRef.resource", Samples::OtherResource));
            }
            (None, _) => known
                .samples
                .extend([("objectRef.resource", Samples::OtherResource), ("objectRef.apiGroup", Samples::OtherGroup)]),
        }
        known.without_bodies(verb, &kind.subresource);
        known
    }

    /// A request of a verb about no resource; `uri` where that is known.
    #[must_use]
    pub fn path(verb: Option<&str>, uri: Option<&str>, who: &Who) -> Self {
        let mut known = Self::caller(who);
        match verb {
            Some(verb) => known.set("verb", json!(verb)),
            None => {
                let verbs = ["get", "head", "post", "put", "patch", "delete", "options"];
                known.samples.push(("verb", Samples::These(verbs.map(Value::from).to_vec())));
            }
        }
        if let Some(uri) = uri {
            known.set("requestURI", json!(uri));
        }
        known.paths.extend(["objectRef", "requestObject", "responseObject"].map(str::to_owned));
        known
    }

    fn caller(who: &Who) -> Self {
        let stages = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"].map(Value::from).to_vec();
        let mut known = Self { event: json!({}), paths: Vec::new(), samples: vec![("stage", Samples::These(stages))] };
        match who {
            Who::Anybody => {}
            Who::User(name) => {
                known.event["user"] = json!({"username": name});
                known.paths.push("user.username".to_owned());
                known.in_groups(groups_of(name));
            }
            Who::Caller { name, groups } => {
                known.event["user"] = json!({"username": name});
                known.paths.push("user.username".to_owned());
                let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
                known.in_groups(&groups);
            }
            Who::Named { prefix, group } => {
                known.samples.push(("user.username", Samples::Beginning(prefix)));
                known.in_groups(&[group, AUTHENTICATED]);
            }
            Who::Nobody => {
                known.event["user"] = json!({});
                known.event["responseStatus"] = json!({"code": 401});
                known
                    .paths
                    .extend(["user", "responseStatus.code", "impersonatedUser", "annotations"].map(str::to_owned));
            }
        }
        if *who != Who::Nobody {
            known.samples.push(("responseStatus.code", Samples::These(CODES.map(Value::from).to_vec())));
        }
        known
    }

    /// The caller is in these groups and no others; nothing is known if there are none.
    fn in_groups(&mut self, groups: &[&str]) {
        if !groups.is_empty() {
            self.set_below("user", "groups", "");
            self.event["user"]["groups"] = json!(groups);
        }
    }

    /// Which bodies such a request has not.
    fn without_bodies(&mut self, verb: &str, subresource: &str) {
        let connects = CONNECTS.contains(&subresource);
        if READS.contains(&verb) || connects {
            self.lacks("requestObject");
        }
        if verb == "watch" || connects {
            self.lacks("responseObject");
        }
        // The body of a deletion is its options.
        if verb.starts_with("delete") {
            ["spec", "metadata", "data", "roleRef", "subjects", "rules", "webhooks", "status"]
                .iter()
                .for_each(|part| self.lacks(&format!("requestObject.{part}")));
        }
    }

    /// Of the request, only the verb.
    #[must_use]
    pub fn of_verb(verb: &str) -> Self {
        let mut known = Self { event: json!({}), paths: Vec::new(), samples: Vec::new() };
        known.set("verb", json!(verb));
        known
    }

    /// Of the request, only the caller.
    #[must_use]
    pub fn of_caller(who: &Who) -> Self {
        Self::caller(who)
    }

    /// Nothing is known of the verb any more.
    pub fn forget_verb(&mut self) {
        self.paths.retain(|path| path != "verb");
    }

    /// Of the request, only what it is about.
    #[must_use]
    pub fn of_kind(kind: &Kind) -> Self {
        let mut known = Self::resource("", kind, &Who::Anybody);
        known.event["verb"] = Value::Null;
        known.paths.retain(|path| path.starts_with("objectRef"));
        known
    }

    /// Such an event has nothing at a path, or below it.
    pub fn lacks(&mut self, path: &str) {
        self.paths.push(path.to_owned());
    }

    /// Such an event has this at a path of one name.
    pub fn set(&mut self, path: &'static str, value: Value) {
        self.event[path] = value;
        self.samples.retain(|(sampled, _)| *sampled != path);
        self.paths.push(path.to_owned());
    }

    /// Such an event has this text at a path of two names; nothing if it is empty.
    pub fn set_below(&mut self, above: &str, name: &str, text: &str) {
        if !text.is_empty() {
            self.event[above][name] = text.into();
        }
        self.paths.push(format!("{above}.{name}"));
    }

    /// An event of this stage.
    pub fn at(&mut self, stage: Stage) {
        self.set("stage", stage.as_str().into());
        if stage == Stage::RequestReceived {
            ["responseStatus", "annotations", "responseObject", "impersonatedUser"]
                .iter()
                .for_each(|path| self.lacks(path));
            self.samples.retain(|(path, _)| *path != "responseStatus.code");
        }
    }

    /// Such an event is of this level.
    pub fn limit(&mut self, level: Level) {
        if level < Level::Request {
            self.lacks("requestObject");
        }
        if level < Level::RequestResponse {
            self.lacks("responseObject");
        }
    }

    /// What an expression comes to.
    #[must_use]
    pub fn ask(&self, expr: &Expr) -> Truth {
        match expr {
            Expr::All(parts) => all(parts.iter().map(|part| self.ask(part))),
            Expr::Any(parts) => all(parts.iter().map(|part| self.ask(part).not())).not(),
            Expr::Not(part) => self.ask(part).not(),
            Expr::Test(test) => self.test(test),
        }
    }

    fn test(&self, test: &Test) -> Truth {
        let level = self.level(test);
        let Some(reads) = reads(test) else { return Truth::Open(level) };
        let mut sampled = None;
        for path in &reads {
            if self.knows(path) {
                continue;
            }
            match self.samples.iter().find(|(of, _)| of == path) {
                Some(samples) if sampled.is_none() => sampled = Some(samples),
                _ => return Truth::Open(level),
            }
        }
        let Some((path, samples)) = sampled else { return truth(naive::test_holds(test, &self.event)) };
        let Some(values) = samples.values(&test.op) else { return Truth::Open(level) };
        let mut event = self.event.clone();
        let mut answers = values.into_iter().map(|value| {
            put(&mut event, path, value);
            naive::test_holds(test, &event)
        });
        let first = answers.next().unwrap_or_default();
        if answers.all(|answer| answer == first) { truth(first) } else { Truth::Open(level) }
    }

    /// The level of the fields that a test reads, as far as such an event may have them.
    fn level(&self, test: &Test) -> Level {
        let Some(reads) = reads(test) else {
            // Anything: bodies too, where there are any. What an answer repeats was in the request.
            return if self.knows("requestObject") { Level::Metadata } else { Level::Request };
        };
        reads.iter().map(|path| self.level_of(path)).max().unwrap_or(Level::Metadata)
    }

    /// The level of a field, as far as such an event may have it.
    #[must_use]
    pub fn level_of(&self, path: &str) -> Level {
        if self.knows(path) { Level::Metadata } else { level_of(path) }
    }

    fn knows(&self, path: &str) -> bool {
        self.paths.iter().any(|known| below(path, known))
    }
}

/// False if one is, else open if one is.
fn all(parts: impl Iterator<Item = Truth>) -> Truth {
    let mut all = Truth::True;
    for part in parts {
        all = match (all, part) {
            (_, Truth::False) => return Truth::False,
            (all, Truth::True) => all,
            (Truth::Open(a), Truth::Open(b)) => Truth::Open(a.max(b)),
            (_, open) => open,
        };
    }
    all
}

/// Whether a path is another, or lies below it.
fn below(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The least level at which events have a field.
#[must_use]
pub fn level_of(path: &str) -> Level {
    if below(path, "requestObject") {
        Level::Request
    } else if below(path, "responseObject") {
        Level::RequestResponse
    } else {
        Level::Metadata
    }
}

/// The paths that a test reads; `None` if it may read all.
#[must_use]
pub fn reads(test: &Test) -> Option<Vec<&str>> {
    let of = |field: &'_ Field| match field {
        Field::Anything => false,
        // What is made of nothing that is named is made of the whole event, or of nothing.
        Field::Derived(derived) => !derived.reads.is_empty(),
        Field::Path(_) => true,
    };
    let other = match &test.op {
        Op::Field { other, .. } => Some(other),
        _ => None,
    };
    let fields = [Some(&test.field), other];
    let mut fields = fields.into_iter().flatten();
    fields.clone().all(of).then(|| fields.by_ref().flat_map(Field::reads).map(|path| path.path()).collect())
}

fn truth(holds: bool) -> Truth {
    if holds { Truth::True } else { Truth::False }
}

/// Puts a value where a path of one or two names leads.
fn put(event: &mut Value, path: &str, value: Value) {
    match path.split_once('.') {
        None => event[path] = value,
        Some((above, name)) => {
            if !event[above].is_object() {
                event[above] = json!({});
            }
            event[above][name] = value;
        }
    }
}

impl Samples {
    /// Values among which is one for each way in which a question can be answered; `None` if that cannot be told.
    fn values(&self, op: &Op) -> Option<Vec<Value>> {
        if let Self::These(values) = self {
            return Some(values.clone());
        }
        let texts = texts_of(op)?;
        Some(match self {
            Self::These(values) => values.clone(),
            Self::Beginning(prefix) => {
                let own = [format!("{prefix}x1")].into_iter();
                let with = texts.iter().map(|text| format!("{prefix}{text}"));
                let longer = texts.iter().filter(|text| text.starts_with(prefix)).cloned();
                own.chain(with).chain(longer).map(Value::from).collect()
            }
            Self::OtherResource => others(texts.into_iter().filter(|text| !api::is_known(text))),
            // Those that rules name are kinds of their own.
            Self::OtherGroup if !insists(op).is_empty() => others(std::iter::empty()),
            Self::OtherGroup => others(texts.into_iter().map(|text| format!("{text}.example.com"))),
        })
    }
}

fn others(texts: impl Iterator<Item = String>) -> Vec<Value> {
    std::iter::once("widgets".to_owned()).chain(texts).map(Value::from).collect()
}

/// Texts that a question is about; `None` if that cannot be told.
fn texts_of(op: &Op) -> Option<Vec<String>> {
    Some(match op {
        Op::Exists | Op::Null | Op::Number(_) | Op::Compare(..) => Vec::new(),
        Op::Text { pattern: Text::Plain(_, text), .. } => vec![text.clone()],
        Op::Text { pattern: Text::Glob(pieces), .. } => vec![of_glob(pieces)],
        Op::OneOf { texts, .. } => texts.clone(),
        Op::Regex(_) | Op::Time(..) | Op::Cidr(_) | Op::Field { .. } => return None,
    })
}

/// A text that a pattern matches.
fn of_glob(pieces: &[Glob]) -> String {
    pieces
        .iter()
        .map(|piece| match piece {
            Glob::Literal(text) => text.as_str(),
            Glob::Many => "",
            Glob::One => "x",
        })
        .collect()
}

/// A text of which a question about a part of it is true.
#[must_use]
pub fn example(op: &Op) -> Option<String> {
    match op {
        Op::Text { pattern: Text::Plain(Relation::StartsWith, text), .. } => Some(format!("{text}x")),
        Op::Text { pattern: Text::Plain(Relation::EndsWith, text), .. } => Some(format!("x{text}")),
        Op::Text { pattern: Text::Plain(Relation::Contains, text), .. } => Some(text.clone()),
        Op::Text { pattern: Text::Glob(pieces), .. } => Some(of_glob(pieces)),
        _ => None,
    }
}

/// The values that a question insists on, if it is true of few: for plain equality only.
#[must_use]
pub fn insists(op: &Op) -> &[String] {
    match op {
        Op::Text { pattern: Text::Plain(Relation::Is, text), .. } => std::slice::from_ref(text),
        Op::OneOf { texts, .. } => texts,
        _ => &[],
    }
}
