//! The judge of envelopes: what they hold, told over `serde_json::Value`, obviously right and slow. Knows nothing of
//! the program's own mapping.

use std::io::Read;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// An event, and the cluster that its envelope names.
pub(crate) type Found = (Option<String>, Value);

const WRAPPERS: [&str; 13] = [
    "log",
    "message",
    "value",
    "event",
    "kubernetes.audit",
    "kubernetes",
    "audit",
    "structured",
    "@message",
    "properties",
    "log_s",
    "awslogs",
    "kinesis",
];

/// The events in a well-formed document.
pub(crate) fn unwrap(document: &Value) -> Vec<Found> {
    inside(document, None)
}

fn inside(value: &Value, cluster: Option<&str>) -> Vec<Found> {
    let named = cluster_of(value).or_else(|| cluster.map(str::to_owned));
    let all = |items: &Value| {
        let items = items.as_array().cloned().unwrap_or_default();
        items.iter().flat_map(|item| inside(item, named.as_deref())).collect::<Vec<_>>()
    };
    match value {
        Value::Array(_) => all(value),
        Value::String(text) => match serde_json::from_str::<Value>(text.trim()) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => inside(&value, cluster),
            _ => Vec::new(),
        },
        Value::Object(_) if value["kind"] == "Event" && value["apiVersion"] == "audit.k8s.io/v1" => {
            vec![(named, value.clone())]
        }
        Value::Object(_) if value["kind"] == "EventList" => all(&value["items"]),
        Value::Object(object) => {
            if let Some(payload) = object.get("protoPayload") {
                let event = (payload["serviceName"] == "k8s.io").then(|| log_entry(value));
                return event.map(|event| (google_cluster(value).or(named), event)).into_iter().collect();
            }
            let wrapped =
                WRAPPERS.iter().filter_map(|key| object.get(*key)).map(|inner| inside(inner, named.as_deref()));
            if let Some(found) = wrapped.into_iter().find(|found| !found.is_empty()) {
                return found;
            }
            for key in ["logEvents", "records", "Records", "entries", "events"] {
                if object.contains_key(key) {
                    return all(&value[key]);
                }
            }
            value["data"]
                .as_str()
                .and_then(unpacked)
                .map(|text| inside(&text.into(), named.as_deref()))
                .unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

pub(crate) fn unpacked(text: &str) -> Option<String> {
    let bytes = STANDARD.decode(text).ok()?;
    let mut out = String::new();
    match bytes.starts_with(&[0x1f, 0x8b]) {
        true => flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_string(&mut out).ok()?,
        false => (&bytes[..]).read_to_string(&mut out).ok()?,
    };
    Some(out)
}

fn cluster_of(value: &Value) -> Option<String> {
    for key in ["logGroup", "log_group", "@log"] {
        if let Some(name) = value[key].as_str().and_then(|group| group.split("/aws/eks/").nth(1)) {
            return name.strip_suffix("/cluster").map(str::to_owned);
        }
    }
    if let Some(id) = value["resourceId"].as_str() {
        let name = id.split('/').next_back()?;
        return Some(if name == name.to_uppercase() { name.to_lowercase() } else { name.to_owned() });
    }
    value["openshift"]["cluster_id"].as_str().map(str::to_owned)
}

fn google_cluster(entry: &Value) -> Option<String> {
    let labels = &entry["resource"]["labels"];
    let part = |key: &str| labels[key].as_str();
    Some(format!("{}/{}/{}", part("project_id")?, part("location")?, part("cluster_name")?))
}

/// The audit event that an entry of Google's audit logs tells of.
fn log_entry(entry: &Value) -> Value {
    let payload = &entry["protoPayload"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let mut event = json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "auditID": text(&entry["operation"]["id"]).or(text(&entry["insertId"])),
        "stage": if entry["operation"]["first"] == true && entry["operation"]["last"] != true { "ResponseStarted" } else { "ResponseComplete" },
        "verb": payload["methodName"].as_str().unwrap_or_default().split('.').next_back(),
        "requestURI": google_uri(entry),
        "user": {},
        "requestReceivedTimestamp": if (entry["operation"]["first"] == true) == (entry["operation"]["last"] == true) {
            entry["timestamp"].clone()
        } else {
            "1970-01-01T00:00:00.000000Z".into()
        },
        "stageTimestamp": entry["timestamp"],
    });
    let who = &payload["authenticationInfo"];
    let (email, subject, selector) =
        (text(&who["principalEmail"]), text(&who["principalSubject"]), text(&who["authoritySelector"]));
    let own = email.or(subject);
    if let Some(name) = own.clone().or(selector.clone()) {
        event["user"]["username"] = name.into();
    }
    if let (Some(own), Some(selector)) = (own, selector)
        && own != selector
    {
        event["impersonatedUser"] = json!({"username": selector});
    }
    let metadata = &payload["requestMetadata"];
    if let Some(address) = text(&metadata["callerIp"]).or(text(&metadata["callerIP"])) {
        event["sourceIPs"] = json!([address]);
    }
    if let Some(agent) = text(&metadata["callerSuppliedUserAgent"]) {
        event["userAgent"] = agent.into();
    }
    if let Some(object) = google_object(payload) {
        event["objectRef"] = object;
    }
    event["responseStatus"] = google_status(payload, entry["timestamp"].as_str().unwrap_or_default());
    for (from, to) in [("request", "requestObject"), ("response", "responseObject")] {
        if let Some(body) = payload.get(from).filter(|body| !body.is_null()) {
            let mut body = body.clone();
            body.as_object_mut().map(|members| members.remove("@type"));
            event[to] = body;
        }
    }
    let has = |key: &str| payload.get(key).is_some_and(|body| !body.is_null());
    event["level"] = if has("response") {
        "RequestResponse".into()
    } else if has("request") {
        "Request".into()
    } else {
        "Metadata".into()
    };
    let labels = entry["labels"].as_object().cloned().unwrap_or_default();
    let labels: Map<_, _> = labels.into_iter().filter(|(key, _)| !key.starts_with("command.gke.io/")).collect();
    if !labels.is_empty() {
        event["annotations"] = labels.into();
    }
    event
}

fn google_uri(entry: &Value) -> String {
    let payload = &entry["protoPayload"];
    let name = payload["resourceName"].as_str().unwrap_or_default();
    let method = payload["methodName"].as_str().unwrap_or_default();
    let path = if method.matches('.').count() <= 2 {
        format!("/{name}")
    } else if let Some(rest) = name.strip_prefix("core/") {
        format!("/api/{rest}")
    } else {
        format!("/apis/{name}")
    };
    let mut query: Vec<String> = Vec::new();
    if let Some(command) = entry["labels"]["command.gke.io/command"].as_str() {
        query.extend(
            command.split_whitespace().map(|word| {
                format!("command={}", form_urlencoded::byte_serialize(word.as_bytes()).collect::<String>())
            }),
        );
    }
    if entry["labels"]["command.gke.io/dryRun"].is_string() {
        query.push("dryRun=All".to_owned());
    }
    if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
}

fn google_object(payload: &Value) -> Option<Value> {
    let method: Vec<&str> = payload["methodName"].as_str()?.split('.').collect();
    let name: Vec<&str> = payload["resourceName"].as_str()?.split('/').collect();
    if method.len() <= 3 || name.len() < 3 {
        return None;
    }
    let (group, version) = (name[0], name[1]);
    let mut object = json!({"apiVersion": version});
    if group != "core" {
        object["apiGroup"] = group.into();
    }
    let after = method.iter().rposition(|word| *word == version)? + 1;
    let (resource, subresource) = (method[after], method[after + 1..].first().filter(|_| method.len() > after + 2));
    object["resource"] = resource.into();
    if let Some(subresource) = subresource {
        object["subresource"] = (*subresource).into();
    }
    let mut rest = &name[2..];
    if rest[0] == "namespaces" && rest.len() > 1 {
        object["namespace"] = rest[1].into();
        if resource != "namespaces" {
            rest = &rest[2..];
        }
    }
    if let Some(own) = rest.get(1) {
        object["name"] = (*own).into();
    }
    Some(object)
}

fn google_status(payload: &Value, time: &str) -> Value {
    const CODES: [(i64, i64); 16] = [
        (1, 499),
        (2, 500),
        (3, 400),
        (4, 504),
        (5, 404),
        (6, 409),
        (7, 403),
        (8, 429),
        (9, 412),
        (10, 409),
        (11, 400),
        (12, 501),
        (13, 500),
        (14, 503),
        (15, 500),
        (16, 401),
    ];
    let response = &payload["response"];
    let told = response["@type"] == "core.k8s.io/v1.Status";
    let mut status = json!({});
    if told {
        for key in ["status", "message", "reason"] {
            if let Some(text) = response[key].as_str().filter(|text| !text.is_empty()) {
                status[key] = text.into();
            }
        }
    }
    if let (None, Some(message)) = (status.get("message"), payload["status"]["message"].as_str())
        && !message.is_empty()
    {
        status["message"] = message.into();
    }
    let code = payload["status"]["code"].as_i64().unwrap_or(0);
    status["code"] = match response["code"].as_i64() {
        Some(code) if told => code.into(),
        _ => match CODES.iter().find(|(own, _)| *own == code) {
            Some((_, http)) => (*http).into(),
            None if code == 0 => success(payload, time).into(),
            None => 500.into(),
        },
    };
    status
}

fn success(payload: &Value, time: &str) -> i64 {
    let words: Vec<&str> = payload["methodName"].as_str().unwrap_or_default().rsplit('.').take(2).collect();
    match words[..] {
        [_, "exec" | "attach" | "portforward"] => 101,
        [_, "proxy"] => 200,
        ["create", ..] => 201,
        // Made by server-side apply.
        ["patch", ..] if is_new(payload, time) => 201,
        _ => 200,
    }
}

/// Whether the object of an answer is no older than the request, to the second, and was never changed; where changes are not
/// counted, a whole object has to be asked for.
fn is_new(payload: &Value, time: &str) -> bool {
    let metadata = &payload["response"]["metadata"];
    let made = metadata["creationTimestamp"].as_str().and_then(|made| made.get(..19));
    metadata["generation"].as_f64().map_or(payload["request"]["kind"].is_string(), |generation| generation <= 1.0)
        && made.zip(time.get(..19)).is_some_and(|(made, asked)| made >= asked)
}
