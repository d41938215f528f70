//! GKE's audit events, which Google's audit logs tell in their own words: an entry for `k8s.io` mapped to an audit event.
//!
//! What the mapping loses, and what it makes up, is in `docs/envelopes.md`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::frame::{Reason, Refusal, describe};
use super::project::Projection;
use super::pruned::pruned;
use super::value::Members;

/// The service whose entries are audit events of Kubernetes; others are about Google's own API.
const SERVICE: &str = "k8s.io";

/// Bytes of an entry: Google's have at most 512 KiB. Its labels are taken apart one by one, which costs many times their size.
const ENTRY_MAX: usize = 4 << 20;

/// Labels that stand for what the request's URI had.
const COMMAND: &str = "command.gke.io/command";
const DRY_RUN: &str = "command.gke.io/dryRun";
const COMMAND_LABELS: &str = "command.gke.io/";

/// The key that says which message a body is.
const TYPE: &str = "@type";
const STATUS: &str = "core.k8s.io/v1.Status";

/// Of bodies, which may be long and stand in most entries, hardly anything is asked.
static TYPED: LazyLock<Projection> = LazyLock::new(|| Projection::new([TYPE]));
static MADE: LazyLock<Projection> =
    LazyLock::new(|| Projection::new(["metadata.creationTimestamp", "metadata.generation"]));
static KIND: LazyLock<Projection> = LazyLock::new(|| Projection::new(["kind"]));

/// Requests that become a stream.
const UPGRADED: [&str; 3] = ["exec", "attach", "portforward"];

/// A time that is none.
const LONG_AGO: &str = "1970-01-01T00:00:00.000000Z";

/// What must be written otherwise in a path.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`');

/// An entry as an audit event.
#[derive(Debug)]
pub(super) struct Mapped {
    /// The JSON of an `audit.k8s.io/v1` Event.
    pub(super) event: String,
    /// Project, location and name of the cluster.
    pub(super) cluster: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'e> {
    insert_id: Option<String>,
    timestamp: Option<String>,
    operation: Option<Operation>,
    labels: Option<BTreeMap<String, String>>,
    resource: Option<Resource>,
    #[serde(borrow)]
    proto_payload: Payload<'e>,
}

#[derive(Deserialize)]
struct Operation {
    id: Option<String>,
    first: Option<bool>,
    last: Option<bool>,
}

#[derive(Deserialize)]
struct Resource {
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'e> {
    service_name: Option<String>,
    method_name: Option<String>,
    resource_name: Option<String>,
    authentication_info: Option<Authentication>,
    request_metadata: Option<Metadata>,
    #[serde(borrow)]
    request: Option<&'e RawValue>,
    #[serde(borrow)]
    response: Option<&'e RawValue>,
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authentication {
    principal_email: Option<String>,
    principal_subject: Option<String>,
    authority_selector: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    caller_ip: Option<String>,
    #[serde(rename = "callerIP")]
    caller_ip_too: Option<String>,
    caller_supplied_user_agent: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    code: Option<i64>,
    message: Option<String>,
}

/// Maps an entry; nothing if it is of another service.
pub(super) fn audit_event(entry: &[u8]) -> Result<Option<Mapped>, Refusal> {
    if entry.len() > ENTRY_MAX {
        return Err((
            Reason::TooLarge,
            format!("the log entry is larger than {ENTRY_MAX} bytes, which none of Google's is"),
        ));
    }
    let entry: Entry<'_> = serde_json::from_slice(entry).map_err(|error| refused(&error))?;
    let payload = &entry.proto_payload;
    if payload.service_name.as_deref() != Some(SERVICE) {
        return Ok(None);
    }
    let needed = |name: &str, value: &Option<String>| {
        let value = value.clone().filter(|value| !value.is_empty());
        value.ok_or_else(|| (Reason::Shape, format!("the log entry has no `{name}`")))
    };
    let method = needed("methodName", &payload.method_name)?;
    let resource_name = needed("resourceName", &payload.resource_name)?;
    let time = needed("timestamp", &entry.timestamp)?;
    let id = entry.operation.as_ref().and_then(|operation| operation.id.clone()).or_else(|| entry.insert_id.clone());
    let id = needed("insertId", &id)?;
    let target = Target::of(&method, &resource_name);
    Ok(Some(Mapped { event: write(&entry, &target, &id, &time), cluster: cluster(&entry) }))
}

fn refused(error: &serde_json::Error) -> Refusal {
    if error.to_string().starts_with("duplicate field") {
        return (Reason::Duplicate, "a key of the log entry is there twice".to_owned());
    }
    let reason = if error.is_data() { Reason::Shape } else { Reason::Syntax };
    (reason, describe(error))
}

fn write(entry: &Entry<'_>, target: &Target<'_>, id: &str, time: &str) -> String {
    let payload = &entry.proto_payload;
    let mut event = Object::default();
    event.text("kind", "Event").text("apiVersion", super::frame::API_VERSION);
    event.text("level", level(payload)).text("auditID", id).text("stage", stage(entry));
    event.text("requestURI", &uri(target, entry)).text("verb", target.verb);
    users(&mut event, payload.authentication_info.as_ref());
    if let Some(metadata) = &payload.request_metadata {
        let address = metadata.caller_ip.as_ref().or(metadata.caller_ip_too.as_ref());
        if let Some(address) = address.filter(|address| !address.is_empty()) {
            event.raw("sourceIPs", &format!("[{}]", quoted(address)));
        }
        event.maybe("userAgent", metadata.caller_supplied_user_agent.as_deref());
    }
    if let Some(object) = &target.object {
        event.raw("objectRef", &object.written());
    }
    event.raw("responseStatus", &response_status(payload, target, time));
    for (key, body) in [("requestObject", payload.request), ("responseObject", payload.response)] {
        if let Some(body) = body {
            event.raw(key, &without_type(body));
        }
    }
    event.text("requestReceivedTimestamp", received(entry, time)).text("stageTimestamp", time);
    let labels = entry.labels.iter().flatten().filter(|(name, _)| !name.starts_with(COMMAND_LABELS));
    let mut annotations = Object::default();
    labels.for_each(|(name, value)| {
        annotations.text(name, value);
    });
    if !annotations.0.is_empty() {
        event.raw("annotations", &annotations.written());
    }
    event.written()
}

fn level(payload: &Payload<'_>) -> &'static str {
    match (payload.request, payload.response) {
        (_, Some(_)) => "RequestResponse",
        (Some(_), None) => "Request",
        (None, None) => "Metadata",
    }
}

/// Of two entries for a request that goes on for long, the first tells that it began.
fn stage(entry: &Entry<'_>) -> &'static str {
    match &entry.operation {
        Some(Operation { first: Some(true), last, .. }) if *last != Some(true) => "ResponseStarted",
        _ => "ResponseComplete",
    }
}

/// When the request came. Of one that goes on for long, two entries tell at two times, and neither tells that: what they
/// say instead is the same, so that both count as one request.
fn received<'t>(entry: &Entry<'_>, time: &'t str) -> &'t str {
    match &entry.operation {
        Some(operation) if operation.first == Some(true) && operation.last != Some(true) => LONG_AGO,
        Some(operation) if operation.last == Some(true) && operation.first != Some(true) => LONG_AGO,
        _ => time,
    }
}

/// Who it was, and who it was done as.
fn users(event: &mut Object, authentication: Option<&Authentication>) {
    let said = |value: &'_ Option<String>| value.clone().filter(|value| !value.is_empty());
    let nobody = Authentication::default();
    let authentication = authentication.unwrap_or(&nobody);
    let selector = said(&authentication.authority_selector);
    let own = said(&authentication.principal_email).or_else(|| said(&authentication.principal_subject));
    let user = own.clone().or_else(|| selector.clone());
    let mut written = Object::default();
    written.maybe("username", user.as_deref());
    event.raw("user", &written.written());
    if let Some(selector) = selector.filter(|selector| own.as_ref().is_some_and(|own| own != selector)) {
        let mut written = Object::default();
        written.text("username", &selector);
        event.raw("impersonatedUser", &written.written());
    }
}

/// The URI, with that of the query which labels tell.
fn uri(target: &Target<'_>, entry: &Entry<'_>) -> String {
    let label = |name: &str| entry.labels.as_ref().and_then(|labels| labels.get(name));
    let mut query = form_urlencoded::Serializer::new(String::new());
    // How the words were quoted is not told.
    for word in label(COMMAND).into_iter().flat_map(|command| command.split_ascii_whitespace()) {
        query.append_pair("command", word);
    }
    if label(DRY_RUN).is_some() {
        query.append_pair("dryRun", "All");
    }
    let query = query.finish();
    if query.is_empty() { target.path.clone() } else { format!("{}?{query}", target.path) }
}

/// What a request is about.
struct Target<'e> {
    verb: &'e str,
    path: String,
    object: Option<ObjectRef<'e>>,
}

struct ObjectRef<'e> {
    group: &'e str,
    version: &'e str,
    resource: &'e str,
    subresource: Option<&'e str>,
    namespace: Option<&'e str>,
    name: Option<&'e str>,
}

impl<'e> Target<'e> {
    /// `method` is like `io.k8s.core.v1.pods.exec.create`, `name` like `core/v1/namespaces/NS/pods/NAME/exec`.
    fn of(method: &'e str, name: &'e str) -> Self {
        let words: Vec<&str> = method.split('.').collect();
        let verb = words.last().copied().unwrap_or_default();
        let parts: Vec<&str> = name.trim_start_matches('/').split('/').collect();
        // `io.k8s.get` of `healthz`.
        let [group, version, rest @ ..] = parts.as_slice() else {
            return Self { verb, path: path(&["", name]), object: None };
        };
        if words.len() <= 3 {
            return Self { verb, path: path(&["", name.trim_start_matches('/')]), object: None };
        }
        let group = if *group == "core" { "" } else { group };
        let mut all = if group.is_empty() { vec!["", "api", version] } else { vec!["", "apis", group, version] };
        all.extend(rest);
        // Between version and verb stand the resource and the subresource.
        let before = words.iter().rposition(|word| word == version).map_or(words.len() - 1, |at| at + 1);
        let of_method = words.get(before..words.len() - 1).unwrap_or_default();
        Self { verb, path: path(&all), object: ObjectRef::of(group, version, rest, of_method) }
    }

    fn subresource(&self) -> Option<&str> {
        self.object.as_ref()?.subresource
    }
}

impl<'e> ObjectRef<'e> {
    fn of(group: &'e str, version: &'e str, rest: &[&'e str], of_method: &[&'e str]) -> Option<Self> {
        let (namespace, rest) = match rest {
            // The namespace itself is both.
            ["namespaces", namespace, ..] if of_method.first() == Some(&"namespaces") => (Some(*namespace), rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            ["namespaces", namespace] => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (resource, rest) = rest.split_first()?;
        let (name, subresource) = match (rest, of_method.get(1)) {
            ([only], Some(subresource)) if only == subresource => (None, Some(*subresource)),
            ([], subresource) => (None, subresource.copied()),
            ([name, ..], Some(subresource)) => (Some(*name), Some(*subresource)),
            ([name, rest @ ..], None) => (Some(*name), rest.first().copied()),
        };
        Some(Self { group, version, resource, subresource, namespace, name })
    }

    fn written(&self) -> String {
        let mut object = Object::default();
        object.text("resource", self.resource).maybe("namespace", self.namespace).maybe("name", self.name);
        object.maybe("apiGroup", Some(self.group)).text("apiVersion", self.version);
        object.maybe("subresource", self.subresource);
        object.written()
    }
}

fn path(parts: &[&str]) -> String {
    utf8_percent_encode(&parts.join("/"), PATH).to_string()
}

/// The answer: the status that kube-apiserver sent, or what the code of gRPC stands for.
fn response_status(payload: &Payload<'_>, target: &Target<'_>, time: &str) -> String {
    let sent = payload.response.and_then(sent_status).unwrap_or_default();
    let text = |key: &str| sent.get(key).and_then(Value::as_str);
    let code = sent.get("code").and_then(Value::as_f64).filter(|code| (100.0..600.0).contains(code));
    #[expect(clippy::cast_possible_truncation, reason = "it is between 100 and 600")]
    let code = code.map_or_else(|| http_code(payload, target, time), |code| code as i64);
    let mut status = Object::default();
    status.maybe("status", text("status"));
    let message = payload.status.as_ref().and_then(|status| status.message.as_deref());
    status.maybe("message", text("message").or(message)).maybe("reason", text("reason"));
    status.raw("code", &code.to_string());
    status.written()
}

fn sent_status(response: &RawValue) -> Option<Value> {
    let is_status = part(response, &TYPED)?.get(TYPE).and_then(Value::as_str) == Some(STATUS);
    if is_status { super::value(response.get().as_bytes()).ok() } else { None }
}

/// What these paths go through in a body; all of it where anything about it is unusual.
fn part(body: &RawValue, wanted: &Projection) -> Option<Value> {
    pruned(body.get(), wanted).or_else(|| super::value(body.get().as_bytes()).ok())
}

fn http_code(payload: &Payload<'_>, target: &Target<'_>, time: &str) -> i64 {
    match payload.status.as_ref().and_then(|status| status.code).unwrap_or(0) {
        0 => match target.subresource() {
            Some(subresource) if UPGRADED.contains(&subresource) => 101,
            Some("proxy") => 200,
            _ if target.verb == "create" || target.verb == "patch" && is_new(payload, time) => 201,
            _ => 200,
        },
        3 | 11 => 400,
        16 => 401,
        7 => 403,
        5 => 404,
        6 | 10 => 409,
        9 => 412,
        8 => 429,
        1 => 499,
        12 => 501,
        14 => 503,
        4 => 504,
        _ => 500,
    }
}

/// Whether the object of an answer was made by the request, as server-side apply does: it is no older than the request, to
/// the second, and nobody changed it since. Of a kind whose changes are not counted, the request has to be a whole object too:
/// patches within the second in which somebody made it are parts.
fn is_new(payload: &Payload<'_>, time: &str) -> bool {
    const SECOND: usize = "2026-01-01T00:00:00".len();
    let Some(object) = payload.response.and_then(|response| part(response, &MADE)) else { return false };
    let metadata = &object["metadata"];
    let made = metadata["creationTimestamp"].as_str().and_then(|made| made.get(..SECOND));
    let first = match metadata["generation"].as_f64() {
        Some(generation) => generation <= 1.0,
        None => payload.request.and_then(|request| part(request, &KIND)).is_some_and(|sent| sent["kind"].is_string()),
    };
    first && made.zip(time.get(..SECOND)).is_some_and(|(made, asked)| made >= asked)
}

/// Names are told apart by all three: every project may have a cluster of the same name.
fn cluster(entry: &Entry<'_>) -> Option<String> {
    let labels = entry.resource.as_ref()?.labels.as_ref()?;
    let name = labels.get("cluster_name").filter(|name| !name.is_empty())?;
    let place = ["project_id", "location"].into_iter().filter_map(|key| labels.get(key));
    let parts: Vec<&str> = place.chain([name]).map(String::as_str).filter(|part| !part.is_empty()).collect();
    Some(parts.join("/"))
}

/// A body without what Google adds to it.
fn without_type(body: &RawValue) -> Cow<'_, str> {
    let Ok(Members(members)) = serde_json::from_str::<Members<'_>>(body.get()) else {
        return Cow::Borrowed(body.get());
    };
    let mut object = Object::default();
    for (key, value) in members.iter().filter(|(key, _)| key.0 != TYPE) {
        object.raw(&key.0, value.get());
    }
    Cow::Owned(object.written())
}

/// A JSON object that is being written; its members without the braces.
#[derive(Default)]
struct Object(String);

impl Object {
    fn raw(&mut self, key: &str, value: &str) -> &mut Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(&quoted(key));
        self.0.push(':');
        self.0.push_str(value);
        self
    }

    fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.raw(key, &quoted(value))
    }

    /// A text, unless there is none.
    fn maybe(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        match value.filter(|value| !value.is_empty()) {
            Some(value) => self.text(key, value),
            None => self,
        }
    }

    fn written(&self) -> String {
        format!("{{{}}}", self.0)
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(method: &str, name: &str) -> Value {
        json!({
            "insertId": "i", "timestamp": "2026-01-01T00:00:00.5Z", "logName": "projects/p/logs/x",
            "operation": {"id": "o", "first": true, "last": true},
            "protoPayload": {"serviceName": "k8s.io", "methodName": method, "resourceName": name},
        })
    }

    fn mapped(entry: &Value) -> Value {
        let mapped = audit_event(entry.to_string().as_bytes()).unwrap().unwrap();
        serde_json::from_str(&mapped.event).unwrap()
    }

    /// Method, name; URI, group, resource, subresource, namespace and name of the object.
    const NAMES: &str = "
        pods.create core/v1/namespaces/a/pods/b /api/v1/namespaces/a/pods/b - pods - a b
        pods.list core/v1/namespaces/a/pods /api/v1/namespaces/a/pods - pods - a -
        pods.exec.get core/v1/namespaces/a/pods/b/exec /api/v1/namespaces/a/pods/b/exec - pods exec a b
        secrets.list core/v1/secrets /api/v1/secrets - secrets - - -
        namespaces.delete core/v1/namespaces/a /api/v1/namespaces/a - namespaces - a a
        namespaces.list core/v1/namespaces /api/v1/namespaces - namespaces - - -
        namespaces.finalize.update core/v1/namespaces/a/finalize /api/v1/namespaces/a/finalize - namespaces finalize a a
        nodes.proxy.get core/v1/nodes/n/proxy/run/x /api/v1/nodes/n/proxy/run/x - nodes proxy - n
        nodes.status.patch core/v1/nodes/n/status /api/v1/nodes/n/status - nodes status - n
        clusterroles.create rbac.authorization.k8s.io/v1/clusterroles/c /apis/rbac.authorization.k8s.io/v1/clusterroles/c rbac.authorization.k8s.io clusterroles - - c
        deployments.scale.update apps/v1/namespaces/a/deployments/d/scale /apis/apps/v1/namespaces/a/deployments/d/scale apps deployments scale a d
        pods.deletecollection core/v1/namespaces/a/pods /api/v1/namespaces/a/pods - pods - a -
        things.create example.com/v1/namespaces/a/things/odd? /apis/example.com/v1/namespaces/a/things/odd%3F example.com things - a odd?";

    #[test]
    fn names_become_objects_and_paths() {
        for row in NAMES.lines().skip(1) {
            let words: Vec<&str> = row.split_whitespace().map(|word| if word == "-" { "" } else { word }).collect();
            let [method, name, uri, object @ ..] = &words[..] else { panic!("{row}") };
            let event = mapped(&entry(&format!("io.k8s.any.v1.{method}"), name));
            assert_eq!((&event["requestURI"], event["verb"].as_str()), (&json!(uri), method.rsplit('.').next()));
            let of = |key: &str| event["objectRef"][key].as_str().unwrap_or_default().to_owned();
            assert_eq!(["apiGroup", "resource", "subresource", "namespace", "name"].map(of), object, "{row}");
        }
        let openid = ".well-known/openid-configuration";
        for (name, uri) in [("healthz", "/healthz"), (openid, &format!("/{openid}")), ("a/b/c/d", "/a/b/c/d")] {
            let event = mapped(&entry("io.k8s.get", name));
            let told = (&event["requestURI"], &event["verb"], event.get("objectRef"));
            assert_eq!(told, (&json!(uri), &json!("get"), None));
        }
    }

    #[test]
    fn answers_are_those_of_http() {
        for (method, name, code, expected) in [
            ("io.k8s.core.v1.pods.get", "core/v1/namespaces/a/pods/b", json!(null), 200),
            ("io.k8s.core.v1.pods.create", "core/v1/namespaces/a/pods/b", json!({"code": 0}), 201),
            ("io.k8s.core.v1.pods.exec.create", "core/v1/namespaces/a/pods/b/exec", json!({}), 101),
            ("io.k8s.core.v1.services.proxy.create", "core/v1/namespaces/a/services/b/proxy", json!({}), 200),
            ("io.k8s.core.v1.pods.create", "core/v1/namespaces/a/pods/b", json!({"code": 7, "message": "no"}), 403),
            ("io.k8s.core.v1.pods.get", "core/v1/namespaces/a/pods/b", json!({"code": 99}), 500),
        ] {
            let mut entry = entry(method, name);
            entry["protoPayload"]["status"] = code;
            assert_eq!(mapped(&entry)["responseStatus"]["code"], expected, "{entry}");
        }
        let mut entry = entry("io.k8s.core.v1.pods.create", "core/v1/namespaces/a/pods/b");
        entry["protoPayload"]["status"] = json!({"code": 10, "message": "own"});
        entry["protoPayload"]["response"] =
            json!({"@type": STATUS, "code": 409, "reason": "AlreadyExists", "status": "Failure", "message": "exists"});
        let event = mapped(&entry);
        let expected = json!({"code": 409, "reason": "AlreadyExists", "status": "Failure", "message": "exists"});
        assert_eq!((&event["responseStatus"], &event["responseObject"]), (&expected, &expected));
    }

    #[test]
    fn what_server_side_apply_makes_is_told_from_what_it_changes() {
        let (part, whole) = (json!({"metadata": {"labels": {"a": "b"}}}), json!({"kind": "Deployment"}));
        for (metadata, sent, expected) in [
            (json!({"creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}), &part, 201),
            (json!({"creationTimestamp": "2026-01-01T00:00:01Z"}), &whole, 201),
            (json!({"creationTimestamp": "2026-01-01T00:00:01Z"}), &part, 200),
            (json!({"creationTimestamp": "2026-01-01T00:00:00Z", "generation": 2}), &whole, 200),
            (json!({"creationTimestamp": "2025-12-31T23:59:59Z", "generation": 1}), &whole, 200),
            (json!({"creationTimestamp": "2026", "generation": 1}), &whole, 200),
            (json!({"generation": 1}), &whole, 200),
            (json!(null), &whole, 200),
        ] {
            let mut entry = entry("io.k8s.apps.v1.deployments.patch", "apps/v1/namespaces/a/deployments/b");
            entry["protoPayload"]["request"] = sent.clone();
            entry["protoPayload"]["response"] = json!({"metadata": metadata});
            assert_eq!(mapped(&entry)["responseStatus"]["code"], expected, "{metadata}");
            entry["protoPayload"]["methodName"] = "io.k8s.apps.v1.deployments.update".into();
            assert_eq!(mapped(&entry)["responseStatus"]["code"], 200, "{metadata}");
        }
    }

    #[test]
    fn the_rest_is_taken_over() {
        let mut entry = entry("io.k8s.core.v1.pods.exec.create", "core/v1/namespaces/a/pods/b/exec");
        entry["operation"]["last"] = json!(false);
        entry["labels"] = json!({"command.gke.io/command": "sh -c id&x", "authorization.k8s.io/decision": "allow"});
        entry["resource"] = json!({"labels": {"project_id": "p", "location": "l", "cluster_name": "c"}});
        entry["protoPayload"]["authenticationInfo"] =
            json!({"principalEmail": "a@b.c", "authoritySelector": "system:admin"});
        entry["protoPayload"]["requestMetadata"] =
            json!({"callerIp": "10.0.0.1", "callerSuppliedUserAgent": "kubectl"});
        entry["protoPayload"]["request"] = json!({"@type": "core.k8s.io/v1.Pod", "a": {"@type": 1}});
        let mapped = audit_event(entry.to_string().as_bytes()).unwrap().unwrap();
        assert_eq!(mapped.cluster.as_deref(), Some("p/l/c"));
        let event: Value = serde_json::from_str(&mapped.event).unwrap();
        assert_eq!(
            event,
            json!({
                "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request", "auditID": "o", "stage": "ResponseStarted",
                "requestURI": "/api/v1/namespaces/a/pods/b/exec?command=sh&command=-c&command=id%26x", "verb": "create",
                "user": {"username": "a@b.c"}, "impersonatedUser": {"username": "system:admin"}, "sourceIPs": ["10.0.0.1"],
                "userAgent": "kubectl",
                "objectRef": {"resource": "pods", "namespace": "a", "name": "b", "apiVersion": "v1", "subresource": "exec"},
                "responseStatus": {"code": 101}, "requestObject": {"a": {"@type": 1}},
                "requestReceivedTimestamp": LONG_AGO, "stageTimestamp": "2026-01-01T00:00:00.5Z",
                "annotations": {"authorization.k8s.io/decision": "allow"},
            })
        );
    }

    #[test]
    fn what_is_missing_is_named_and_other_services_are_left_alone() {
        for key in ["methodName", "resourceName"] {
            let mut entry = entry("io.k8s.core.v1.pods.get", "core/v1/namespaces/a/pods/b");
            entry["protoPayload"][key] = json!("");
            let expected = (Reason::Shape, format!("the log entry has no `{key}`"));
            assert_eq!(audit_event(entry.to_string().as_bytes()).unwrap_err(), expected);
        }
        let mut other = entry("google.container.v1.ClusterManager.CreateCluster", "projects/p");
        other["protoPayload"]["serviceName"] = json!("container.googleapis.com");
        assert!(audit_event(other.to_string().as_bytes()).unwrap().is_none());
        let refused = audit_event(br#"{"timestamp":7,"protoPayload":{"serviceName":"k8s.io"}}"#).unwrap_err();
        assert_eq!(refused.0, Reason::Shape);
        let large = format!(r#"{{"protoPayload":{{}},"x":"{}"}}"#, "x".repeat(ENTRY_MAX));
        assert_eq!(audit_event(large.as_bytes()).unwrap_err().0, Reason::TooLarge);
        let twice = audit_event(br#"{"insertId":"a","insertId":"b","protoPayload":{}}"#).unwrap_err();
        assert_eq!(twice.0, Reason::Duplicate);
    }
}
