//! Every shape of body, whole, torn and hostile.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;

const EVENT: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a"}"#;

/// Events and bad pieces as they are handed out.
type Pieces = (Vec<String>, Vec<String>);

fn run(body: &str) -> Result<Pieces, FrameError> {
    run_with(body, false)
}

/// `in_one_pass`: whether the items of a list are taken without being told apart first.
fn run_with(body: &str, in_one_pass: bool) -> Result<Pieces, FrameError> {
    let (mut events, mut bad) = (Vec::new(), Vec::new());
    let whole = |bytes: &[u8]| serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    frame(body.as_bytes(), |framed| {
        match framed {
            Framed::Event(bytes) if !whole(bytes) => return Err((Reason::Syntax, "torn".to_owned())),
            Framed::First(bytes) => {
                let len = skip::value(bytes).filter(|len| in_one_pass && bytes[0] == b'{' && whole(&bytes[..*len]));
                let len = len.ok_or_else(told_apart)?;
                events.push(String::from_utf8_lossy(&bytes[..len]).into_owned());
                return Ok(len);
            }
            Framed::Event(bytes) => events.push(String::from_utf8_lossy(bytes).into_owned()),
            Framed::Bad(reject) => {
                bad.push(format!("{}: {} {}", reject.place, reject.reason.as_str(), reject.detail));
            }
        }
        Ok(0)
    })?;
    Ok((events, bad))
}

#[test]
fn every_shape_is_told_by_its_content() {
    let list = format!(
        r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{{"auditID":"b"}},{EVENT}]}}"#
    );
    let pretty =
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&list).expect("json")).expect("json");
    for (body, count) in [
        (EVENT.to_owned(), 1),
        (format!("\u{feff}{EVENT}"), 1),
        (list.clone(), 2),
        (pretty.clone(), 2),
        (format!("{pretty}\n{pretty}"), 4),
        (format!("[{EVENT},{EVENT},{EVENT}]"), 3),
        (
            r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"level":"Metadata","auditID":"b"}]}"#
                .to_owned(),
            1,
        ),
        (format!("{EVENT}\n\n{EVENT}\r\n{list}\n"), 4),
        (format!(r#"{{"scenario":"x","event":{EVENT}}}"#), 1),
        (format!(r#"{{"kubernetes":{{"audit":{EVENT}}}}}"#), 1),
    ] {
        let (events, bad) = run(&body).expect(&body);
        assert_eq!((events.len(), bad.len()), (count, 0), "{body} {bad:?}");
    }
}

#[test]
fn an_empty_list_is_fine() {
    assert_eq!(run(r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}"#), Ok((vec![], vec![])));
}

#[test]
fn one_bad_event_leaves_its_neighbours() {
    let (events, bad) = run(&format!("{EVENT}\n{{\"kind\":\n{EVENT}")).expect("lines");
    assert_eq!(
        (events.len(), bad),
        (2, vec!["line 2: syntax EOF while parsing a value at line 1 column 8".to_owned()])
    );
    let body = format!(
        r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{EVENT},{{"auditID":tru}},{EVENT},7]}}"#
    );
    let (events, bad) = run(&body).expect("a list");
    assert_eq!(events.len(), 2);
    assert!(bad[0].starts_with("item 1: syntax expected ident"), "{bad:?}");
    let (events, bad) = run(&format!("[{EVENT},7,{EVENT}]")).expect("a list");
    assert_eq!((events.len(), bad), (2, vec!["item 1: kind a number is no event".to_owned()]));
}

#[test]
fn bodies_that_are_nothing_say_what_is_wrong() {
    for (body, message) in [
        ("", "the body is empty"),
        (" \n", "the body is empty"),
        ("hello", "the body is not JSON: expected value at line 1 column 1"),
        ("{}", "the body is not audit.k8s.io/v1: kind must be Event or EventList of audit.k8s.io/v1"),
        ("[1]", "the body is not audit.k8s.io/v1: item 0: a number is no event"),
        (
            r#"{"kind":"EventList","apiVersion":"v1","items":[]}"#,
            "the body is not audit.k8s.io/v1: apiVersion must be audit.k8s.io/v1, it has another",
        ),
    ] {
        assert_eq!(run(body).map_err(|e| e.to_string()), Err(message.to_owned()), "{body}");
    }
}

/// As deep as a client likes, on a thread with a small stack.
#[test]
fn nesting_costs_neither_stack_nor_time() {
    for opening in
        [r#"{"\ud800":0,"items":["#, r#"{"items":["#, r#"{"items":{"items":"#, "[", "[{\"log\":", "{\"log\":\n"]
    {
        for closing in ["", "]}"] {
            let body = format!("{}{}", opening.repeat(60_000), closing.repeat(60_000));
            let small = std::thread::Builder::new().stack_size(256 << 10);
            let answer = small.spawn(move || run(&body).is_err()).expect("a thread").join().expect("no overflow");
            assert!(answer, "{opening}");
        }
    }
}

#[test]
fn torn_first_lines_leave_the_others() {
    for (torn, lines) in
        [(r#""}"#, 1), ("{\"kind\":\"Ev\nxx", 2), ("{\"kind\":", 1), ("{\"items\":[", 1), ("[", 1), ("{", 1)]
    {
        for good in [1, 3, 100] {
            let body = format!("{torn}\n{}", format!("{EVENT}\n").repeat(good));
            let (events, bad) = run(&body).expect(torn);
            assert_eq!((events.len(), bad.len()), (good, lines), "{torn} {bad:?}");
            assert!(bad[0].starts_with("line 1: syntax "), "{bad:?}");
            assert!(is_lines(body.as_bytes()), "{torn}");
        }
    }
}

#[test]
fn printed_lists_may_be_broken() {
    let head = "\n  \"kind\": \"EventList\",\n  \"apiVersion\": \"audit.k8s.io/v1\",\n  \"items\": [";
    let printed = EVENT.replace(',', ",\n").replace('{', "{\n").replace('}', "\n}");
    for item in [EVENT, &printed] {
        let body = format!("{{{head}\n{item},\n{{\"auditID\": tru}},\n{item}\n]\n}}\n");
        let (events, bad) = run(&body).expect("a list");
        assert_eq!((events.len(), bad.len()), (2, 1), "{bad:?}");
        assert!(!is_lines(body.as_bytes()));
    }
}

#[test]
fn several_events_on_a_line_all_count() {
    for body in [
        format!("{EVENT}{EVENT}"),
        format!("{EVENT} {EVENT}\n"),
        format!("{EVENT}{EVENT}\n{EVENT}\n"),
        format!(" {EVENT}{{\"event\":{EVENT}}}\n\n{EVENT}"),
    ] {
        let (events, bad) = run(&body).expect(&body);
        assert_eq!((events.len(), bad.len()), (body.matches("Event\"").count(), 0), "{body} {bad:?}");
    }
    let (events, bad) = run(&format!("{EVENT}{EVENT}{{\"kind\":")).expect("two");
    assert_eq!((events.len(), bad.len()), (2, 1), "{bad:?}");
}

#[test]
fn null_items_are_an_empty_list() {
    assert_eq!(run(r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":null}"#), Ok((vec![], vec![])));
    assert!(run(r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":{}}"#).is_err());
    assert!(run(r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1"}"#).is_err());
}

#[test]
fn half_an_event_is_no_json() {
    let body = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"#;
    assert_eq!(run(body), Err(FrameError::NotJson("torn".to_owned())));
    let (events, bad) = run(&format!("{body}\n{EVENT}\n")).expect("an event");
    assert_eq!((events.len(), bad), (1, vec!["line 1: syntax torn".to_owned()]));
}

#[test]
fn wrappers_are_opened_whatever_else_they_hold() {
    let quoted = |text: &str| serde_json::to_string(text).expect("JSON");
    let (line, list) = (quoted(&format!("{EVENT}\n")), quoted(&format!("[{EVENT},{EVENT}]")));
    let printed = quoted(&EVENT.replace(",", " ,\n"));
    for (body, count) in [
        (format!(r#"{{"log":{line}}}"#), 1),
        (format!(r#"{{"log":{list},"stream":"stdout"}}"#), 2),
        (format!(r#"{{"message":{printed}}}"#), 1),
        (format!(r#"{{"kubernetes":{{"pod_name":"p","labels":{{}}}},"log":{line}}}"#), 1),
        (format!(r#"{{"event":{{"kind":"event"}},"message":"hello","log":7,"value":{EVENT}}}"#), 1),
        (format!(r#"{{"log":"hello","kubernetes":{{"host":"h","audit":{EVENT}}}}}"#), 1),
        (format!(r#"{{"log":"{{","kubernetes.audit":{line}}}"#), 1),
        (format!(r#"{{"kind":"x","message":{}}}"#, quoted(&format!(r#"{{"log":{line}}}"#))), 1),
        (format!(r#"[{{"log":{line}}},{{"log":{EVENT}}}]"#), 2),
    ] {
        for body in [body.clone(), format!("{body}\n{body}\n")] {
            let (events, bad) = run(&body).expect(&body);
            assert_eq!((events.len(), bad.len()), (count * body.lines().count(), 0), "{body} {bad:?}");
        }
    }
    let (events, bad) = run(&format!("{{\"log\":{line}}}\n{{\"log\":{}}}\n", quoted(&EVENT[..60]))).expect("one");
    assert_eq!((events.len(), bad), (1, vec!["line 2: syntax torn".to_owned()]));
    assert!(run(r#"{"log":"hello"}"#).is_err());
}

#[test]
fn wrappers_in_wrappers_end_somewhere() {
    let mut body = EVENT.to_owned();
    for depth in 1..9 {
        body = format!(r#"{{"message":{}}}"#, serde_json::to_string(&body).expect("JSON"));
        assert_eq!(run(&body).is_ok(), depth <= NESTING_MAX, "{depth}");
    }
}

#[test]
fn one_pass_over_a_list_finds_what_two_find() {
    const HEAD: &str = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    let other = EVENT.replace("\"a\"", "\"b \\\" ]}\"");
    let torn = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":}"#;
    // It must not take its neighbours with it.
    let unclosed = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":[}"#;
    for (items, tail, events, bad) in [
        (String::new(), "]}", 0, 0),
        (EVENT.to_owned(), "]}", 1, 0),
        (format!("{EVENT},{other}"), "]}\n", 2, 0),
        (format!(" {EVENT} , {other} "), "] , \"more\": [1, {}] }", 2, 0),
        (format!("{EVENT},{torn},{other}"), "]}", 2, 1),
        (format!("{EVENT},{unclosed},{other}"), "]}", 2, 1),
        (format!("{EVENT},7,{other}"), "]}", 2, 1),
        (format!("{EVENT},{}", other.replace("\"kind\"", "\"sort\"")), "]}", 2, 0),
        (format!("{EVENT},{other}"), "", 2, 0),
        (EVENT.to_owned(), &format!("]}}\n{other}\n{torn}\n"), 2, 1),
        (EVENT.to_owned(), &format!("]}}{other}"), 2, 0),
        (EVENT.to_owned(), &format!("]}}\n{HEAD}{other},{EVENT}]}}\n"), 3, 0),
    ] {
        let body = format!("{HEAD}{items}{tail}");
        let (in_one, in_two) = (run_with(&body, true), run(&body));
        let counts = in_one.as_ref().map(|(events, bad)| (events.len(), bad.len()));
        assert_eq!(counts, Ok((events, bad)), "{body}");
        let trimmed = |found: Result<Pieces, FrameError>| {
            found.map(|(events, bad)| (events.iter().map(|e| e.trim().to_owned()).collect::<Vec<_>>(), bad))
        };
        assert_eq!(trimmed(in_one), trimmed(in_two), "{body}");
    }
}

#[test]
fn a_list_cut_anywhere_ends() {
    let list = format!(
        r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{"a":"]"}},"items":[{EVENT},{EVENT}],"x":{{"y":[1]}}}}"#
    );
    for cut in 0..list.len() {
        if let Ok((events, bad)) = run_with(&list[..cut], true) {
            assert!(events.len() + bad.len() <= 3, "{}", &list[..cut]);
        }
    }
    assert_eq!(run_with(&list, true).map(|(events, _)| events.len()), Ok(2));
}

const TIME: &str = "2026-01-01T00:00:00.000000Z";

/// What an envelope holds: events with their clusters, bad pieces, and the counts.
#[derive(Debug, Default, PartialEq)]
struct Opened {
    events: Vec<(Option<String>, Value)>,
    bad: Vec<String>,
    truncated: u64,
    skipped: u64,
}

/// Takes what is JSON, as [`run`] does.
fn opened(body: &str) -> Opened {
    let mut opened = Opened::default();
    let found = frame_from(body.as_bytes(), 0, |framed, cluster| {
        match framed {
            Framed::Event(bytes) => {
                let event = serde_json::from_slice(bytes).map_err(|_| (Reason::Syntax, "torn".to_owned()))?;
                opened.events.push((cluster.map(str::to_owned), event));
            }
            Framed::First(_) => return Err(told_apart()),
            Framed::Bad(reject) => opened.bad.push(format!("{}: {}", reject.place, reject.detail)),
        }
        Ok(0)
    });
    let found = found.unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!((found.events as usize, found.bad as usize), (opened.events.len(), opened.bad.len()), "{body}");
    Opened { truncated: found.truncated, skipped: found.skipped, ..opened }
}

fn bare() -> Value {
    serde_json::from_str(EVENT).expect("JSON")
}

fn subscription(stream: &str, messages: &[&str]) -> Value {
    let events: Vec<_> =
        messages.iter().map(|text| json!({"id": "1", "timestamp": 1_767_225_600_000_u64, "message": text})).collect();
    json!({"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "/aws/eks/prod/cluster", "logStream": stream,
        "subscriptionFilters": ["f"], "logEvents": events})
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).expect("memory");
    gzip.finish().expect("memory")
}

#[test]
fn cloudwatch_holds_events_beside_other_logs() {
    let audit = subscription("kube-apiserver-audit-1", &[EVENT, EVENT]);
    let named = |count| vec![(Some("prod".to_owned()), bare()); count];
    let data = STANDARD.encode(gzip(&audit.to_string()));
    for body in [
        audit.to_string(),
        serde_json::to_string_pretty(&audit).expect("JSON"),
        json!({"message": audit.to_string()}).to_string(),
        json!({"awslogs": {"data": data}}).to_string(),
        json!({"Records": [{"kinesis": {"data": data}, "eventSource": "aws:kinesis"}]}).to_string(),
        json!({"requestId": "1", "timestamp": 1, "records": [{"data": data}]}).to_string(),
        json!({"message": json!({"Records": [{"kinesis": {"data": data}}]})}).to_string(),
        json!([{"@timestamp": "2026-01-01 00:00:00.000", "@message": EVENT, "@log": "1:/aws/eks/prod/cluster"},
            {"@timestamp": "2026-01-01 00:00:00.000", "@message": bare(), "@log": "1:/aws/eks/prod/cluster"}])
        .to_string(),
        [EVENT; 2]
            .map(|text| {
                json!({"message": text, "log_group": "/aws/eks/prod/cluster", "log_stream": "kube-apiserver-audit-1"})
                    .to_string()
            })
            .join("\n"),
    ] {
        assert_eq!(opened(&body), Opened { events: named(2), ..Opened::default() }, "{body}");
    }
    let twice = format!("{audit}{audit}");
    assert_eq!(opened(&twice).events, named(4), "Firehose puts nothing between records");
    let other = subscription("authenticator-1", &["time=\"x\" level=info", "{\"a\":1}"]);
    let mut control = subscription("", &["CWL CONTROL MESSAGE: Checking health of destination"]);
    control["messageType"] = json!("CONTROL_MESSAGE");
    for (body, skipped) in [(other.to_string(), 2), (control.to_string(), 1), (format!("{control}\n{other}"), 3)] {
        assert_eq!(opened(&body), Opened { skipped, ..Opened::default() }, "{body}");
    }
    let bad = subscription("kube-apiserver-audit-1", &[EVENT, "hello", EVENT]);
    let found = opened(&format!("{EVENT}\n{bad}"));
    assert_eq!(
        (found.events.len(), found.bad),
        (3, vec!["line 2, record 1: the record holds no audit event of audit.k8s.io/v1".to_owned()])
    );
}

#[test]
fn what_the_clouds_export_as_files_is_read() {
    for body in [
        format!("2026-01-01T00:00:00.000Z {EVENT}\n2026-01-01T00:00:00.000Z {EVENT}\n"),
        format!("node-1 {EVENT}\nnode-2 {EVENT}"),
        format!("2026-01-01T00:00:00.1Z stdout F {EVENT}\n<13>1 2026-01-01T00:00:00Z h app 1 - - {EVENT}"),
        json!({"events": [{"logStreamName": "kube-apiserver-audit-1", "timestamp": 1, "message": EVENT}, {"message": EVENT}]})
            .to_string(),
    ] {
        let found = opened(&body);
        assert_eq!((found.events.len(), found.bad.len()), (2, 0), "{body} {found:?}");
    }
    let found = opened(&format!("{EVENT}\nnode-1 hello {{\n[1] {EVENT}\n"));
    assert_eq!((found.events.len(), found.bad.len()), (2, 2), "{found:?}");
    assert_eq!(opened(&json!({"events": [], "searchedLogStreams": []}).to_string()), Opened::default());
}

#[test]
fn lines_that_are_cut_off_are_salvaged_if_their_time_is_known() {
    let long = format!(
        r#"{},"verb":"create","user":{{"username":"bob"}},"requestObject":{{"a":"xxx"#,
        &EVENT[..EVENT.len() - 1]
    );
    let aks =
        json!({"records": [{"category": "kube-audit", "resourceId": "/x", "time": TIME, "properties": {"log": long}}]});
    for body in [
        subscription("kube-apiserver-audit-1", &[&long]).to_string(),
        subscription("kube-apiserver-audit-1", &[&format!("{long}[Truncated...]")]).to_string(),
        format!("2026-01-01T00:00:00.000Z {long}\n"),
        json!({"message": long, "@timestamp": TIME}).to_string(),
        aks.to_string(),
    ] {
        let found = opened(&body);
        assert_eq!((found.events.len(), found.bad.len(), found.truncated), (1, 0, 1), "{body} {found:?}");
        let event = &found.events[0].1;
        assert_eq!((&event["verb"], &event["user"]["username"]), (&json!("create"), &json!("bob")));
        assert_eq!(event["stageTimestamp"], json!(TIME));
        assert_eq!(
            (event.get("requestObject"), &event["annotations"]),
            (None, &json!({"audit.k8s.io/truncated": "true"}))
        );
    }
    assert!(
        frame(long.as_bytes(), |framed| if let Framed::Event(_) = framed {
            Err((Reason::Syntax, String::new()))
        } else {
            Ok(0)
        })
        .is_err()
    );
}

#[test]
fn azure_holds_events_beside_other_logs() {
    let record = |category: &str, log: Value| {
        json!({"category": category, "operationName": "x", "time": TIME, "properties": {"log": log, "stream": "stdout", "pod": "p"},
            "resourceId": "/SUBSCRIPTIONS/S/RESOURCEGROUPS/G/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/PROD-1"})
    };
    let audit = [
        record("kube-audit", json!(format!("{EVENT}\n"))),
        record("kube-audit-admin", bare()),
        record("kube-apiserver", json!("I0101 12:00:00 1 klog.go] hello {\"a\":1}")),
        record("guard", json!("{\"level\":\"info\"}")),
    ];
    let named = vec![(Some("prod-1".to_owned()), bare()); 2];
    let expected = Opened { events: named, skipped: 2, ..Opened::default() };
    for body in [
        json!({"records": audit}).to_string(),
        json!(audit).to_string(),
        audit.clone().map(|record| record.to_string()).join("\n"),
        json!({"value": json!({"records": audit}).to_string()}).to_string(),
    ] {
        assert_eq!(opened(&body), expected, "{body}");
    }
    let mut mixed = record("kube-audit", json!("hello"));
    mixed["resourceId"] = json!("/subscriptions/s/managedClusters/Prod");
    let found = opened(&format!("{EVENT}\n{mixed}\n{}", record("kube-audit", json!(&EVENT[..30]))));
    assert_eq!(found.bad.len(), 2, "{found:?}");
    mixed["properties"]["log"] = bare();
    assert_eq!(opened(&mixed.to_string()).events, [(Some("Prod".to_owned()), bare())]);
}

#[test]
fn google_holds_events_beside_other_logs() {
    let entry = json!({"insertId": "i", "timestamp": TIME, "logName": "projects/p/logs/cloudaudit.googleapis.com%2Factivity",
        "resource": {"type": "k8s_cluster", "labels": {"project_id": "p", "location": "l", "cluster_name": "c"}},
        "protoPayload": {"serviceName": "k8s.io", "methodName": "io.k8s.core.v1.pods.create", "resourceName": "core/v1/namespaces/a/pods/b"}});
    let mut container = entry.clone();
    container["protoPayload"]["serviceName"] = json!("container.googleapis.com");
    let node =
        json!({"insertId": "i", "timestamp": TIME, "logName": "projects/p/logs/kubelet", "textPayload": "hello"});
    let push = json!({"message": {"data": STANDARD.encode(entry.to_string()), "messageId": "1"}, "subscription": "s"});
    for (body, skipped) in [
        (entry.to_string(), 0),
        (json!([entry, container, node]).to_string(), 2),
        (json!({"entries": [entry, node]}).to_string(), 1),
        (json!({"message": entry.to_string()}).to_string(), 0),
        (push.to_string(), 0),
        (json!([{"ackId": "1", "message": push["message"]}]).to_string(), 0),
        (format!("{container}\n{entry}\n{node}"), 2),
    ] {
        let found = opened(&body);
        assert_eq!((found.events.len(), found.bad.len(), found.skipped), (1, 0, skipped), "{body} {found:?}");
        assert_eq!((found.events[0].0.as_deref(), &found.events[0].1["verb"]), (Some("p/l/c"), &json!("create")));
    }
    let mut bad = entry.clone();
    bad["protoPayload"]["methodName"] = json!(null);
    let found = opened(&json!({"entries": [entry, bad]}).to_string());
    assert_eq!(found.bad, ["byte 0, record 1: the log entry has no `methodName`"]);
}

#[test]
fn openshift_adds_to_events() {
    let mut event = bare();
    event["@timestamp"] = json!(TIME);
    event["openshift"] = json!({"cluster_id": "e1e2", "sequence": 1});
    event["k8s_audit_level"] = json!("Metadata");
    for body in [event.to_string(), json!({"structured": event, "openshift": {"sequence": 2}}).to_string()] {
        assert_eq!(opened(&body).events, [(Some("e1e2".to_owned()), event.clone())], "{body}");
    }
    let auditd = json!({"@timestamp": TIME, "message": "type=LOGIN", "log_source": "auditd", "log_type": "audit"});
    let found = opened(&format!("{event}\n{auditd}"));
    assert_eq!((found.events.len(), found.bad.len(), found.skipped), (1, 0, 1), "{found:?}");
}

#[test]
fn what_is_packed_in_a_body_is_bounded_as_a_whole() {
    let bomb = STANDARD.encode(gzip(&format!("[{}]", " ".repeat(30 << 20))));
    let records: Vec<_> = (0..4).map(|_| json!({"data": bomb})).collect();
    let body = json!({"records": records, "x": EVENT}).to_string();
    let mut told = Vec::new();
    let _ = frame(body.as_bytes(), |framed| {
        if let Framed::Bad(reject) = framed
            && reject.reason == Reason::TooLarge
        {
            told.push(reject.detail);
        }
        Ok(0)
    });
    assert!(!told.is_empty() && told[0].starts_with("`data` unpacks to more than one body may hold"), "{told:?}");
}

#[test]
fn of_packed_lines_a_bad_one_leaves_the_others() {
    let lines = format!("{EVENT}\n{{\"kind\":\"Ev\n2026-01-01T00:00:00Z {EVENT}\n\n{EVENT}");
    let printed = serde_json::to_string_pretty(&bare()).expect("JSON");
    let body = json!({"records": [{"data": STANDARD.encode(gzip(&lines))}, {"data": STANDARD.encode(printed)}]});
    let found = opened(&body.to_string());
    assert_eq!(found.events, vec![(None, bare()); 4]);
    assert_eq!(found.bad.len(), 1);
    assert!(found.bad[0].starts_with("byte 0, record 0: EOF while parsing"), "{found:?}");
}

#[test]
fn times_are_texts_milliseconds_or_seconds() {
    let torn = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"a","verb":"ge"#;
    for (written, expected) in [
        (json!("2026-01-01T00:00:00.5Z"), Some("2026-01-01T00:00:00.500000Z")),
        (json!("2026-01-01 00:00:00.500"), Some("2026-01-01T00:00:00.500000Z")),
        (json!(1_767_225_600_500_u64), Some("2026-01-01T00:00:00.500000Z")),
        (json!(1_767_225_600.5), Some("2026-01-01T00:00:00.500000Z")),
        (json!(1_767_225_600), Some(TIME)),
        (json!(-1), None),
        (json!(1e300), None),
        (json!("yesterday"), None),
    ] {
        let found = opened(&format!("{EVENT}\n{}", json!({"@timestamp": written, "log": torn})));
        let told = found.events.get(1).map(|(_, event)| event["stageTimestamp"].as_str().unwrap_or_default());
        assert_eq!((told, found.truncated), (expected, u64::from(expected.is_some())), "{written}: {found:?}");
    }
}
