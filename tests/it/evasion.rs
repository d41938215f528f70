//! What somebody does who knows that he is watched.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::support::{Daemon, WEBHOOK, end_of_story, event_list, json_lines, quiet_event, run, scan, text_at, until};

const TIME: &str = "2026-11-21T04:00:00.000000Z";
const UUID: &str = "6f1c3c1e-4a55-4b43-9d3c-0d6f3f2a7b10";

/// [`quiet_event`] with other values on top.
fn event(id: &str, time: &str, over: Value) -> Value {
    let mut event: Value = serde_json::from_str(&quiet_event(id, time)).expect("JSON");
    let Value::Object(over) = over else { panic!("an object") };
    for (key, value) in over {
        event[key] = value;
    }
    event
}

/// Somebody opens a shell in a pod.
fn shell(id: &str, time: &str, pod: &str, query: &str) -> Value {
    event(
        id,
        time,
        json!({
            "verb": "get", "stage": "ResponseStarted", "user": {"username": "mallory", "groups": ["system:authenticated"]},
            "requestURI": format!("/api/v1/namespaces/shop/pods/{pod}/exec?{query}"),
            "objectRef": {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": pod, "apiVersion": "v1"},
            "responseStatus": {"code": 101}
        }),
    )
}

fn at(second: u32) -> String {
    format!("2026-11-21T04:{:02}:{:02}.000000Z", second / 60, second % 60)
}

fn lines(events: &[Value]) -> Vec<u8> {
    events.iter().map(|event| format!("{event}\n")).collect::<String>().into_bytes()
}

fn titles(alerts: &[Value]) -> Vec<&str> {
    alerts.iter().map(|alert| text_at(alert, "/rule/title")).collect()
}

fn of<'a>(alerts: &'a [Value], title: &str) -> Vec<&'a Value> {
    alerts.iter().filter(|alert| text_at(alert, "/rule/title") == title).collect()
}

const REUSED: &str = "Several requests under one Audit-ID";
const SHELL: &str = "Interactive shell opened in a container";
const STDIN_BASH: &str = "command=bash&stdin=true&stdout=true&tty=true";

#[test]
fn two_requests_under_one_audit_id_are_two_and_told() {
    for id in [UUID, "hello"] {
        let events = [shell(id, &at(0), "web-0", STDIN_BASH), shell(id, &at(1), "web-1", STDIN_BASH)];
        let (alerts, stats) = scan(&[], &lines(&events));
        assert_eq!(of(&alerts, SHELL).len(), 2, "{:?}", titles(&alerts));
        let told = of(&alerts, REUSED);
        assert_eq!(told.len(), 1, "{id}: {:?}", titles(&alerts));
        assert_eq!((&told[0]["count"], &told[0]["group"]["auditID"]), (&json!(2), &json!(id)));
        assert_eq!(stats["duplicates"], 0);
        // Delivered again, nothing more.
        let again = [events[0].clone(), events[1].clone(), events[0].clone(), events[1].clone()];
        assert_eq!(scan(&[], &lines(&again)).0, alerts);
    }
    let one = shell(UUID, &at(0), "web-0", STDIN_BASH);
    let mut later = one.clone();
    (later["stage"], later["stageTimestamp"]) = ("ResponseComplete".into(), at(9).into());
    let (alerts, _) = scan(&[], &lines(&[one, later]));
    assert!(of(&alerts, REUSED).is_empty() && of(&alerts, SHELL).len() == 1, "stages are one request");
}

#[test]
fn requests_that_nothing_else_tells_of_show_that_they_share_a_chosen_audit_id() {
    let quiet = |second| event("hello", &at(second), json!({}));
    let (alerts, _) = scan(&[], &lines(&[quiet(0), quiet(1)]));
    assert_eq!(titles(&alerts), [REUSED]);
}

#[test]
fn audit_ids_of_any_length_and_content_are_taken_and_cut() {
    for id in ["x".repeat(1 << 20), "\u{202e}\u{0}<script>".to_owned(), " ".to_owned()] {
        let (alerts, stats) = scan(&[], &lines(&[shell(&id, &at(0), "web-0", STDIN_BASH)]));
        assert_eq!((of(&alerts, SHELL).len(), &stats["rejected"]), (1, &json!(0)));
        let shown = text_at(&alerts[0], "/event/auditID");
        assert!(shown.len() < 400 && shown.chars().next() == id.chars().next());
    }
}

#[test]
fn a_forged_forwarded_for_changes_no_group() {
    let home = tempfile::tempdir().expect("a folder");
    let rules = home.path().join("r.yml");
    let text = "title: Base\nname: base\nid: b\nlevel: informational\nlogsource: {product: kubernetes, service: audit}\n\
        detection: {s: {verb: list, objectRef.resource: nodes}, condition: s}\n---\n\
        title: Many from one address\nid: c\nlevel: low\ncorrelation: {type: event_count, rules: [base], \
        group-by: ['sourceIPs[-1]'], timespan: 5m, condition: {gte: 5}}\n";
    std::fs::write(&rules, text).expect("written");
    let forged = |n: u32| {
        let addresses = json!([format!("8.8.{n}.1"), "127.0.0.1", "10.9.9.9"]);
        let node = json!({"resource": "nodes", "apiVersion": "v1"});
        event(&format!("f{n}"), &at(n), json!({"verb": "list", "objectRef": node, "sourceIPs": addresses}))
    };
    let rules = rules.display().to_string();
    let (alerts, _) = scan(&["--no-builtin", "--rules", &rules], &lines(&(0..6).map(forged).collect::<Vec<_>>()));
    assert_eq!(
        (alerts.len(), &alerts[0]["group"]["sourceIPs[-1]"], &alerts[0]["count"]),
        (1, &json!("10.9.9.9"), &json!(6))
    );
}

#[test]
fn built_in_rules_ask_for_the_address_that_nobody_can_forge() {
    let output = run(&["rules", "list", "--format", "json"], b"");
    assert_eq!(output.status.code(), Some(0));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("detections");
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            let name = path.display().to_string();
            if name.ends_with(".yml") && !name.ends_with(".test.yml") {
                let asks = text.lines().filter(|line| line.contains("sourceIPs"));
                for line in asks {
                    assert!(line.contains("sourceIPs[-1]"), "{name}: {line}");
                }
            }
        }
    }
}

#[test]
fn encoding_and_case_hide_no_command() {
    let written = [
        "command=bash&stdin=true",
        "command=%62ash&stdin=true",
        "%63ommand=%62%61%73%68&st%64in=true",
        "command=%2Fbin%2F%62ash&stdin=true",
        "command=BASH&stdin=true",
        "command=%42ash&stdin=true",
    ];
    for query in written {
        let (alerts, _) = scan(&[], &lines(&[shell(UUID, &at(0), "web-0", query)]));
        assert_eq!(of(&alerts, SHELL).len(), 1, "{query}: {:?}", titles(&alerts));
        let uri = text_at(of(&alerts, SHELL)[0], "/event/requestURI");
        assert!(uri.ends_with(query), "shown as it was sent: {uri}");
    }
    // A server decodes once, so what is encoded twice is a program of another name.
    let (alerts, _) = scan(&[], &lines(&[shell(UUID, &at(0), "web-0", "command=%2562ash&stdin=true")]));
    assert!(of(&alerts, SHELL).is_empty());
}

#[test]
fn a_credential_in_a_decoded_command_is_not_shown() {
    let query = "command=sh&command=-c&command=x+%26%26+curl+169.254.169.254+--password+hunt%65r2";
    let (alerts, _) = scan(&[], &lines(&[shell(UUID, &at(0), "web-0", query)]));
    assert!(!alerts.is_empty());
    let text = json!(alerts).to_string();
    assert!(!text.contains("hunter2") && !text.contains("hunt%65r2"), "{text}");
}

#[test]
fn names_that_look_alike_or_turn_text_around_are_shown_for_what_they_are() {
    let named = |name: &str| {
        let mut event = shell(UUID, &at(0), "web-0", STDIN_BASH);
        event["user"]["username"] = name.into();
        lines(&[event])
    };
    let hidden = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{200b}');
    for name in ["admin\u{202e}nimda", "a\u{200b}dmin", "bob\nroot read secret x", "e\u{0}ve", "\u{1b}[31mred"] {
        let output = run(&["scan", "--format", "json"], &named(name));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains(hidden), "{text:?}");
        let alerts = json_lines(&text);
        assert_eq!(of(&alerts, SHELL)[0]["event"]["user"]["username"], name, "escaped, and still the same name");
        let output = run(&["scan", "--format", "table", "--color", "never"], &named(name));
        let table = String::from_utf8_lossy(&output.stdout);
        assert!(!table.contains(hidden) && !table.contains("\nroot"), "{table:?}");
    }
    // A homograph is another name, and so another group: it is neither left out nor taken for the real one.
    let (alerts, _) = scan(&[], &named("system:аpiserver"));
    assert_eq!(of(&alerts, SHELL).len(), 1);
    assert_eq!(of(&alerts, SHELL)[0]["group"]["user.username"], "system:аpiserver");
}

#[test]
fn upper_and_lower_case_are_one_to_rules() {
    let mut event = shell(UUID, &at(0), "web-0", STDIN_BASH);
    event["objectRef"]["resource"] = "Pods".into();
    event["objectRef"]["subresource"] = "EXEC".into();
    assert_eq!(of(&scan(&[], &lines(&[event])).0, SHELL).len(), 1);
}

#[test]
fn a_huge_uri_is_matched_whole_and_shown_cut() {
    let padding = "x".repeat(2 << 20);
    let query = format!("pad={padding}&command=bash&stdin=true");
    let (alerts, _) = scan(&[], &lines(&[shell(UUID, &at(0), "web-0", &query)]));
    assert_eq!(of(&alerts, SHELL).len(), 1);
    assert!(alerts.iter().all(|alert| alert.to_string().len() < 16 << 10), "an alert stays small");
}

#[test]
fn an_event_that_was_cut_is_told() {
    let cut = json!({"authorization.k8s.io/decision": "allow", "audit.k8s.io/truncated": "true"});
    let (alerts, _) = scan(&[], &lines(&[event(UUID, TIME, json!({"annotations": cut}))]));
    assert_eq!(titles(&alerts), ["Audit event that was cut"]);
    assert_eq!(text_at(&alerts[0], "/rule/level"), "informational");
}

#[test]
fn what_is_broken_or_doubled_hides_no_neighbour() {
    let attack = shell(UUID, &at(0), "web-0", STDIN_BASH).to_string();
    let doubled = attack.replacen("\"verb\":\"get\"", "\"verb\":\"get\",\"verb\":\"list\"", 1);
    let deep = attack.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(50_000), "]".repeat(50_000)), 1);
    let long = attack.replacen('{', &format!("{{\"x\":\"{}\",", "y".repeat(8 << 20)), 1);
    let alone = scan(&[], attack.as_bytes());
    let named = |alerts: &[Value]| titles(alerts).into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    assert!(named(&alone.0).contains(SHELL));
    for (what, beside, taken) in
        [("a doubled key", &doubled, false), ("depth", &deep, true), ("a long string", &long, true)]
    {
        let other = beside.replace("web-0", "web-9").replace(UUID, "6f1c3c1e-4a55-4b43-9d3c-0d6f3f2a7b11");
        let (alerts, stats) = scan(&[], format!("{other}\n{attack}\n").as_bytes());
        assert_eq!(stats["rejected"], u64::from(!taken), "{what}");
        // Every rule that is true of the one is true of the other; what counts both may be one alert.
        let times = 1 + u64::from(taken);
        assert_eq!(stats["matches"].as_u64(), alone.1["matches"].as_u64().map(|matches| matches * times), "{what}");
        assert_eq!(of(&alerts, SHELL).len() as u64, times, "{what}: {:?}", titles(&alerts));
        assert_eq!(named(&alerts), named(&alone.0), "{what}");
    }
    let mut bytes = attack.clone().into_bytes();
    bytes.extend(b"\n");
    bytes.extend(
        attack.replace("web-0", "w\u{1}").replace('\u{1}', "\\u0001").bytes().map(|b| if b == b'7' { 0xff } else { b }),
    );
    bytes.extend(format!("\n{}\n", attack.replace("web-0", "web-2").replace(UUID, "another")).bytes());
    let (alerts, stats) = scan(&[], &bytes);
    assert_eq!((of(&alerts, SHELL).len(), &stats["rejected"]), (2, &json!(1)), "invalid UTF-8 costs its own event");
}

/// A correlation that fires at five requests of one user within a minute, and at most a thousand users are kept.
const FLOODED: &str = "title: Base\nname: base\nid: b\nlevel: informational\nlogsource: {product: kubernetes, service: audit}\n\
    detection: {s: {verb: list, objectRef.resource: nodes}, condition: s}\n---\n\
    title: Five\nid: five\nlevel: low\ncorrelation: {type: event_count, rules: [base], group-by: [user.username], timespan: 1m, \
    condition: {gte: 5}}\n";

#[tokio::test]
async fn batches_again_and_out_of_order_are_the_same_alerts() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    let mut events: Vec<String> = (0..6)
        .map(|n| shell(&format!("6f1c3c1e-4a55-4b43-9d3c-0d6f3f2a7b1{n}"), &at(n * 5), "web-0", STDIN_BASH).to_string())
        .collect();
    for batch in [&events[4..], &events[..2], &events[2..4], &events[..], &events[1..3]] {
        assert_eq!(daemon.post(event_list(batch)).await.0, 200);
    }
    daemon.metric_is("kubesiren_events_duplicate_total", "", 8.0).await;
    // Until then it is open whether somebody looked at the pod before he entered it.
    events.push(end_of_story());
    assert_eq!(daemon.post(event_list(&events[6..])).await.0, 200);
    let told = |alerts: &mut dyn Iterator<Item = &Value>| {
        let mut told: Vec<_> = alerts
            .map(|alert| format!("{} {} {}", text_at(alert, "/rule/title"), alert["count"], text_at(alert, "/status")))
            .collect();
        told.sort();
        told
    };
    let expected = told(&mut scan(&[], events.join("\n").as_bytes()).0.iter());
    for title in [SHELL, "Command run in a container", "Container entered without a look at the pod"] {
        assert!(expected.contains(&format!("{title} 6 resolved")), "{title}: {expected:?}");
    }
    until("the daemon tells what the scan tells", async || {
        let found = told(&mut daemon.alerts().await.values());
        if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
    })
    .await;
}

#[tokio::test]
async fn events_from_far_away_in_time_move_no_window() {
    let home = tempfile::tempdir().expect("a folder");
    std::fs::write(home.path().join("r.yml"), FLOODED).expect("written");
    let config = format!("{WEBHOOK}detections: {{builtin: false, paths: [{}/r.yml]}}\n", home.path().display());
    let daemon = Daemon::start(home.path(), &config).await;
    let listed = |id: &str, user: &str, time: &str| {
        let node = json!({"resource": "nodes", "apiVersion": "v1"});
        event(id, time, json!({"verb": "list", "objectRef": node, "user": {"username": user}})).to_string()
    };
    let now = kubesiren::clock::now();
    let attack = |n: u64| {
        let time = now.minus(std::time::Duration::from_secs(20 - n)).to_string();
        listed(&format!("a{n}"), "mallory", &time)
    };
    let far = [
        ("9999-12-28T23:59:59.999999Z", 'f'),
        ("0001-01-01T00:00:00.000000Z", 'p'),
        ("1970-01-01T00:00:00.000000Z", 'e'),
    ];
    for n in 0..5 {
        let mut batch: Vec<String> =
            far.iter().map(|(time, c)| listed(&format!("{c}{n}"), &format!("{c}{n}"), time)).collect();
        batch.push(attack(n));
        assert_eq!(daemon.post(event_list(&batch)).await.0, 200);
    }
    until("the attack fires all the same", async || {
        let alerts = daemon.alerts().await;
        let mine = alerts.values().filter(|alert| alert["group"]["user.username"] == "mallory").count();
        if mine == 1 && alerts.len() == 1 { Ok(()) } else { Err(format!("{alerts:?}")) }
    })
    .await;
    daemon.metric_is("kubesiren_events_ahead_total", "", 5.0).await;
    assert!(daemon.metric("kubesiren_events_late_total", "").await >= 10.0);
    let newest = daemon.metric("kubesiren_last_event_timestamp_seconds", "cluster=\"default\"").await;
    let seconds = now.as_seconds();
    assert!((seconds - 60.0..seconds + 400.0).contains(&newest), "{newest}, and it is {seconds}");
}

/// `kubectl label namespace shop pod-security.kubernetes.io/enforce-` sends the label as null, which no case file can say.
#[test]
fn a_label_of_pod_security_taken_away_by_a_merge_patch_is_told() {
    const WEAKENED: &str = "Pod Security of a namespace weakened";
    let patch = |label: &str| {
        let over = json!({
            "verb": "patch", "requestURI": "/api/v1/namespaces/shop?fieldManager=kubectl-label",
            "objectRef": {"resource": "namespaces", "namespace": "shop", "name": "shop", "apiVersion": "v1"},
            "responseStatus": {"code": 200}, "requestObject": {"metadata": {"labels": {label: null}}}
        });
        scan(&[], &lines(&[event(UUID, TIME, over)])).0
    };
    assert_eq!(of(&patch("pod-security.kubernetes.io/enforce"), WEAKENED).len(), 1);
    assert!(of(&patch("pod-security.kubernetes.io/audit"), WEAKENED).is_empty());
}
