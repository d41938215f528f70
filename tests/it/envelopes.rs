//! The envelopes of the clouds: the same detections fire, whoever carries the events. Each provider's form is made here from
//! events as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kubesiren::engine::{Detected, Detector, RuleSet};
use kubesiren::event::frame::{frame_from, told_apart};
use kubesiren::event::{Framed, value};
use kubesiren::rule;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::judge::root;
use crate::support::{
    Daemon, WEBHOOK, attack, end_of_story, json_lines, recording, run, scan, scenarios, skipped, text_at, until,
};
use crate::unwrap::{Found, unpacked, unwrap};
use crate::vocabulary;

const CLUSTER: &str = "prod";

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("memory");
    gzip.finish().expect("memory")
}

/// A payload of a CloudWatch Logs subscription.
pub(crate) fn eks(events: &[String]) -> Value {
    let records: Vec<Value> = (0_u64..)
        .zip(events)
        .map(|(n, event)| json!({"id": n.to_string(), "timestamp": 1_790_000_000_000 + n, "message": event}))
        .collect();
    json!({"messageType": "DATA_MESSAGE", "owner": "000000000000", "logGroup": format!("/aws/eks/{CLUSTER}/cluster"),
        "logStream": "kube-apiserver-audit-0", "subscriptionFilters": ["audit"], "logEvents": records})
}

/// What Azure Monitor sends to an event hub.
pub(crate) fn aks(events: &[String]) -> Value {
    let record = |(n, event): (usize, &String)| {
        json!({"category": if n % 2 == 0 { "kube-audit" } else { "kube-audit-admin" }, "time": "2026-11-21T04:00:00.000000000Z",
            "operationName": "Microsoft.ContainerService/managedClusters/diagnosticLogs/Read",
            "resourceId": "/SUBSCRIPTIONS/S/RESOURCEGROUPS/G/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/PROD",
            "properties": {"log": format!("{event}\n"), "stream": "stdout", "pod": "kube-apiserver-0"}})
    };
    json!({"records": events.iter().enumerate().map(record).collect::<Vec<_>>()})
}

/// What OpenShift's collector (vector) makes of an event.
fn openshift(event: &str) -> Value {
    let mut event: Value = serde_json::from_str(event).expect("JSON");
    event["@timestamp"] = event["requestReceivedTimestamp"].clone();
    // The level is overwritten.
    event["k8s_audit_level"] = std::mem::replace(&mut event["level"], "default".into());
    event["log_source"] = json!("kubeAPI");
    event["log_type"] = json!("audit");
    event["openshift"] = json!({"cluster_id": CLUSTER, "sequence": 7});
    event
}

/// What GKE tells of events.
pub(crate) fn gke(events: &[String]) -> Vec<Value> {
    let parsed: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).expect("JSON")).collect();
    let started = parsed.iter().filter(|event| event["stage"] == "ResponseStarted");
    let long: BTreeSet<&str> = started.map(|event| text_at(event, "/auditID")).collect();
    parsed.iter().filter_map(|event| gke_entry(event, long.contains(text_at(event, "/auditID")))).collect()
}

/// What it tells of one, if anything; of a request that is `long`, two entries tell.
fn gke_entry(event: &Value, long: bool) -> Option<Value> {
    let stage = text_at(event, "/stage");
    if stage == "RequestReceived" || stage == "Panic" {
        return None;
    }
    let (method, name) = gke_names(event);
    let id = &event["auditID"];
    let mut payload = json!({
        "@type": "type.googleapis.com/google.cloud.audit.AuditLog", "serviceName": "k8s.io", "methodName": method,
        "resourceName": name, "authenticationInfo": {}, "requestMetadata": {"callerSuppliedUserAgent": event["userAgent"]},
        "status": {"code": grpc(event["responseStatus"]["code"].as_i64().unwrap_or(200))},
    });
    if let Some(address) = event["sourceIPs"][0].as_str() {
        payload["requestMetadata"]["callerIp"] = address.into();
    }
    for (user, key) in [("user", "principalEmail"), ("impersonatedUser", "authoritySelector")] {
        if let Some(name) = event[user]["username"].as_str() {
            payload["authenticationInfo"][key] = name.into();
        }
    }
    for (body, key) in [("requestObject", "request"), ("responseObject", "response")] {
        if let Some(Value::Object(members)) = event.get(body) {
            let mut members = members.clone();
            let kind = members.get("kind").and_then(Value::as_str).unwrap_or("Patch").to_owned();
            members.insert("@type".to_owned(), format!("core.k8s.io/v1.{kind}").into());
            payload[key] = members.into();
        }
    }
    let mut labels = event["annotations"].as_object().cloned().unwrap_or_default();
    let query = text_at(event, "/requestURI").split_once('?').map_or("", |(_, query)| query);
    let words: Vec<String> = form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "command")
        .map(|(_, word)| word.into_owned())
        .collect();
    if !words.is_empty() {
        labels.insert("command.gke.io/command".to_owned(), words.join(" ").into());
    }
    Some(json!({
        "insertId": id, "logName": "projects/p/logs/cloudaudit.googleapis.com%2Factivity", "severity": "NOTICE",
        "operation": {"id": id, "producer": "k8s.io", "first": !long || stage == "ResponseStarted", "last": !long || stage != "ResponseStarted"},
        "resource": {"type": "k8s_cluster", "labels": {"project_id": "p", "location": "l", "cluster_name": CLUSTER}},
        "labels": labels, "timestamp": event["stageTimestamp"], "receiveTimestamp": event["stageTimestamp"], "protoPayload": payload,
    }))
}

/// How GKE names what was done, and to what.
fn gke_names(event: &Value) -> (String, String) {
    let verb = text_at(event, "/verb");
    let path = text_at(event, "/requestURI").split('?').next().unwrap_or_default();
    let object = &event["objectRef"];
    let of = |key: &str| object[key].as_str().filter(|text| !text.is_empty());
    let Some(resource) = of("resource") else {
        return (format!("io.k8s.{verb}"), path.trim_start_matches('/').to_owned());
    };
    let (group, version) = (of("apiGroup").unwrap_or("core"), of("apiVersion").unwrap_or("v1"));
    let reversed: Vec<&str> = group.trim_end_matches(".k8s.io").rsplit('.').collect();
    let reversed = reversed.join(".");
    let method: Vec<&str> =
        ["io.k8s", &reversed, version, resource].into_iter().chain(of("subresource")).chain([verb]).collect();
    let mut name = vec![group, version];
    if let Some(namespace) = of("namespace").filter(|_| resource != "namespaces") {
        name.extend(["namespaces", namespace]);
    }
    name.push(resource);
    name.extend(of("name").into_iter().chain(of("subresource").filter(|_| of("name").is_some())));
    if of("subresource") == Some("proxy") {
        name.extend(path.split_once("/proxy/").map(|(_, tail)| tail));
    }
    (method.join("."), name.join("/"))
}

fn grpc(code: i64) -> i64 {
    match code {
        400 | 422 => 3,
        401 => 16,
        403 => 7,
        404 => 5,
        409 => 6,
        429 => 8,
        500 => 13,
        503 => 14,
        504 => 4,
        _ => 0,
    }
}

/// The scenarios by name, or the sample that everybody has.
fn stories() -> BTreeMap<String, Vec<String>> {
    let mut stories = BTreeMap::<String, Vec<String>>::new();
    match scenarios() {
        Some(events) => events.into_iter().for_each(|(name, event)| stories.entry(name).or_default().push(event)),
        None => {
            stories.insert("sample".to_owned(), attack());
        }
    }
    stories
}

/// Alerts without what depends on the bytes in which an event was written.
fn alerts(cluster: &str, input: &[u8]) -> Vec<Value> {
    let (mut alerts, stats) = scan(&["--cluster", cluster], input);
    assert_eq!(stats["rejected"], 0, "{stats}");
    for alert in &mut alerts {
        assert_eq!(text_at(alert, "/cluster"), alert["cluster"].as_str().expect("a label"));
        alert.as_object_mut().expect("an object").remove("id");
    }
    // Of two at one time, the id decides.
    alerts.sort_by_key(|alert| (text_at(alert, "/time").to_owned(), alert.to_string()));
    alerts
}

pub(crate) fn titles(alerts: &[Value]) -> BTreeSet<String> {
    alerts.iter().map(|alert| text_at(alert, "/rule/title").to_owned()).collect()
}

#[test]
fn eks_and_aks_fire_exactly_what_fires_bare() {
    let all: Vec<String> = stories().into_values().flatten().collect();
    let bare = scan(&["--cluster", CLUSTER], all.join("\n").as_bytes()).0;
    assert!(bare.len() >= 10);
    let (one, other) = all.split_at(all.len() / 2);
    let (eks_one, eks_other) = (eks(one).to_string(), eks(other).to_string());
    let exported: Vec<String> = all.iter().map(|event| format!("2026-11-21T04:00:00.000Z {event}")).collect();
    let insights: Vec<Value> = all
        .iter()
        .map(|event| json!({"@timestamp": "2026-11-21 04:00:00.000", "@message": event, "@log": "0:/aws/eks/prod/cluster"}))
        .collect();
    let shipped: Vec<String> = all
        .iter()
        .map(|event| {
            json!({"log_group": "/aws/eks/prod/cluster", "log_stream": "kube-apiserver-audit-0", "message": event})
                .to_string()
        })
        .collect();
    let lambda = json!({"awslogs": {"data": STANDARD.encode(gzip(eks(&all).to_string().as_bytes()))}});
    let kinesis = json!({"Records": [{"kinesis": {"data": STANDARD.encode(gzip(eks_one.as_bytes()))}},
        {"kinesis": {"data": STANDARD.encode(gzip(eks_other.as_bytes()))}}]});
    let firehose = json!({"requestId": "r", "timestamp": 1, "records": [{"data": STANDARD.encode(gzip(eks_one.as_bytes()))},
        {"data": STANDARD.encode(gzip(eks_other.as_bytes()))}]});
    let blob: Vec<String> = aks(&all)["records"].as_array().expect("records").iter().map(Value::to_string).collect();
    let forms: Vec<(&str, Vec<u8>)> = vec![
        ("a subscription", eks(&all).to_string().into_bytes()),
        ("subscriptions without anything between", format!("{eks_one}{eks_other}").into_bytes()),
        ("packed subscriptions", [gzip(eks_one.as_bytes()), gzip(eks_other.as_bytes())].concat()),
        ("subscriptions packed twice", gzip(&[gzip(eks_one.as_bytes()), gzip(eks_other.as_bytes())].concat())),
        ("an exported file", gzip(exported.join("\n").as_bytes())),
        ("Logs Insights", serde_json::to_vec_pretty(&insights).expect("JSON")),
        ("a shipper", shipped.join("\n").into_bytes()),
        ("Lambda", lambda.to_string().into_bytes()),
        ("Kinesis", kinesis.to_string().into_bytes()),
        ("Firehose", firehose.to_string().into_bytes()),
        ("an event hub", aks(&all).to_string().into_bytes()),
        ("a blob", blob.join("\n").into_bytes()),
        ("an array of records", json!(aks(&all)["records"]).to_string().into_bytes()),
    ];
    for (form, bytes) in forms {
        let cluster = if form == "an exported file" { CLUSTER } else { "another" };
        let (found, stats) = scan(&["--cluster", cluster], &bytes);
        assert!(found == bare, "{form}: {} alerts, {} bare", found.len(), bare.len());
        assert_eq!((&stats["events"], &stats["rejected"]), (&all.len().into(), &0.into()), "{form}");
    }
}

#[test]
fn openshift_fires_exactly_what_fires_bare() {
    let all: Vec<String> = stories().into_values().flatten().collect();
    let wrapped: Vec<String> = all.iter().map(|event| openshift(event).to_string()).collect();
    let structured: Vec<String> =
        all.iter().map(|event| json!({"structured": openshift(event), "viaq_msg_id": "m"}).to_string()).collect();
    let lines: Vec<String> = all.iter().map(|event| format!("master-0 {event}")).collect();
    let bare = alerts(CLUSTER, all.join("\n").as_bytes());
    for (cluster, form) in [("another", wrapped), ("another", structured), (CLUSTER, lines)] {
        assert_eq!(alerts(cluster, form.join("\n").as_bytes()), bare);
    }
}

#[test]
fn gke_fires_what_fires_bare_but_for_what_is_lost() {
    let mut fired = BTreeSet::new();
    for (story, events) in stories() {
        let entries = gke(&events);
        let less: Vec<String> = events.iter().filter_map(|event| without_lost(event)).collect();
        if entries.is_empty() {
            continue;
        }
        let found = titles(&alerts("another", json!(entries).to_string().as_bytes()));
        assert_eq!(found, titles(&alerts(CLUSTER, less.join("\n").as_bytes())), "{story}");
        if story == "exec-shell" {
            let bare = titles(&alerts(CLUSTER, events.join("\n").as_bytes()));
            let lost: Vec<&str> = bare.difference(&found).map(String::as_str).collect();
            assert_eq!(lost, ["Interactive shell opened in a container"]);
        }
        fired.extend(found);
    }
    assert!(fired.len() >= 5, "{fired:?}");
}

#[test]
fn every_form_of_gkes_entries_is_read_as_the_judge_reads_them() {
    let all: Vec<String> = stories().into_values().flatten().collect();
    let entries = gke(&all);
    let told: Vec<String> = entries.iter().flat_map(unwrap).map(|(_, event)| event.to_string()).collect();
    let judged = alerts("p/l/prod", told.join("\n").as_bytes());
    let lines =
        |of: &dyn Fn(&Value) -> Value| entries.iter().map(|entry| of(entry).to_string() + "\n").collect::<String>();
    let message = |entry: &Value| json!({"data": STANDARD.encode(entry.to_string()), "messageId": "1"});
    for form in [
        serde_json::to_string_pretty(&entries).expect("JSON"),
        json!({"entries": entries}).to_string(),
        lines(&Value::clone),
        lines(&|entry| json!({"message": message(entry), "subscription": "s"})),
        lines(&|entry| json!({"value": entry.to_string()})),
        json!(entries.iter().map(|entry| json!({"ackId": "a", "message": message(entry)})).collect::<Vec<_>>())
            .to_string(),
    ] {
        assert_eq!(alerts("another", form.as_bytes()), judged, "{form:.200}");
    }
}

/// An event without what GKE does not tell, as `docs/envelopes.md` lists it.
pub(crate) fn without_lost(event: &str) -> Option<String> {
    let mut event: Value = serde_json::from_str(event).expect("JSON");
    if ["RequestReceived", "Panic"].contains(&text_at(&event, "/stage")) {
        return None;
    }
    for user in ["user", "impersonatedUser"] {
        if let Some(members) = event[user].as_object_mut() {
            members.retain(|key, _| key == "username");
        }
    }
    if let Some(addresses) = event["sourceIPs"].as_array_mut() {
        addresses.truncate(1);
    }
    let (path, query) = {
        let uri = text_at(&event, "/requestURI");
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let commands = query.split('&').filter(|pair| pair.starts_with("command="));
        (path.to_owned(), commands.collect::<Vec<_>>().join("&"))
    };
    event["requestURI"] = if query.is_empty() { path } else { format!("{path}?{query}") }.into();
    Some(event.to_string())
}

#[test]
fn recorded_entries_of_gke_are_read_as_the_judge_reads_them() {
    let folder = root().join("../shared/data/envelopes/gke-khi");
    if !folder.exists() {
        return skipped("the recorded entries of GKE are not there");
    }
    for (name, events) in [("gke-k8s-audit.jsonl", 3), ("gke-container-api.jsonl", 0), ("native-oss.jsonl", 1)] {
        let text = std::fs::read_to_string(folder.join(name)).expect("readable");
        let judged: Vec<Found> = json_lines(&text).iter().flat_map(unwrap).collect();
        assert_eq!((judged.len(), framed(&text)), (events, judged), "{name}");
        let (_, stats) = scan(&[], text.as_bytes());
        assert_eq!((&stats["events"], &stats["rejected"]), (&events.into(), &0.into()), "{name}: {stats}");
    }
}

/// The made-up samples that everybody has: each holds the same attack, and something that is none.
#[test]
fn samples_of_each_form_hold_the_same_attack() {
    let folder = root().join("tests/envelopes");
    for (name, clusters, skipped, truncated) in [
        ("eks-subscription.json", "prod", 1, 0),
        ("eks-export.txt", "here", 0, 1),
        ("eks-insights.json", "prod", 0, 0),
        ("eks-shipper.jsonl", "prod", 1, 0),
        ("aks-event-hub.json", "prod", 1, 0),
        ("aks-blob.jsonl", "prod", 1, 0),
        ("gke-logging.json", "demo/europe-west1/prod", 2, 0),
        ("gke-pubsub.json", "demo/europe-west1/prod", 0, 0),
        ("openshift-vector.jsonl", "11111111-2222-4333-8444-555555555555", 1, 0),
        ("openshift-node-logs.txt", "here", 0, 0),
    ] {
        let output = run(
            &["scan", "--cluster", "here", "--format", "json", "--stats", "json", "-q"],
            &std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")),
        );
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        let stats: Value = serde_json::from_str(err.lines().last().expect("statistics")).expect("JSON");
        let found = json_lines(&String::from_utf8_lossy(&output.stdout));
        let wanted = found.iter().filter(|alert| text_at(alert, "/rule/title") == "Role granted to anonymous callers");
        let wanted: Vec<&str> = wanted.map(|alert| text_at(alert, "/cluster")).collect();
        assert_eq!(wanted, [clusters], "{name}: {err}");
        let counts = [&stats["rejected"], &stats["skipped"], &stats["truncated"]].map(|count| count.as_u64());
        assert_eq!(counts, [Some(0), Some(skipped), Some(truncated)], "{name}: {stats}");
    }
}

#[tokio::test]
async fn the_webhook_and_followed_files_open_envelopes() {
    let home = tempfile::tempdir().expect("a folder");
    let log = home.path().join("audit.log");
    let sources = format!(
        "sources: [{{type: webhook, listen: '127.0.0.1:0'}}, {{type: file, path: '{}'}}, {{type: file, name: own, cluster: mine, path: '{}.own'}}]\ncluster: home\n",
        log.display(),
        log.display()
    );
    let daemon = Daemon::start(home.path(), &sources).await;
    let attack = attack();
    let control = json!({"messageType": "CONTROL_MESSAGE", "logGroup": "", "logStream": "", "logEvents": [{"id": "", "timestamp": 1, "message": "CWL CONTROL MESSAGE"}]});
    let packed = gzip(eks(&attack).to_string().as_bytes());
    let (status, text) = daemon.post(packed).await;
    assert_eq!((status, text.trim()), (200, r#"{"events":27,"rejected":0}"#));
    let (status, text) = daemon.post(control.to_string()).await;
    assert_eq!((status, text.trim()), (200, r#"{"events":0,"rejected":0}"#));
    let hub = aks(&attack)["records"].clone();
    let lines: String = hub.as_array().expect("records").iter().map(|record| format!("{record}\n")).collect();
    std::fs::write(&log, &lines).expect("written");
    std::fs::write(log.with_extension("log.own"), &lines).expect("written");
    daemon.metric_is("kubesiren_events_total", "source=\"file\"", 27.0).await;
    daemon.metric_is("kubesiren_events_total", "source=\"file\",cluster=\"prod\"", 27.0).await;
    daemon.metric_is("kubesiren_events_total", "source=\"own\",cluster=\"mine\"", 27.0).await;
    assert!((daemon.metric("kubesiren_events_total", "source=\"webhook\",cluster=\"prod\"").await - 27.0).abs() < 0.5);
    assert!((daemon.metric("kubesiren_records_skipped_total", "source=\"webhook\"").await - 1.0).abs() < 0.5);
    // What the source itself names is certain.
    let path = format!("{}/edge", daemon.hook());
    let answer = crate::support::client().post(path).body(eks(&attack).to_string()).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    daemon.metric_is("kubesiren_events_total", "source=\"webhook\",cluster=\"edge\"", 27.0).await;
    let expected = scan(&["--cluster", CLUSTER], attack.join("\n").as_bytes()).0.len();
    until("the alerts of three clusters", async || {
        let found = daemon.alerts().await;
        let mut counts = BTreeMap::<String, usize>::new();
        found.values().for_each(|alert| *counts.entry(text_at(alert, "/cluster").to_owned()).or_default() += 1);
        let all = ["edge", "mine", "prod"].map(|cluster| (cluster.to_owned(), expected)).into_iter().collect();
        if counts == all { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;
    daemon.stop().await;
}

/// An episode ends when the time of its own cluster has passed it, which only its envelope names.
#[tokio::test]
async fn episodes_end_by_the_time_of_the_cluster_that_the_envelope_names() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    let (status, text) = daemon.post(eks(&attack()).to_string()).await;
    assert_eq!(status, 200, "{text}");
    let (status, text) = daemon.post(eks(&[end_of_story()]).to_string()).await;
    assert_eq!(status, 200, "{text}");
    until("all have ended", async || {
        let found = daemon.alerts().await;
        let ended = found.values().filter(|alert| alert["status"] == "resolved").count();
        if ended >= 10 && ended == found.len() { Ok(()) } else { Err(format!("{ended} of {}", found.len())) }
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn bad_records_are_told_with_their_place_and_the_good_ones_count() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    let mut events = attack();
    events[3] = "no event SECRETWORD".to_owned();
    let whole = events[5].clone();
    events[5].truncate(whole.find("\"stageTimestamp\"").expect("a time") - 1);
    let (status, text) = daemon.post(eks(&events).to_string()).await;
    assert_eq!((status, text.trim()), (200, r#"{"events":26,"rejected":1}"#));
    daemon.metric_is("kubesiren_events_rejected_total", "reason=\"kind\"", 1.0).await;
    daemon.metric_is("kubesiren_events_truncated_total", "source=\"webhook\"", 1.0).await;
    let kept = std::fs::read_to_string(home.path().join("state/rejects.jsonl")).expect("kept");
    let kept = json_lines(&kept);
    assert_eq!(text_at(&kept[0], "/place"), "byte 0, record 3");
    assert_eq!(text_at(&kept[0], "/detail"), "the record holds no audit event of audit.k8s.io/v1");
    let (status, text) = daemon.post(eks(&["no event SECRETWORD".to_owned()]).to_string()).await;
    assert_eq!(status, 200, "an envelope is what it should be: {text}");
    let (status, text) = daemon.post(r#"{"records":[{"a":"SECRETWORD"}]}"#).await;
    assert_eq!(status, 400);
    assert!(text.contains("byte 0, record 0") && !text.contains("SECRETWORD"), "{text}");
    daemon.stop().await;
}

/// Events as the program finds them, with their clusters.
fn framed(body: &str) -> Vec<Found> {
    let mut found = Vec::new();
    let outcome = frame_from(body.as_bytes(), 0, |piece, cluster| match piece {
        Framed::Event(bytes) => {
            let event = value(bytes).map_err(|_| told_apart())?;
            found.push((cluster.map(str::to_owned), event));
            Ok(0)
        }
        Framed::First(_) => Err(told_apart()),
        Framed::Bad(_) => Ok(0),
    });
    // What holds nothing may be an error.
    let _ = outcome;
    found
}

/// Any event as a provider tells it.
fn event() -> impl Strategy<Value = Value> {
    vocabulary::event().prop_filter_map("JSON", |text| {
        let mut event: Value = serde_json::from_str(&text).ok()?;
        event["kind"] = "Event".into();
        event["apiVersion"] = "audit.k8s.io/v1".into();
        Some(event)
    })
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "",
        "core",
        "apps",
        "v1",
        "namespaces",
        "a",
        "pods",
        "exec",
        "proxy",
        "x y",
        "ü",
        "get",
        "create",
        "k8s",
    ])
}

/// Entries of Google's audit logs, also odd ones.
fn log_entry() -> impl Strategy<Value = Value> {
    let names = (
        prop::sample::select(vec!["core", "apps", "rbac.authorization.k8s.io"]),
        prop::bool::ANY,
        prop::sample::select(vec!["pods", "namespaces", "nodes"]),
        prop::option::of(Just("n")),
        prop::option::of(prop::sample::select(vec!["exec", "proxy", "status", "finalize"])),
        prop::sample::select(vec!["create", "get", "patch"]),
    );
    let text = || prop::option::of(word());
    let code = prop::option::of(-1_i64..20);
    let body = prop_oneof![
        Just(Value::Null),
        Just(
            json!({"@type": "core.k8s.io/v1.Status", "code": 409, "status": "Failure", "message": "exists", "reason": ""})
        ),
        Just(json!({"@type": "core.k8s.io/v1.Status", "code": "409"})),
        Just(json!({"spec": {"@type": 1, "a": ["ü\u{1F600}", 1.5, null]}, "@type": "x"})),
        Just(json!([1])),
    ];
    let flags = (prop::option::of(any::<bool>()), prop::option::of(any::<bool>()));
    (names, (text(), text(), text(), text(), text()), code, (body.clone(), body), flags).prop_map(
        |((group, namespaced, resource, name, sub, verb), (email, subject, selector, address, command), code, (request, response), (first, last))| {
            let namespaced = namespaced && resource == "pods";
            let sub = sub.filter(|_| name.is_some());
            let mut parts = vec![group, "v1"];
            parts.extend(if namespaced { vec!["namespaces", "a"] } else { vec![] });
            parts.push(resource);
            parts.extend(name.into_iter().chain(sub));
            let method: Vec<&str> = ["io.k8s", group, "v1", resource].into_iter().chain(sub).chain([verb]).collect();
            let mut labels = json!({"a.b/c": "d"});
            if let Some(command) = command {
                labels["command.gke.io/command"] = command.into();
            }
            json!({
                "insertId": "i", "operation": {"id": "o", "first": first, "last": last}, "labels": labels,
                "timestamp": "2026-01-05T09:00:00Z", "resource": {"labels": {"project_id": "p", "location": "l", "cluster_name": "c"}},
                "protoPayload": {"serviceName": "k8s.io", "methodName": method.join("."), "resourceName": parts.join("/"),
                    "authenticationInfo": {"principalEmail": email, "principalSubject": subject, "authoritySelector": selector},
                    "requestMetadata": {"callerIp": address, "callerSuppliedUserAgent": email},
                    "status": {"code": code, "message": command}, "request": request, "response": response},
            })
        },
    )
}

/// Something that holds events, in anything that holds something.
fn envelope() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![4 => event(), 4 => log_entry(), 1 => Just(json!({"log": "hello"})), 1 => Just(json!(7))];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let several = || prop::collection::vec(inner.clone(), 1..4);
        let keys = prop::sample::select(vec!["log", "message", "value", "event", "structured", "@message"]);
        prop_oneof![
            several().prop_map(Value::from),
            several().prop_map(|events| eks(&events.iter().map(Value::to_string).collect::<Vec<_>>())),
            several().prop_map(|events| aks(&events.iter().map(Value::to_string).collect::<Vec<_>>())),
            several().prop_map(|events| json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": events})),
            several().prop_map(|entries| json!({"entries": entries})),
            inner.clone().prop_map(|inner| json!({"message": {"data": STANDARD.encode(inner.to_string())}})),
            inner
                .clone()
                .prop_map(|inner| json!({"awslogs": {"data": STANDARD.encode(gzip(inner.to_string().as_bytes()))}})),
            (keys.clone(), inner.clone()).prop_map(|(key, inner)| json!({key: inner, "stream": "stdout"})),
            (keys, inner.clone()).prop_map(|(key, inner)| json!({key: inner.to_string(), "kubernetes": {"host": "h"}})),
        ]
    })
}

/// Wrappers around the innermost: the program opens so many and no more.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(_) if value["kind"] == "Event" || value.get("protoPayload").is_some() => 0,
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(inner @ (Value::Object(_) | Value::Array(_))) => depth(&inner),
            // What is packed may hold lines, each of them a wrapper again.
            _ => unpacked(text).map_or(0, |inner| {
                1 + inner
                    .lines()
                    .map(|line| depth(&Value::from(line)))
                    .chain([depth(&Value::from(&*inner))])
                    .max()
                    .unwrap_or(0)
            }),
        },
        _ => 0,
    }
}

/// How many objects and lists are within one another.
fn nested(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nested).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(nested).max().unwrap_or(0),
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_judge_agrees_about_what_envelopes_hold(envelope in envelope()) {
        let bounded = |(cluster, event): Found| (cluster, value(event.to_string().as_bytes()).expect("JSON"));
        let judged: Vec<Found> = unwrap(&envelope).into_iter().map(bounded).collect();
        // The judge's parser counts depth from the list on, the program from the event on.
        let found = framed(&envelope.to_string());
        let near_the_limit = found.iter().any(|(_, event)| nested(event) > 100);
        if depth(&envelope) <= 6 && !near_the_limit {
            prop_assert_eq!(&found, &judged);
            prop_assert_eq!(framed(&format!("{envelope}\n{envelope}\n")), [&judged[..], &judged[..]].concat());
        }
    }
}

/// Rules see what is mapped as the judge sees it: the compiled engine, on random entries.
#[test]
fn rules_say_the_same_of_what_is_mapped() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let loaded = rule::load(&rule::Options { builtin: true, ..rule::Options::default() });
    let set = RuleSet::compile(loaded.rules, Duration::from_secs(300));
    let (mut runner, mut detector) = (TestRunner::deterministic(), Detector::default());
    for _ in 0..300 {
        let entry = log_entry().new_tree(&mut runner).expect("an entry").current();
        let mut found = Detected::default();
        let _ = detector.body(&set, &"x".into(), entry.to_string().as_bytes(), &mut found);
        let (_, event) = unwrap(&entry).pop().expect("an event");
        let judged = crate::judge::judged(set.rules(), &event.to_string()).expect("JSON");
        let fired: BTreeSet<String> = found.matches.iter().map(|found| found.rule.to_string()).collect();
        assert_eq!((fired, found.rejects.count()), (judged, 0), "{entry}");
        assert!(found.matches.iter().all(|found| &*found.cluster == "p/l/c"));
    }
}

/// Bytes of the samples lost, doubled or changed: nothing panics, and what stands on its own lines is found all the same.
#[test]
fn broken_envelopes_harm_nobody() {
    let folder = root().join("tests/envelopes");
    let good = attack();
    let mut state = 0x9e37_79b9_u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for file in std::fs::read_dir(folder).expect("the samples") {
        let sample = std::fs::read(file.expect("a file").path()).expect("readable");
        for _ in 0..60 {
            let mut broken = sample.clone();
            let at = random(broken.len());
            match random(4) {
                0 => broken.truncate(at),
                1 => broken[at] = b"\"{}[],:0\\x\n"[random(11)],
                2 => drop(broken.drain(at..(at + random(40)).min(sample.len()))),
                _ => broken.extend_from_within(at..),
            }
            let _ = framed(&String::from_utf8_lossy(&broken));
            let text = String::from_utf8_lossy(&broken).replace('\n', " ");
            let body = format!("{}\n{text}\n{}\n", good[0], good[1]);
            assert!(framed(&body).len() >= 2, "{body}");
        }
    }
}

#[test]
fn an_ordinary_day_is_as_quiet_in_every_envelope() {
    let Some(file) = recording("benign.jsonl.zst") else { return };
    let packed = std::fs::read(&file).expect("readable");
    let text = String::from_utf8(zstd::decode_all(&packed[..]).expect("whole")).expect("UTF-8");
    let events: Vec<String> = text.lines().take(4_000).map(str::to_owned).collect();
    let bare = scan(&["--cluster", CLUSTER], events.join("\n").as_bytes());
    for wrap in [eks, aks] {
        let wrapped: Vec<String> = events.chunks(50).map(|events| wrap(events).to_string()).collect();
        let (found, stats) = scan(&[], wrapped.join("\n").as_bytes());
        assert!(found == bare.0);
        assert_eq!((&stats["events"], &stats["rejected"]), (&bare.1["events"], &0.into()));
    }
    let entries: Vec<String> = gke(&events).iter().map(Value::to_string).collect();
    let less: Vec<String> = events.iter().filter_map(|event| without_lost(event)).collect();
    let less = titles(&scan(&[], less.join("\n").as_bytes()).0);
    assert_eq!(titles(&scan(&[], entries.join("\n").as_bytes()).0), less);
}
