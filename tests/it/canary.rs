//! The daemon's own canary and the watchdog, through real sockets.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use super::fake::{Receiver, Reply};
use super::support::{
    Daemon, Running, WEBHOOK, answered, attack, client, configure, event_list, json_lines, kubesiren, text_at, until,
};

fn server_certificate(folder: &Path) {
    let own = rcgen::generate_simple_self_signed(vec!["audit.example".to_owned()]).expect("a certificate");
    std::fs::write(folder.join("tls.crt"), own.cert.pem()).expect("written");
    std::fs::write(folder.join("tls.key"), own.signing_key.serialize_pem()).expect("written");
}

/// A server's certificate, an authority of clients, and the canary's certificate by it: as files in a folder.
pub(crate) fn certificates(folder: &Path) {
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("written");
    server_certificate(folder);
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["canary".to_owned()]).expect("parameters");
    write("ca.crt", authority.pem());
    write("canary.crt", params.signed_by(&key, &authority).expect("a certificate").pem());
    write("canary.key", key.serialize_pem());
}

/// Awaits that a canary has arrived.
async fn arrived(daemon: &Daemon) {
    until("a canary arrives", async || {
        let last = daemon.metric("kubesiren_canary_last_success_timestamp_seconds", "").await;
        if last > 0.0 { Ok(()) } else { Err(daemon.process.err.all().join("\n")) }
    })
    .await;
}

/// Awaits that so many more have arrived.
async fn more_arrive(daemon: &Daemon, more: f64) {
    let arrived = async || daemon.metric("kubesiren_canary_round_trip_seconds_count", "").await;
    let before = arrived().await;
    until("more canaries arrive", async || {
        if arrived().await >= before + more { Ok(()) } else { Err(daemon.process.err.all().join("\n")) }
    })
    .await;
}

#[tokio::test]
async fn a_canary_goes_through_tls_token_and_client_certificate_and_is_no_alert_of_people() {
    let home = tempfile::tempdir().expect("a folder");
    certificates(home.path());
    std::fs::write(home.path().join("token"), "h00k-t0ken\nnext\n").expect("written");
    let dir = home.path().display();
    let config = format!(
        "sources:
- {{type: webhook, listen: '127.0.0.1:0', bearer_token_file: {dir}/token,
   tls: {{cert: {dir}/tls.crt, key: {dir}/tls.key, client_ca: {dir}/ca.crt}}}}
canary: {{every: 1s, client_cert: {dir}/canary.crt, client_key: {dir}/canary.key}}
"
    );
    let mut daemon = Daemon::start(home.path(), &config).await;
    more_arrive(&daemon, 3.0).await;
    // Another certificate: the canary trusts what the listener has by then, and none is lost on the way.
    server_certificate(home.path());
    let what = "new certificate in use";
    daemon.process.logged(what, |line| line.contains(what).then_some(())).await;
    more_arrive(&daemon, 2.0).await;
    assert!(daemon.metric("kubesiren_canary_failures_total", "").await < 0.5);
    assert!(daemon.metric("kubesiren_requests_total", "code=\"200\"").await >= 3.0);
    // A cluster that is silent stays so.
    assert!(daemon.metric("kubesiren_events_total", "").await < 0.5);
    assert!(daemon.metric("kubesiren_last_event_timestamp_seconds", "").await < 0.5);
    assert!(daemon.metric("kubesiren_alerts_total", "").await < 0.5);
    assert!(daemon.alerts().await.is_empty());
    let (_, text) = daemon.get("/api/v1/alerts?rule=kubesiren-canary").await;
    let page: Value = serde_json::from_str(&text).expect("JSON");
    let own = page["alerts"].as_array().expect("an array");
    assert!(own.len() >= 3, "{text}");
    assert!(!text.contains("/kubesiren/canary/"), "{text}");
    assert_eq!(own[0]["event"]["requestURI"], "/kubesiren/canary", "what it is known by is not shown");
    assert_eq!((&own[0]["matched"], &own[0]["cluster"]), (&json!({}), &json!("kubesiren-canary")));
    let out = daemon.stop().await;
    assert_eq!(out.all(), Vec::<String>::new(), "no sink hears of it");
}

#[tokio::test]
async fn a_canary_trusts_no_other_certificate_and_says_why_it_is_lost() {
    let home = tempfile::tempdir().expect("a folder");
    certificates(home.path());
    let dir = home.path().display();
    // The canary's own certificate is by nobody that the listener knows.
    let config = format!(
        "sources:
- {{type: webhook, listen: '127.0.0.1:0', tls: {{cert: {dir}/tls.crt, key: {dir}/tls.key, client_ca: {dir}/ca.crt}}}}
canary: {{every: 1s, timeout: 1s, client_cert: {dir}/tls.crt, client_key: {dir}/tls.key}}
"
    );
    let daemon = Daemon::start(home.path(), &config).await;
    until("canaries are lost", async || {
        let lost = daemon.metric("kubesiren_canary_failures_total", "stage=\"connect\"").await;
        if lost >= 3.0 { Ok(()) } else { Err(daemon.process.err.all().join("\n")) }
    })
    .await;
    let told = daemon.process.err.all().iter().filter(|line| line.contains("the canary does not arrive")).count();
    assert_eq!(told, 1, "once per change");
    assert!(daemon.metric("kubesiren_tls_handshakes_failed_total", "").await >= 3.0);
    // The alert about it is one of people's, and is told once.
    let alert = until("it is an alert", async || {
        let lines = json_lines(&daemon.process.out.all().join("\n"));
        lines.first().cloned().ok_or_else(|| daemon.process.err.all().join("\n"))
    })
    .await;
    assert_eq!((text_at(&alert, "/rule/id"), text_at(&alert, "/rule/level")), ("kubesiren-canary-failing", "high"));
    assert!(text_at(&alert, "/summary").contains("lost at `connect`"), "{alert}");
    assert_eq!(daemon.alerts().await.len(), 1);
    drop(daemon);

    // The next process finds it firing, and ends it: it knows better.
    let config = config.replace("canary: {", "# canary: {");
    let daemon = Daemon::start(home.path(), &config).await;
    until("it has ended", async || {
        let alerts = daemon.alerts().await;
        if alerts.values().all(|alert| alert["status"] == "resolved") { Ok(()) } else { Err(format!("{alerts:?}")) }
    })
    .await;
}

#[tokio::test]
async fn the_canarys_alert_goes_to_its_sink_alone_and_what_the_sink_does_not_take_is_told() {
    let well = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&well);
    let soc = Receiver::start(move |_| Reply::new(if seen.load(Ordering::Relaxed) { 200 } else { 503 }, "")).await;
    let am = Receiver::start(|_| Reply::new(200, "")).await;
    let home = tempfile::tempdir().expect("a folder");
    let config = format!(
        "{WEBHOOK}canary: {{every: 1s, timeout: 1s, sink: soc}}
sinks:
- {{name: console, type: stdout}}
- {{name: soc, type: webhook, url: '{}'}}
- {{name: am, type: alertmanager, urls: ['{}'], watchdog: {{every: 1s}}}}
routes: [{{sinks: [console]}}]
",
        soc.url("/"),
        am.url("")
    );
    let daemon = Daemon::start(home.path(), &config).await;
    let lost = async |more: f64| {
        until("canaries are lost at the sink", async || {
            let lost = daemon.metric("kubesiren_canary_failures_total", "stage=\"deliver\"").await;
            if lost >= more { Ok(lost) } else { Err(daemon.process.err.all().join("\n")) }
        })
        .await
    };
    lost(3.0).await;
    assert!(am.requests().is_empty(), "no watchdog before the first canary has arrived");
    well.store(true, Ordering::Relaxed);
    arrived(&daemon).await;
    until("the alert about it has ended", async || {
        let lines = json_lines(&daemon.process.out.all().join("\n"));
        let states: Vec<_> = lines.iter().map(|line| text_at(line, "/status")).collect();
        if states.starts_with(&["firing", "resolved"]) { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await;
    until("the watchdog is sent", async || if am.requests().len() >= 3 { Ok(()) } else { Err(String::new()) }).await;
    let told: Vec<Value> = soc.requests().iter().map(|request| request.json()).collect();
    assert!(told.iter().all(|told| told["rule"]["id"] == "kubesiren-canary"), "{told:?}");
    let tried: std::collections::BTreeSet<&str> =
        told[..told.len() - 1].iter().map(|told| text_at(told, "/id")).collect();
    assert!(tried.len() < told.len(), "canaries do not pile up for a sink that is down: {tried:?}");
    let watchdogs: Vec<Value> = am.requests().iter().map(|request| request.json()).collect();
    for watchdog in &watchdogs {
        assert_eq!(watchdog[0]["labels"], watchdogs[0][0]["labels"]);
        assert_eq!(watchdog[0]["startsAt"], watchdogs[0][0]["startsAt"]);
    }
    assert_eq!(watchdogs[0][0]["labels"]["alertname"], "KubesirenWatchdog");
    assert_eq!(watchdogs[0][0]["labels"]["severity"], "none");

    // It was held back before the first canary had arrived, too.
    let held_back =
        || daemon.process.err.all().iter().filter(|line| line.contains("the watchdog is held back")).count();
    let before = held_back();
    well.store(false, Ordering::Relaxed);
    until(
        "it is held back",
        async || {
            if held_back() > before { Ok(()) } else { Err(daemon.process.err.all().join("\n")) }
        },
    )
    .await;
    let (sent, failures) = (am.requests().len(), daemon.metric("kubesiren_canary_failures_total", "").await);
    until("canaries are lost again", async || {
        let lost = daemon.metric("kubesiren_canary_failures_total", "").await;
        if lost >= failures + 2.0 { Ok(()) } else { Err(daemon.process.err.all().join("\n")) }
    })
    .await;
    assert_eq!(am.requests().len(), sent, "while canaries are lost nothing says that all is well");
}

#[tokio::test]
async fn what_looks_like_a_canary_hides_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &format!("{WEBHOOK}canary: {{every: 1s}}\n")).await;
    arrived(&daemon).await;
    // Everything that a canary shows to others, on every event of an attack.
    let forged: Vec<String> = attack()
        .iter()
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).expect("JSON");
            event["user"]["username"] = "kubesiren-canary".into();
            event["userAgent"] = "kubesiren/0.1.0".into();
            event["annotations"]["kubesiren"] = "canary".into();
            event.to_string()
        })
        .collect();
    let bare = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "5f9d2c1e-0000-4000-8000-000000000001",
        "stage": "ResponseComplete", "requestURI": "/kubesiren/canary", "verb": "get",
        "user": {"username": "kubesiren-canary"}, "stageTimestamp": "2026-11-21T04:44:00.000000Z",
        "objectRef": {"resource": "canaries", "name": "5f9d2c1e-0000-4000-8000-000000000001"}
    });
    let url = format!("{}/kubesiren-canary", daemon.hook());
    for body in [event_list(&forged), bare.to_string()] {
        assert_eq!(answered(client().post(&url).body(body)).await.0, 200);
    }
    let expected = super::support::scan(&["--cluster", "kubesiren-canary"], forged.join("\n").as_bytes()).0.len();
    assert!(expected >= 8);
    until("every alert is told", async || {
        let told = daemon.alerts().await.len();
        let lines = daemon.process.out.all().len();
        if told == expected && lines >= expected { Ok(()) } else { Err(format!("{told} and {lines} of {expected}")) }
    })
    .await;
    // They are events of others, and count as such.
    daemon.metric_is("kubesiren_events_total", "cluster=\"kubesiren-canary\"", (forged.len() + 1) as f64).await;
}

#[tokio::test]
async fn a_rule_of_that_name_is_refused_where_there_are_canaries() {
    let home = tempfile::tempdir().expect("a folder");
    let rule = "title: Mine\nid: kubesiren-canary\nlevel: high\nlogsource: {product: kubernetes, service: audit}\n\
                detection: {a: {verb: get}, condition: a}\n";
    std::fs::write(home.path().join("mine.yml"), rule).expect("written");
    let file = configure(
        home.path(),
        &format!("{WEBHOOK}canary: {{}}\ndetections: {{paths: [{}]}}\n", home.path().join("mine.yml").display()),
    );
    let mut process = Running::start(kubesiren().arg("run").arg("--config").arg(file));
    assert_eq!(process.ended().await.code(), Some(2));
    assert!(process.err.all().join("\n").contains("kubesiren-canary"), "{:?}", process.err.all());
}

#[tokio::test]
async fn a_reload_keeps_the_canary_alive() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &format!("{WEBHOOK}canary: {{every: 1s}}\n")).await;
    arrived(&daemon).await;
    assert_eq!(daemon.ask("/api/v1/reload").await.0, 200);
    more_arrive(&daemon, 2.0).await;
    assert!(daemon.metric("kubesiren_canary_failures_total", "").await < 0.5);
    let started = std::time::Instant::now();
    daemon.stop().await;
    assert!(started.elapsed() < Duration::from_secs(10), "a canary holds up no stop");
}

#[tokio::test]
async fn a_canary_that_makes_no_alert_is_lost_where_rules_are_asked() {
    let home = tempfile::tempdir().expect("a folder");
    let config = format!("{WEBHOOK}canary: {{every: 1s, timeout: 1s}}\ndetections: {{disable: [kubesiren-canary]}}\n");
    let daemon = Daemon::start(home.path(), &config).await;
    until("canaries are lost", async || {
        let lost = daemon.metric("kubesiren_canary_failures_total", "stage=\"detect\"").await;
        if lost >= 1.0 { Ok(()) } else { Err(daemon.process.err.all().join("\n")) }
    })
    .await;
}
