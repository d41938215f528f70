//! What of an event may be shown: the one place that everything passes which leaves an event for an alert, a summary, the
//! journal or an explanation.
//!
//! A value is hidden for the place where it stands (data of Secrets and ConfigMaps, values of environment variables,
//! whatever is named like a credential), or parts of it for what they look like (`credentials`). `docs/secrets.md` has the
//! list for users.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde_json::Value;

pub use super::credentials::REDACTED;
use super::credentials::{self, arguments, named, one_of};
use super::harmless::Harmless;
use crate::event::path::Found;
use crate::event::{FieldPath, Projection, Scratch, Slot, Val};
use crate::rule::field::{Derived, Field};
use crate::rule::make::{Apply, Items, Make};

const VALUE_MAX: usize = 256;
/// Of a longer text only the beginning is looked at: more of it is never shown.
const LOOKED_AT_MAX: usize = 64 << 10;
/// A longer JSON text in a value is not looked into, and so not shown.
const JSON_MAX: usize = 1 << 20;

/// Paths that are read of every event of which something is shown, so that it can be told what may be.
pub(super) fn reads() -> impl Iterator<Item = &'static str> {
    OfSecrets::reads().chain(["requestObject.path", "responseObject.path"])
}

/// Identities that are never secrets by their place: most of what is shown, so that nothing more is asked of them.
const NAMES: [&str; 13] = [
    "verb",
    "stage",
    "user.username",
    "user.groups",
    "impersonatedUser.username",
    "impersonatedUser.groups",
    "sourceIPs",
    "objectRef.resource",
    "objectRef.namespace",
    "objectRef.name",
    "objectRef.apiGroup",
    "objectRef.apiVersion",
    "objectRef.subresource",
];

/// A value of an event's field as it may be shown: short, and not a secret.
#[must_use]
pub fn show(field: &Field, value: &Value, event: &Value) -> Value {
    match field {
        Field::Path(path) => show_path(path, value, event),
        // It may be from anywhere, and so be a secret.
        Field::Anything => REDACTED.into(),
        Field::Derived(derived) => show_derived(derived, value, event),
    }
}

/// A value at a path.
fn show_path(field: &FieldPath, value: &Value, event: &Value) -> Value {
    Place::of(field, event).show(value)
}

/// Values of one field as they may be shown. What is hidden for its place is found out once.
pub(super) fn show_all<'v>(field: &Field, values: impl Iterator<Item = &'v Value>, event: &Value) -> Vec<Value> {
    match field {
        Field::Path(path) => show_path_all(path, values, event),
        field => values.map(|value| show(field, value, event)).collect(),
    }
}

/// The same of a path.
pub(super) fn show_path_all<'v>(
    field: &FieldPath,
    values: impl Iterator<Item = &'v Value>,
    event: &Value,
) -> Vec<Value> {
    let place = Place::of(field, event);
    values.map(|value| place.show(value)).collect()
}

/// How what stands at a path is shown of an event that is not about Secrets, where nothing else of it decides.
#[derive(Clone, Debug)]
pub(super) enum Plain {
    /// It is a name.
    Name,
    /// It is hidden.
    Secret,
    /// It is an address of a request.
    Uri,
    /// It is any text, at this path.
    Free(FieldPath),
}

impl Plain {
    /// `None` where something else does decide: what is an argument, or a value of a JSON patch, is hidden for what stands
    /// beside it, and a whole body may be anything.
    pub(super) fn of(field: &FieldPath) -> Option<Self> {
        let path = field.path();
        if NAMES.contains(&path) {
            return Some(Self::Name);
        }
        if is_uri(path) {
            return Some(Self::Uri);
        }
        let normal = normal(path);
        let patch = in_body(&normal).is_some_and(|(_, inside)| inside == "value" || inside.starts_with("value."));
        if is_arguments(path) || patch || ["requestobject", "responseobject"].contains(&&*normal) {
            return None;
        }
        Some(match () {
            () if is_secret(path, &Value::Null) => Self::Secret,
            () if is_identity(path) => Self::Name,
            () => Self::Free(field.clone()),
        })
    }

    /// A text.
    pub(super) fn show_text(&self, text: &str, harmless: &mut Harmless) -> Value {
        let shown = match self {
            Self::Name => harmless.name(text, VALUE_MAX),
            Self::Secret => REDACTED.into(),
            Self::Uri => shorten(text, VALUE_MAX, credentials::uri),
            Self::Free(field) if may_be_json(text) => return show_text(field.path(), text, &Value::Null),
            Self::Free(_) => harmless.text(text, VALUE_MAX),
        };
        shown.into_owned().into()
    }

    /// A value.
    pub(super) fn show(&self, value: &Value, harmless: &mut Harmless) -> Value {
        match (self, value) {
            (plain, Value::String(text)) => plain.show_text(text, harmless),
            (_, flag @ Value::Bool(_)) => flag.clone(),
            (Self::Secret, _) => REDACTED.into(),
            (_, other) => other.clone(),
        }
    }
}

/// Where values stand in an event.
struct Place<'p> {
    field: &'p FieldPath,
    event: &'p Value,
    /// Its texts are never secrets by their place.
    names: bool,
    secret: OnceCell<bool>,
    arguments: OnceCell<bool>,
}

impl<'p> Place<'p> {
    fn of(field: &'p FieldPath, event: &'p Value) -> Self {
        let names = NAMES.contains(&field.path());
        Self { field, event, names, secret: OnceCell::new(), arguments: OnceCell::new() }
    }

    fn show(&self, value: &Value) -> Value {
        let Self { field, event, .. } = *self;
        let path = field.path();
        if let Value::String(text) = value
            && self.names
        {
            return show_identity(text);
        }
        let flag = matches!(value, Value::Bool(_)) && !of_secret(event);
        if !flag && *self.secret.get_or_init(|| is_secret(path, event)) {
            return REDACTED.into();
        }
        match value {
            Value::String(_)
                if *self.arguments.get_or_init(|| is_arguments(path)) && follows_flag(field, value, event) =>
            {
                REDACTED.into()
            }
            Value::String(text) => show_text(path, text, event),
            other => other.clone(),
        }
    }
}

fn show_text(path: &str, text: &str, event: &Value) -> Value {
    if is_uri(path) {
        return shorten(text, VALUE_MAX, credentials::uri).into_owned().into();
    }
    if is_identity(path) {
        return show_identity(text);
    }
    // A whole body that is one text may be any object, in whatever form.
    if ["requestObject", "responseObject"].contains(&path) && !text.starts_with(['{', '[']) {
        return REDACTED.into();
    }
    show_json(path, text, event).unwrap_or_else(|| shorten(text, VALUE_MAX, credentials::without).into_owned().into())
}

fn show_identity(text: &str) -> Value {
    shorten(text, VALUE_MAX, credentials::without_shapes).into_owned().into()
}

fn may_be_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// A text that is an object or a list in JSON, without its secrets; `None` if it is none.
fn show_json(path: &str, text: &str, event: &Value) -> Option<Value> {
    if !may_be_json(text) {
        return None;
    }
    if text.len() > JSON_MAX {
        return Some(REDACTED.into());
    }
    let mut inner: Value = serde_json::from_str(text).ok()?;
    redact_within(path, &mut inner, event);
    Some(shorten(&inner.to_string(), VALUE_MAX, Cow::from).into_owned().into())
}

/// A value that was made of others.
fn show_derived(derived: &Derived, value: &Value, event: &Value) -> Value {
    if derived.reads.iter().any(|path| is_secret(path.path(), event)) {
        return REDACTED.into();
    }
    let (Value::String(text), Some(first)) = (value, derived.reads.first()) else {
        return if derived.reads.is_empty() { REDACTED.into() } else { value.clone() };
    };
    match &derived.make {
        Make::Parameter(name) => show_parameter(name, value),
        // Decoded, a credential could not be told from what is around it any more.
        Make::Apply(Apply::Decoded, _) => {
            first.resolve(event).into_iter().next().map_or(REDACTED.into(), |found| match found {
                Found::Scalar(value) => show_path(first, value, event),
                Found::Container => REDACTED.into(),
            })
        }
        Make::Json(pointer) if is_flagged(pointer, event) => REDACTED.into(),
        Make::Items(items) if follows_flag_of(items, text, event) => REDACTED.into(),
        make @ (Make::Json(_) | Make::Items(_)) => show_made_of(make, first.path(), value, event),
        make if hides(make, event) => REDACTED.into(),
        make => show_made_of(make, first.path(), value, event),
    }
}

fn show_made_of(make: &Make, path: &str, value: &Value, event: &Value) -> Value {
    match make {
        // The path says where the list is, not what is taken of its elements.
        Make::Items(items) => show_made(&format!("{path}{}", items.below.replace('/', ".")), value, event),
        _ => show_made(path, value, event),
    }
}

/// Whether something of what a value is made of must not be shown. Cut, joined, or in other letters, it would not be known
/// any more.
fn hides(make: &Make, event: &Value) -> bool {
    let at = |pointer: &str| event.pointer(pointer);
    match make {
        Make::Json(pointer) => {
            is_flagged(pointer, event) || at(pointer).is_some_and(|value| changes(pointer, value, event))
        }
        Make::Items(items) => at(items.list).and_then(Value::as_array).into_iter().flatten().any(|item| {
            let below = item.pointer(items.below);
            below.is_some_and(|value| match value {
                Value::Array(list) if list.iter().all(Value::is_string) => {
                    let words: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                    arguments(words.iter().copied()) != words
                }
                value => changes(&format!("{}{}", items.list, items.below), value, event),
            })
        }),
        Make::Path(path) => path.resolve(event).into_iter().any(|found| match found {
            Found::Scalar(value) => changes(&format!(".{}", path.path()), value, event),
            Found::Container => true,
        }),
        Make::Event => true,
        Make::Parameter(name) => at("/requestURI").is_some_and(|uri| named(name) || changes("/requestURI", uri, event)),
        Make::Apply(_, inner) => hides(inner, event),
        Make::Join(between, list) => hides(between, event) || hides(list, event),
        Make::First(makes) | Make::List(makes) | Make::Concat(makes) => makes.iter().any(|make| hides(make, event)),
        Make::Options { arguments, .. } => hides(arguments, event),
        Make::Text(_) | Make::Time | Make::PodName => false,
    }
}

/// Whether a value would not be shown as it is. Objects never are.
fn changes(pointer: &str, value: &Value, event: &Value) -> bool {
    match value {
        Value::Object(_) | Value::Array(_) => true,
        Value::String(text) => {
            let path = patched_path("", pointer);
            let path = path.trim_start_matches('.');
            show_text(path, text, event) != *shorten(text, VALUE_MAX, Cow::from)
        }
        _ => false,
    }
}

/// Whether a pointer leads to an argument that follows an option which takes a credential.
fn is_flagged(pointer: &str, event: &Value) -> bool {
    let Some((list, index)) = pointer.rsplit_once('/') else { return false };
    let Ok(index) = index.parse::<usize>() else { return false };
    is_arguments(&patched_path("", list)) && event.pointer(list).is_some_and(|list| hidden_words(list).contains(&index))
}

/// Whether a word stands so in one of the lists that are taken.
fn follows_flag_of(items: &Items, word: &str, event: &Value) -> bool {
    let elements = event.pointer(items.list).and_then(Value::as_array).into_iter().flatten();
    is_arguments(&items.below.replace('/', "."))
        && elements
            .filter_map(|element| element.pointer(items.below))
            .any(|list| hidden_words(list).into_iter().any(|at| list.get(at).and_then(Value::as_str) == Some(word)))
}

/// Which words of a list of arguments are hidden for the ones before them.
fn hidden_words(list: &Value) -> Vec<usize> {
    let words = list.as_array().into_iter().flatten().map(|word| word.as_str().unwrap_or_default());
    let shown = arguments(words).into_iter().enumerate();
    shown.filter(|(_, shown)| shown == REDACTED).map(|(at, _)| at).collect()
}

/// A parameter of the request's URI.
fn show_parameter(name: &str, value: &Value) -> Value {
    let Value::String(text) = value else { return value.clone() };
    if named(name) {
        return REDACTED.into();
    }
    shorten(text, VALUE_MAX, |text| credentials::script(text).into()).into_owned().into()
}

fn show_made(path: &str, value: &Value, event: &Value) -> Value {
    match value {
        // Cut out of a body's data, or decoded from it.
        Value::String(text) if is_data(path) => show_json(path, text, event).unwrap_or_else(|| REDACTED.into()),
        Value::String(text) => show_text(path, text, event),
        other => other.clone(),
    }
}

/// At most `max` characters of what `clean` makes of a text; what is left out is told.
pub(super) fn shorten<'t>(text: &'t str, max: usize, clean: impl FnOnce(&'t str) -> Cow<'t, str>) -> Cow<'t, str> {
    let clean = clean(&text[..text.floor_char_boundary(LOOKED_AT_MAX)]);
    let too_long = if clean.len() <= max { None } else { clean.char_indices().nth(max) };
    match too_long {
        None => clean,
        Some((at, _)) => format!("{}… ({} bytes)", &clean[..at], text.len()).into(),
    }
}

/// Takes out of an object, which is at `path`, what must not be shown.
fn redact_within(path: &str, value: &mut Value, event: &Value) {
    match value {
        Value::Array(items) if is_arguments(path) && items.iter().all(Value::is_string) => {
            let shown: Vec<Value> =
                arguments(items.iter().filter_map(Value::as_str)).into_iter().map(Value::from).collect();
            *items = shown;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redact_within(path, item, event)),
        Value::Object(map) => {
            // An operation of a JSON patch: its value is what is at its path.
            let patched = map.get("op").and_then(|_| map.get("path")?.as_str()).map(|at| patched_path(path, at));
            for (key, value) in map {
                let path = match &patched {
                    Some(patched) if key == "value" => patched.clone(),
                    _ => format!("{path}.{key}"),
                };
                if !value.is_boolean() && (below_data(&path) || is_secret(&path, event)) {
                    *value = REDACTED.into();
                } else {
                    redact_within(&path, value, event);
                }
            }
        }
        Value::String(text) => {
            if let Value::String(shown) = show_text(path, text, event) {
                *text = shown;
            }
        }
        _ => {}
    }
}

/// Whether the values at a path must not be shown.
fn is_secret(path: &str, event: &Value) -> bool {
    if path.contains("last-applied-configuration") || path.contains("patch.webhook.admission.k8s.io") {
        return true;
    }
    let path = normal(path);
    if let Some(extra) = path.split_once(".extra.").map(|(_, extra)| extra) {
        return !is_public_extra(extra);
    }
    if let Some(annotation) = path.strip_prefix("annotations.") {
        return !of_kubernetes(annotation) && named(annotation);
    }
    let Some((body, inside)) = in_body(&path) else { return false };
    if inside == "value" || inside.starts_with("value.") {
        return patch_is_secret(body, inside, event);
    }
    let inside = inside.strip_prefix("items.").unwrap_or(inside);
    secret_inside(inside) || (of_secret(event) && !harmless_of_secret(inside))
}

/// As it is compared: in lower case, without indexes, and without what points into lists.
fn normal(path: &str) -> String {
    let keys = path.split('.').filter(|key| *key != "-" && !key.bytes().all(|byte| byte.is_ascii_digit()));
    keys.collect::<Vec<_>>().join(".").to_ascii_lowercase()
}

/// A path in a body: which body, and the path in it.
fn in_body(path: &str) -> Option<(&'static str, &str)> {
    [("requestObject", "requestobject."), ("responseObject", "responseobject.")]
        .into_iter()
        .find_map(|(body, prefix)| Some((body, path.strip_prefix(prefix)?)))
}

/// Whether what is at a path in a body must not be shown, whatever the body is.
fn secret_inside(inside: &str) -> bool {
    let (first, last) = (inside.split('.').next(), inside.rsplit('.').next().unwrap_or(inside));
    // What ConfigMaps hold: anything, and often what should have been a Secret.
    if matches!(first, Some("data" | "binarydata" | "stringdata")) && inside.contains('.') {
        return true;
    }
    if inside.contains(".stringdata.") || inside == "env.value" || inside.ends_with(".env.value") {
        return true;
    }
    if let Some((_, annotation)) = inside.split_once("annotations.") {
        return !of_kubernetes(annotation) && named(annotation);
    }
    let reference = ["key", "path", "namespace", "optional", "kind", "type", "apiversion", "uid", "mode", "audience"];
    let reference = reference.contains(&last)
        || ["name", "audiences", "expirationseconds", "mode"].iter().any(|end| last.ends_with(end))
        || last.starts_with("automount");
    // Lists of what is asked for, such as the resources of a role, have no credentials in their names' place.
    !reference && inside.split('.').any(|key| named(key) && key != "authorization.k8s")
}

/// What of a Secret is no secret.
fn harmless_of_secret(inside: &str) -> bool {
    let annotation = inside.strip_prefix("metadata.annotations.");
    ["kind", "type", "apiversion", "immutable"].contains(&inside)
        || (inside.starts_with("metadata.") && annotation.is_none_or(of_kubernetes))
}

/// An annotation that Kubernetes itself has made: it names credentials, and holds none.
fn of_kubernetes(annotation: &str) -> bool {
    annotation.split('/').next().is_some_and(|domain| {
        ["k8s.io", "kubernetes.io"].iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}")))
    })
}

/// What authenticators tell of a user, where it is known to be no credential.
fn is_public_extra(extra: &str) -> bool {
    of_kubernetes(extra)
        || ["scopes.authorization.openshift.io", "arn", "canonicalarn", "sessionname", "principalid", "oid"]
            .contains(&extra)
}

/// A JSON patch has its values beside the paths that they are for: one secret among them hides them all.
fn patch_is_secret(body: &str, inside: &str, event: &Value) -> bool {
    let below = inside.strip_prefix("value").unwrap_or_default();
    match event.get(body) {
        Some(Value::Array(operations)) => operations.iter().any(|operation| {
            let at = operation.get("path").and_then(Value::as_str);
            at.is_none_or(|at| {
                let path = format!("{}{below}", patched_path(body, at));
                below_data(&path) || is_secret(&path, event)
            })
        }),
        _ => of_secret(event) || secret_inside(inside),
    }
}

/// The path that a JSON patch's pointer means.
fn patched_path(body: &str, pointer: &str) -> String {
    format!("{body}{}", pointer.replace('/', ".").replace("~1", "/").replace("~0", "~"))
}

/// Where a ConfigMap or a Secret, which may be in a list or in a text, has its data.
fn is_data(path: &str) -> bool {
    let path = normal(path);
    let inside = in_body(&path).map(|(_, inside)| inside).unwrap_or_default();
    ["requestobject", "responseobject"].contains(&&*path) || ["data", "binarydata", "stringdata"].contains(&inside)
}

/// Whether a path is directly below such data.
fn below_data(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(above, _)| {
        ["data", "binaryData", "stringData"]
            .iter()
            .any(|data| above.strip_suffix(data).is_some_and(|rest| rest.ends_with('.') && !rest.ends_with(".spec.")))
    })
}

/// Whether the event is about Secrets, by what it says of itself or by what it holds.
fn of_secret(event: &Value) -> bool {
    OF_SECRETS.iter().any(|(path, names)| {
        let found = path.split('.').try_fold(event, |value, key| value.get(key));
        found.and_then(Value::as_str).is_some_and(|found| one_of(names, found))
    })
}

/// What tells that an event is about Secrets.
const OF_SECRETS: [(&str, &[&str]); 3] = [
    ("objectRef.resource", &["secrets"]),
    ("requestObject.kind", &["Secret", "SecretList"]),
    ("responseObject.kind", &["Secret", "SecretList"]),
];

/// Where a projection has what tells that an event is about Secrets.
#[derive(Debug)]
pub(super) struct OfSecrets([Option<Slot>; OF_SECRETS.len()]);

impl OfSecrets {
    /// What it reads.
    pub(super) fn reads() -> impl Iterator<Item = &'static str> {
        OF_SECRETS.iter().map(|(path, _)| *path)
    }

    pub(super) fn of(projection: &Projection) -> Self {
        Self(OF_SECRETS.map(|(path, _)| projection.slot(path)))
    }

    /// Whether the event in the scratch may be about Secrets.
    pub(super) fn may_hold(&self, projection: &Projection, scratch: &mut Scratch, event: &str) -> bool {
        self.0.iter().zip(OF_SECRETS).any(|(slot, (_, names))| {
            let Some(slot) = *slot else { return true };
            scratch.demand(projection, slot, event);
            scratch.values(slot, event).any(|value| matches!(value, Val::Str(text) if one_of(names, text)))
        })
    }
}

/// What names things and people: a word before a colon or in a user's name says nothing about what follows it.
fn is_uri(path: &str) -> bool {
    path.eq_ignore_ascii_case("requestURI")
}

fn is_identity(path: &str) -> bool {
    let known = ["auditID", "stage", "level", "verb", "sourceIPs", "stageTimestamp", "requestReceivedTimestamp"];
    known.contains(&path) || ["user.", "impersonatedUser.", "objectRef."].iter().any(|part| path.starts_with(part))
}

fn is_arguments(path: &str) -> bool {
    let path = normal(path);
    path.ends_with(".args") || path.ends_with(".command")
}

/// Whether a value stands in its list behind an option that takes a credential.
fn follows_flag(field: &FieldPath, value: &Value, event: &Value) -> bool {
    let whole = FieldPath::parse(field.path()).unwrap_or_else(|_| field.clone());
    let found: Vec<&str> = whole
        .resolve(event)
        .into_iter()
        .filter_map(|found| match found {
            Found::Scalar(Value::String(text)) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let shown = arguments(found.iter().copied());
    found.iter().zip(shown).any(|(word, shown)| value.as_str() == Some(word) && shown == REDACTED)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_told_by_their_place() {
        let secret = json!({"objectRef": {"resource": "secrets"}});
        let pod = json!({"objectRef": {"resource": "pods"}});
        let sent = json!({"objectRef": {"resource": "things"}, "requestObject": {"kind": "Secret"}});
        let listed = json!({"objectRef": {"resource": "things"}, "responseObject": {"kind": "SecretList"}});
        for (path, event, hidden) in [
            ("requestObject.data.password", &secret, true),
            ("requestObject.stringData.x", &secret, true),
            ("responseObject.items.data.x", &secret, true),
            ("responseObject.items.metadata.name", &secret, false),
            ("requestObject.value", &secret, true),
            ("requestObject.data.x", &sent, true),
            ("responseObject.items.data.x", &listed, true),
            ("requestObject.type", &secret, false),
            ("requestObject.metadata.labels.app", &secret, false),
            ("requestObject.metadata.annotations.example.com/x", &secret, true),
            ("requestObject.metadata.annotations.kubernetes.io/service-account.name", &secret, false),
            ("requestObject.metadata.annotations.kubectl.kubernetes.io/last-applied-configuration", &pod, true),
            ("requestObject.metadata.annotations.example.com/token.v1", &pod, true),
            ("annotations.patch.webhook.admission.k8s.io/round_0_index_0", &pod, true),
            ("annotations.authentication.kubernetes.io/issued-credential-id", &pod, false),
            ("responseObject.status.token", &pod, true),
            ("requestObject.spec.auth.password.text", &pod, true),
            ("requestObject.data.anything", &pod, true),
            ("requestObject.spec.containers.env.value", &pod, true),
            ("requestObject.spec.initContainers.0.env.1.value", &pod, true),
            ("requestObject.spec.containers.env.valueFrom.secretKeyRef.key", &pod, false),
            ("requestObject.spec.volumes.secret.secretName", &pod, false),
            ("requestObject.spec.imagePullSecrets.name", &pod, false),
            ("requestObject.spec.volumes.projected.sources.serviceAccountToken.expirationSeconds", &pod, false),
            ("requestObject.spec.serviceAccountName", &pod, false),
            ("requestObject.spec.automountServiceAccountToken", &pod, false),
            ("requestObject.spec.containers.image", &pod, false),
            ("requestObject.webhooks.clientConfig.caBundle", &pod, false),
            ("requestObject.spec.request", &pod, false),
            ("user.extra.example.com/anything", &pod, true),
            ("user.extra.authentication.kubernetes.io/node-name", &pod, false),
            ("responseObject.status.user.extra.x", &pod, true),
            ("requestURI", &pod, false),
            ("user.username", &secret, false),
        ] {
            assert_eq!(is_secret(path, event), hidden, "{path}");
            let field = FieldPath::parse(path).expect("a path");
            assert_eq!(show_path(&field, &json!("plain"), event) == REDACTED, hidden, "{path} is shown");
        }
    }

    #[test]
    fn values_of_json_patches_are_what_their_paths_say() {
        let patch = |path: &str| json!({"objectRef": {"resource": "deployments"}, "requestObject": [{"path": path}]});
        for (at, path, hidden) in [
            ("/spec/replicas", "requestObject.value", false),
            ("/spec/template/spec/containers/0/env/0/value", "requestObject.value", true),
            ("/spec/template/spec/containers/0/env/-", "requestObject.value.value", true),
            ("/spec/template/spec/containers/0/env/-", "requestObject.value.name", false),
            ("/data/x", "requestObject.value", true),
            ("/data", "requestObject.value.x", true),
            ("/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration", "requestObject.value", true),
        ] {
            assert_eq!(is_secret(path, &patch(at)), hidden, "{at} {path}");
        }
    }

    #[test]
    fn objects_are_shown_without_their_secrets() {
        let config = json!({"objectRef": {"resource": "configmaps"}});
        let secret = json!({"objectRef": {"resource": "secrets"}});
        let text = |value: Value| Value::from(value.to_string());
        for (path, event, value, shown) in [
            ("requestObject.data", &config, json!({"password": "x"}), json!({"password": "[redacted]"})),
            (
                "requestObject",
                &config,
                json!({"data": {"k": "x"}, "metadata": {"annotations": {"a/last-applied-configuration": "x"}, "name": "n"}}),
                json!({"data": {"k": "[redacted]"}, "metadata": {"annotations": {"a/last-applied-configuration": "[redacted]"}, "name": "n"}}),
            ),
            (
                "requestObject.spec.containers",
                &config,
                json!([{"env": [{"name": "PASS", "value": "x"}], "image": "i", "args": ["--token", "x", "y"]}]),
                json!([{"env": [{"name": "PASS", "value": "[redacted]"}], "image": "i", "args": ["--token", "[redacted]", "y"]}]),
            ),
            (
                "requestObject",
                &config,
                json!([{"op": "add", "path": "/data/x", "value": "x"}, {"op": "add", "path": "/x", "value": "y"}]),
                json!([{"op": "add", "path": "/data/x", "value": "[redacted]"}, {"op": "add", "path": "/x", "value": "y"}]),
            ),
            (
                "requestObject",
                &secret,
                json!({"data": {"k": "x"}, "type": "t"}),
                json!({"data": "[redacted]", "type": "t"}),
            ),
        ] {
            assert_eq!(show_made(path, &text(value), event), text(shown), "{path}");
        }
        assert_eq!(show_made("requestObject.data", &"decoded".into(), &config), REDACTED);
        assert_eq!(show_parameter("access_token", &"x".into()), REDACTED);
        assert_eq!(show_parameter("command", &"mysql --password=x".into()), "mysql --password=[redacted]");
        assert_eq!(show_parameter("command", &"sh".into()), "sh");
    }

    #[test]
    fn an_argument_is_told_by_the_one_before_it() {
        let event = json!({"requestObject": {"spec": {"containers": [{"args": ["--password", "x", "-v"]}]}}});
        let field = FieldPath::parse("requestObject.spec.containers.args").expect("a path");
        let shown: Vec<Value> =
            ["--password", "x", "-v"].into_iter().map(|word| show_path(&field, &word.into(), &event)).collect();
        assert_eq!(shown, ["--password", REDACTED, "-v"]);
    }

    #[test]
    fn what_is_cut_out_of_an_object_is_not_shown() {
        let event = json!({"requestObject": {"spec": {"containers": [{"env": [{"value": "a/x"}]}]}}});
        let pointer = "/requestObject/spec";
        let derived =
            |make| Derived { name: "f".into(), reads: vec![FieldPath::parse("requestObject.spec").unwrap()], make };
        let json = || Make::Json(pointer.to_owned());
        let cut = derived(Make::Apply(Apply::Basename, Box::new(json())));
        assert_eq!(show_derived(&cut, &"x\"}]}]}".into(), &event), REDACTED);
        assert_eq!(show_derived(&cut, &3.into(), &event), 3);
        let whole = show_derived(&derived(json()), &event["requestObject"]["spec"].to_string().into(), &event);
        assert_eq!(whole, r#"{"containers":[{"env":[{"value":"[redacted]"}]}]}"#);
    }

    #[test]
    fn a_credential_is_known_before_it_is_changed() {
        let event = json!({"requestObject": {"spec": {"note": "eyJhbGciOiJSUzI1NiJ9", "plain": "Abc"}},
            "spec": {"containers": [{"args": ["--token", "x"]}]}});
        let lower = |pointer: &str| Derived {
            name: "f".into(),
            reads: vec![FieldPath::parse(patched_path("", pointer).trim_start_matches('.')).unwrap()],
            make: Make::Apply(Apply::Lower, Box::new(Make::Json(pointer.to_owned()))),
        };
        let shown = |pointer: &str, text: &str| show_derived(&lower(pointer), &text.into(), &event);
        assert_eq!(shown("/requestObject/spec/note", "eyjhbgcioijsuzi1nij9"), REDACTED);
        assert_eq!(shown("/requestObject/spec/plain", "abc"), "abc");
        assert_eq!(shown("/spec/containers/0/args/1", "x"), REDACTED);
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        assert_eq!(shorten("äöü", 2, Cow::from), "äö… (6 bytes)");
        assert_eq!(shorten("äöü", 3, Cow::from), "äöü");
    }
}
