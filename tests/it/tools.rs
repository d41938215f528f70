//! The everyday tools beside a daemon that runs: `alerts`, `silence`, `tail`, `top`.

use std::collections::BTreeSet;
use std::process::Output;

use serde_json::{Value, json};

use super::support::{
    Daemon, Running, WEBHOOK, attack, free_port, installed, json_lines, kubesiren, run, text_at, until,
};

/// A daemon that knows the attack.
async fn attacked(home: &std::path::Path) -> Daemon {
    let daemon = Daemon::start(home, WEBHOOK).await;
    daemon.feed(&attack(), 100).await;
    settled(&daemon).await;
    daemon
}

/// A daemon with one rule, so that what the others make of a shell does not matter.
async fn of_shells(home: &std::path::Path) -> Daemon {
    let rule = concat!(env!("CARGO_MANIFEST_DIR"), "/detections/exec/interactive-shell.yml");
    Daemon::start(home, &format!("{WEBHOOK}detections: {{builtin: false, paths: ['{rule}']}}\n")).await
}

/// Awaits that everything that was taken has become alerts.
async fn settled(daemon: &Daemon) {
    until("the journal is correlated and alerts are there", async || {
        let (left, alerts) = (daemon.metric("kubesiren_journal_records", "").await, daemon.alerts().await.len());
        if left < 0.5 && alerts > 0 { Ok(()) } else { Err(format!("{left} left, {alerts} alerts")) }
    })
    .await;
}

fn ask(daemon: &Daemon, args: &[&str]) -> Output {
    let admin = format!("http://{}", daemon.admin);
    run(&[args, &["--admin", &admin]].concat(), b"")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a command that goes well prints.
fn well(daemon: &Daemon, args: &[&str]) -> String {
    let output = ask(daemon, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
    out(&output)
}

fn ids(text: &str) -> Vec<String> {
    json_lines(text).iter().map(|alert| text_at(alert, "/id").to_owned()).collect()
}

/// A shell in a pod, by this user.
fn shell(user: &str, n: usize) -> String {
    let time = format!("2026-11-22T{:02}:{:02}:{:02}.000000Z", n / 3_600, n / 60 % 60, n % 60);
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "stage": "ResponseStarted",
        "auditID": format!("6f1c3c1e-4a55-4b43-9d3c-{n:012}"), "verb": "create",
        "requestURI": "/api/v1/namespaces/shop/pods/web-0/exec?command=%2Fbin%2Fsh&stdin=true&tty=true",
        "user": {"username": user, "groups": ["system:authenticated"]}, "sourceIPs": [format!("10.0.{}.7", n / 1_000)], "userAgent": "kubectl/v1.36.2",
        "objectRef": {"resource": "pods", "namespace": "shop", "name": "web-0", "apiVersion": "v1", "subresource": "exec"},
        "responseStatus": {"code": 101}, "requestReceivedTimestamp": time, "stageTimestamp": time,
    })
    .to_string()
}

#[tokio::test]
async fn alerts_are_listed_as_the_api_has_them_and_over_its_pages() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = attacked(home.path()).await;
    let of_api = |query: &str| {
        let path = format!("/api/v1/alerts?limit=1000{query}");
        let daemon = &daemon;
        async move {
            let page: Value = serde_json::from_str(&daemon.get(&path).await.1).expect("JSON");
            let alerts = page["alerts"].as_array().expect("an array").iter();
            alerts.map(|alert| text_at(alert, "/id").to_owned()).collect::<Vec<_>>()
        }
    };
    let all = of_api("").await;
    assert_eq!(ids(&well(&daemon, &["alerts", "list"])), all);
    let high = of_api("&level=high").await;
    assert!(!high.is_empty() && high.len() < all.len());
    assert_eq!(ids(&well(&daemon, &["alerts", "list", "--level", "high"])), high);
    let shop = of_api("&namespace=shop").await;
    assert!(!shop.is_empty() && shop.len() < all.len());
    assert_eq!(ids(&well(&daemon, &["alerts", "list", "-n", "shop", "--since", "2026-01-01T00:00:00Z"])), shop);
    // A rule may be called by its title.
    let rule: Value = serde_json::from_str(&well(&daemon, &["alerts", "show", &high[0]])).expect("JSON");
    let titled = well(&daemon, &["alerts", "list", "--rule", &text_at(&rule, "/rule/title").to_uppercase()]);
    assert_eq!(ids(&titled), of_api(&format!("&rule={}", text_at(&rule, "/rule/id"))).await);
    let first = ask(&daemon, &["alerts", "list", "--limit", "1"]);
    assert_eq!(ids(&out(&first)), all[..1]);
    assert!(err(&first).contains("--limit shows more"), "{}", err(&first));
    let none = ask(&daemon, &["alerts", "list", "--user", "nobody\u{1b}[2J", "--output", "table"]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(0), 0));
    assert!(err(&none).contains(r"no alert with user nobody\u{1b}[2J"), "{}", err(&none));
    let table = well(&daemon, &["alerts", "list", "-o", "table"]);
    assert!(table.contains(&all[0][..8]) && table.contains("Interactive shell"), "{table}");

    let events: Vec<String> = (0..1_100).map(|n| shell(&format!("user-{n}"), n)).collect();
    daemon.feed(&events, 550).await;
    let list = |limit: &str| ids(&well(&daemon, &["alerts", "list", "--search", "user-", "--limit", limit]));
    // What is made of several alerts comes somewhat later.
    let listed = until("an alert for each shell, and the newest of them alone", async || {
        let (listed, cut) = (list("5000"), list("1050"));
        if listed.len() >= 1_100 && cut == listed[..1_050] { Ok(listed) } else { Err(listed.len().to_string()) }
    })
    .await;
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "none comes twice");
    // Among so many some begin alike.
    let beginnings: Vec<&str> = listed.iter().map(|id| &id[..4]).collect();
    let alike = beginnings.iter().find(|begin| beginnings.iter().filter(|other| other == begin).count() > 1);
    let several = ask(&daemon, &["alerts", "show", alike.expect("65 536 beginnings for more than 1 100")]);
    assert_eq!(several.status.code(), Some(2));
    assert!(err(&several).contains("begins several ids; give more of it"), "{}", err(&several));
}

#[tokio::test]
async fn an_alert_is_shown_acknowledged_closed_and_opened_again() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = of_shells(home.path()).await;
    daemon.feed(&[shell("eve\u{1b}]0;pwned\u{7}\u{202e}", 1)], 1).await;
    settled(&daemon).await;
    let id = daemon.alerts().await.keys().next().expect("an alert").clone();
    let shown = well(&daemon, &["alerts", "show", &id[..8], "--output", "table"]);
    for part in [
        &id,
        "Interactive shell opened in a container",
        "10.0.0.7",
        "pods/exec web-0",
        "namespace shop",
        "goes on",
        "What to do",
        "Why it fired",
    ] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\u{202e}') && shown.contains(r"eve\u{1b}]0;pwned"),
        "{shown}"
    );
    assert!(!well(&daemon, &["alerts", "list", "-o", "json"]).contains('\u{202e}'));

    let slip = ask(&daemon, &["alerts", "ack", &id[..8], "ffffffff"]);
    assert_eq!(slip.status.code(), Some(2));
    assert!(err(&slip).contains("no alert has the id `ffffffff`; `kubesiren alerts list` shows"), "{}", err(&slip));
    assert_eq!(well(&daemon, &["alerts", "list", "--handling", "open"]).lines().count(), 1, "a slip changes nothing");
    let acked = ask(&daemon, &["alerts", "ack", &id[..8], &id, "--note", "asking eve", "-o", "table"]);
    assert_eq!(acked.status.code(), Some(0), "{}", err(&acked));
    assert_eq!(err(&acked), format!("acknowledged  {}  Interactive shell opened in a container\n", &id[..8]));
    let closed = json_lines(&well(&daemon, &["alerts", "close", &id, "--output", "json"]));
    assert_eq!(
        (closed[0]["handling"].as_str(), closed[0]["history"][0]["note"].as_str()),
        (Some("closed"), Some("asking eve"))
    );
    let noted = json_lines(&well(&daemon, &["alerts", "note", &id[..8], "eve is on leave"]));
    assert_eq!(
        (noted[0]["handling"].as_str(), noted[0]["history"][2]["note"].as_str()),
        (Some("closed"), Some("eve is on leave"))
    );
    let noted = ask(&daemon, &["alerts", "note", &id, "twice", "-o", "table"]);
    assert_eq!(err(&noted), format!("noted  {}  Interactive shell opened in a container\n", &id[..8]));
    assert_eq!(ask(&daemon, &["alerts", "note", &id, ""]).status.code(), Some(2), "nothing is no note");
    well(&daemon, &["alerts", "reopen", &id, "--note", "not eve"]);
    let shown = well(&daemon, &["alerts", "show", &id, "--output", "table"]);
    for part in ["What people did", "local acknowledged: asking eve", "local closed", "local open: not eve"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    for wrong in ["../status", "x y", ""] {
        let output = ask(&daemon, &["alerts", "show", wrong]);
        assert_eq!(output.status.code(), Some(2));
        assert!(err(&output).contains("is no alert's id"), "{}", err(&output));
    }
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let nobody = format!("127.0.0.1:{}", free_port());
    for args in [&["alerts", "list"][..], &["silence", "list"], &["tail"], &["top"], &["alerts", "show", "abcd"]] {
        let output = run(&[args, &["--admin", &nobody]].concat(), b"");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
        assert!(err(&output).contains("start the daemon with `kubesiren run`"), "{args:?}: {}", err(&output));
        assert_eq!(err(&output).lines().count(), 1, "{}", err(&output));
    }
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("admin-token");
    std::fs::write(&file, "adm1n-t0ken\n").expect("written");
    let variable = ("KUBESIREN_ADMIN__TOKEN_FILE", file.to_str().expect("UTF-8"));
    let daemon = Daemon::start_in(home.path(), WEBHOOK, &[], &[variable]).await;
    daemon.feed(&[shell("eve", 1)], 1).await;
    settled(&daemon).await;
    let id = daemon.alerts().await.keys().next().expect("an alert").clone();
    let without = ask(&daemon, &["alerts", "ack", &id]);
    assert_eq!(without.status.code(), Some(2));
    assert!(err(&without).contains("--token-file FILE"), "{}", err(&without));
    let wrong = home.path().join("wrong");
    std::fs::write(&wrong, "s0mething-else").expect("written");
    let with =
        |file: &std::path::Path| ask(&daemon, &["alerts", "ack", &id, "--token-file", file.to_str().expect("UTF-8")]);
    let refused = with(&wrong);
    assert_eq!(refused.status.code(), Some(2));
    let said = err(&refused);
    assert!(said.contains("is not one of the daemon's") && !said.contains("s0mething"), "{said}");
    assert_eq!(with(&file).status.code(), Some(0));
    // The webhook is not the admin listener.
    let hook = run(&["alerts", "list", "--admin", &daemon.webhook.to_string()], b"");
    assert_eq!(hook.status.code(), Some(2));
    assert!(err(&hook).contains("--admin names another one"), "{}", err(&hook));
    for args in [
        &["alerts", "list", "--since", "yesterday"][..],
        &["alerts", "list", "--level", "bad"],
        &["silence", "add", "--for", "2"],
    ] {
        let output = ask(&daemon, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(err(&output).contains("invalid value"), "{}", err(&output));
    }
}

#[tokio::test]
async fn a_silence_is_previewed_made_listed_and_ended() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = of_shells(home.path()).await;
    daemon.feed(&[shell("eve", 1), shell("bob", 2)], 2).await;
    settled(&daemon).await;
    let listed = json_lines(&well(&daemon, &["alerts", "list", "--user", "eve"]));
    let id = text_at(&listed[0], "/id");
    let empty = ask(&daemon, &["silence", "list"]);
    assert_eq!(
        (out(&empty).as_str(), err(&empty).as_str()),
        ("", "nothing is silenced; --all shows those that are over\n")
    );
    let from = ["silence", "add", "--from", &id[..8], "--for", "2h", "--reason", "known"];
    let asked = ask(&daemon, &from);
    assert_eq!(asked.status.code(), Some(2), "nobody can be asked");
    let said = err(&asked);
    assert!(
        said.contains("say --yes") && said.contains("user       eve") && said.contains("would have hidden"),
        "{said}"
    );
    assert!(well(&daemon, &["silence", "list"]).is_empty(), "nothing was made");
    let wide = ask(&daemon, &["silence", "add", "--for", "2h", "--reason", "known", "--yes"]);
    assert_eq!(wide.status.code(), Some(2));
    assert!(err(&wide).contains("--from ALERT"), "{}", err(&wide));
    let why = ask(&daemon, &["silence", "add", "--user", "eve", "--for", "2h", "--yes"]);
    assert!(why.status.code() == Some(2) && err(&why).contains("--reason TEXT"), "{}", err(&why));

    let made = json_lines(&well(&daemon, &[&from[..], &["--verb", "create", "--yes"]].concat()));
    let number = made[0]["id"].to_string();
    let listed = json_lines(&well(&daemon, &["silence", "list"]));
    let expected =
        json!({"rule": listed[0]["conditions"]["rule"], "user": "eve", "namespace": "shop", "verb": "create"});
    assert_eq!(
        (&listed[0]["conditions"], &listed[0]["reason"], &listed[0]["lasts"]),
        (&expected, &json!("known"), &json!(true))
    );
    let table = well(&daemon, &["silence", "list", "-o", "table"]);
    assert!(table.contains("Interactive shell opened in a container") && table.contains("known (local, "), "{table}");
    // It does what it says: the next shell of eve's is kept from the sinks, bob's is not.
    daemon.feed(&[shell("eve", 9_000), shell("bob", 9_001)], 2).await;
    until("the silence has hidden one", async || {
        let silenced = json_lines(&well(&daemon, &["alerts", "list", "--silenced", "true"]));
        if silenced.len() == 1 { Ok(()) } else { Err(format!("{silenced:?}")) }
    })
    .await;
    let ended = ask(&daemon, &["silence", "rm", &number, "-o", "table"]);
    assert_eq!((ended.status.code(), err(&ended)), (Some(0), format!("silence {number} has ended\n")));
    let other =
        json_lines(&well(&daemon, &["silence", "add", "--user", "bob", "--for", "1h", "--reason", "r", "--yes"]));
    assert_eq!(json_lines(&well(&daemon, &["silence", "rm", &other[0]["id"].to_string()]))[0]["id"], other[0]["id"]);
    let again = ask(&daemon, &["silence", "rm", &number]);
    assert!(
        again.status.code() == Some(2) && err(&again).contains("`kubesiren silence list` shows"),
        "{}",
        err(&again)
    );
    assert!(well(&daemon, &["silence", "list"]).is_empty());
    assert!(well(&daemon, &["silence", "list", "--all", "-o", "table"]).contains("ended "));
}

/// Awaits lines of JSON, and gives the users of the alerts in them.
async fn users(tail: &Running, count: usize) -> Vec<String> {
    let lines = until(&format!("{count} alerts are shown"), async || {
        let lines = tail.out.all();
        if lines.len() >= count { Ok(lines) } else { Err(format!("{lines:?}\n{}", tail.err.all().join("\n"))) }
    })
    .await;
    let alerts = json_lines(&lines.join("\n"));
    alerts.iter().map(|alert| text_at(alert, "/event/user/username").to_owned()).collect()
}

#[tokio::test]
async fn a_tail_shows_each_new_alert_once_though_the_daemon_goes_and_comes() {
    let home = tempfile::tempdir().expect("a folder");
    let address = format!("127.0.0.1:{}", free_port());
    let variable = ("KUBESIREN_ADMIN__LISTEN", address.as_str());
    let mut daemon = Daemon::start_in(home.path(), WEBHOOK, &[], &[variable]).await;
    daemon.feed(&[shell("before", 5_000)], 1).await;
    settled(&daemon).await;
    let tail = |args: &[&str]| Running::start(kubesiren().args(["tail", "--admin", &address, "-o", "json"]).args(args));
    let mut all = tail(&["--since", "3650d", "--rule", "Interactive shell opened in a container"]);
    let mut new = tail(&["--rule", "Interactive shell opened in a container"]);
    new.logged("the tail waits", |line| line.contains("waiting for alerts").then_some(())).await;
    assert_eq!(users(&all, 1).await, ["before"]);
    // What comes late is new, though its time is not.
    daemon.feed(&[shell("new", 6_000)], 1).await;
    users(&new, 1).await;
    daemon.feed(&[shell("late", 1_000)], 1).await;
    assert_eq!(users(&new, 2).await, ["new", "late"]);
    daemon.process.kill();
    new.logged("the tail says that it is alone", |line| line.contains("trying again").then_some(())).await;
    let daemon = Daemon::start_in(home.path(), WEBHOOK, &[], &[variable]).await;
    daemon.feed(&[shell("after", 7_000)], 1).await;
    assert_eq!(users(&new, 3).await, ["new", "late", "after"]);
    assert_eq!(users(&all, 4).await, ["before", "new", "late", "after"]);
    new.logged("the tail says that it goes on", |line| line.contains("is back").then_some(())).await;
    all.signal("INT");
    assert!(!all.ended().await.success());
}

#[tokio::test]
async fn a_tail_of_events_shows_those_that_are_asked_for() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = of_shells(home.path()).await;
    let admin = daemon.admin.to_string();
    let tail = |args: &[&str]| Running::start(kubesiren().args(["tail", "--events", "--admin", &admin]).args(args));
    let mut wanted = tail(&["-o", "json", "--user", "eve", "--where", "objectRef.resource: [secrets, configmaps]"]);
    let mut all = tail(&["--output", "table"]);
    for tail in [&mut wanted, &mut all] {
        tail.logged("the tail waits", |line| line.contains("waiting for events").then_some(())).await;
    }
    let read = |user: &str, n| shell(user, n).replace("\"pods\"", "\"secrets\"").replace("tty=true", "token=s3cr3t");
    daemon.feed(&[shell("eve", 1), read("bob", 2), read("eve", 3)], 3).await;
    let lines = async |tail: &Running, count: usize| {
        until("events are shown", async || {
            let lines = tail.out.all();
            if lines.len() >= count { Ok(lines.join("\n")) } else { Err(format!("{lines:?}")) }
        })
        .await
    };
    let shown = json_lines(&lines(&wanted, 1).await);
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert_eq!((text_at(&shown[0], "/cluster"), text_at(&shown[0], "/source")), ("default", "webhook"));
    assert_eq!(text_at(&shown[0], "/event/auditID"), "6f1c3c1e-4a55-4b43-9d3c-000000000003");
    assert!(!shown[0].to_string().contains("s3cr3t"), "{}", shown[0]);
    let table = lines(&all, 3).await;
    assert!(table.lines().nth(1).is_some_and(|line| line.contains("bob") && line.contains("default")), "{table}");
    for (args, words) in [
        (&["--where", "verv: get"][..], "did you mean `verb`?"),
        (&["--where", "delete"], "write it like"),
        (&["--level", "high"], "cannot be used with"),
    ] {
        let refused = run(&[&["tail", "--events", "--admin", &admin], args].concat(), b"");
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert!(err(&refused).contains(words), "{}", err(&refused));
    }
    for tail in [&mut wanted, &mut all] {
        tail.signal("INT");
        tail.ended().await;
    }
}

#[tokio::test]
async fn the_top_of_a_daemon_says_what_goes_through_it() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = attacked(home.path()).await;
    let once = well(&daemon, &["top", "--once", "--output", "json"]);
    let figures = &json_lines(&once)[0];
    let events = &figures["events"][0];
    assert_eq!((text_at(events, "/source"), text_at(events, "/cluster")), ("webhook", "default"));
    assert_eq!((events["total"].as_f64(), events["per_second"].as_f64()), (Some(27.0), Some(0.0)));
    assert!(figures["ready"] == true && figures["memory_bytes"].as_f64() > Some(1e6), "{figures}");
    let alerts: f64 =
        figures["rules"].as_array().expect("rules").iter().filter_map(|rule| rule["alerts"].as_f64()).sum();
    assert!((alerts - daemon.metric("kubesiren_alerts_total", "").await).abs() < 0.5, "{figures}");
    assert_eq!(text_at(figures, "/sinks/0/sink"), "console");
    // Into a pipe one picture is drawn.
    let table = well(&daemon, &["top", "--output", "table"]);
    for part in ["ready", "SOURCE", "webhook", "console", "Interactive shell opened in a container", "events/s"] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    let mut lines = Running::start(kubesiren().args(["top", "-o", "json", "--admin", &daemon.admin.to_string()]));
    until("a line each second", async || if lines.out.all().len() >= 2 { Ok(()) } else { Err(String::new()) }).await;
    daemon.stop().await;
    assert_eq!(lines.ended().await.code(), Some(2), "a script wants to know");
}

/// What a terminal shows, with keys that are pressed; `None` without the program that makes one.
fn in_a_terminal(command: &str, keys: &'static str) -> Option<String> {
    if !installed("script") {
        return None;
    }
    let mut script = std::process::Command::new("script");
    script.args(["-qec", command, "/dev/null"]).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    let mut child = script
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program can be started");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), keys.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", out(&output));
    Some(out(&output))
}

#[tokio::test]
async fn the_terminal_is_as_it_was_when_top_ends() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    let (program, admin) = (env!("CARGO_BIN_EXE_kubesiren"), daemon.admin);
    let command = format!("stty rows 24 columns 100; stty -a; {program} top --admin {admin}; stty -a");
    let Some(shown) = in_a_terminal(&command, "q") else { return };
    let settings: Vec<&str> = shown.lines().filter(|line| line.contains("icanon")).collect();
    assert!(settings.len() == 2 && settings[0] == settings[1] && !settings[1].contains("-icanon"), "{shown}");
    let (enter, leave) = (shown.find("\u{1b}[?1049h"), shown.find("\u{1b}[?1049l"));
    assert!(
        enter.is_some() && enter < leave && shown.contains("no rule was true of anything since the start"),
        "{shown}"
    );
}

/// What is shown of how far it is: a share of files, of which the size is known, and no share of a pipe.
#[test]
fn a_scan_says_how_much_is_left() {
    let home = tempfile::tempdir().expect("a folder");
    let packed = home.path().join("audit.log.zst");
    let text = attack().join("\n");
    std::fs::write(&packed, zstd::encode_all(text.as_bytes(), 1).expect("into memory")).expect("written");
    let (program, packed) = (env!("CARGO_BIN_EXE_kubesiren"), packed.display());
    let Some(shown) = in_a_terminal(&format!("stty columns 120; {program} scan {packed}"), "") else { return };
    assert!(shown.contains("%  ") && shown.contains(" left") && shown.contains("alerts in"), "{shown}");
    let shown = in_a_terminal(&format!("stty columns 120; cat {packed} | {program} scan -"), "").expect("it is there");
    assert!(shown.contains(" read, ") && !shown.contains("%  ") && shown.contains("alerts in"), "{shown}");
    let shown = in_a_terminal(&format!("{program} scan -q {packed}"), "").expect("it is there");
    assert!(!shown.contains(" left"), "{shown}");
}

#[test]
fn shells_know_which_rules_there_are() {
    if !installed("bash") {
        return;
    }
    let script = run(&["completions", "bash"], b"");
    let ids = out(&run(&["rules", "list", "--ids"], b""));
    let (id, _) = ids.lines().next().and_then(|line| line.split_once('\t')).expect("an id and a title");
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_kubesiren")).parent().expect("a folder");
    let complete = |words: &str, previous: &str| {
        let count = words.split(' ').count();
        let call = format!(
            "source /dev/stdin; PATH={}:$PATH; COMP_WORDS=({words} ''); COMP_CWORD={count}; _kubesiren kubesiren '' {previous}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            folder.display()
        );
        let mut bash = std::process::Command::new("bash");
        let child =
            bash.args(["-c", &call]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn();
        let mut child = child.expect("bash can be started");
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), &script.stdout).expect("written");
        out(&child.wait_with_output().expect("it ends"))
    };
    for (words, previous) in [
        ("kubesiren rules show", "show"),
        ("kubesiren rules explain --rule", "--rule"),
        ("kubesiren alerts list --rule", "--rule"),
        ("kubesiren silence add --rule", "--rule"),
        ("kubesiren policy generate --disable", "--disable"),
    ] {
        let offered = complete(words, previous);
        assert!(offered.lines().any(|line| line == id), "{words}: {offered}");
    }
}

/// What stands in front of a daemon where people ask from elsewhere: it ends TLS, and passes on what is in it.
async fn tls_in_front_of(daemon: &Daemon, certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> u16 {
    let chain = vec![certificate.cert.der().clone()];
    let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let admin = daemon.admin;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let mut inside = tokio::net::TcpStream::connect(admin).await.expect("the daemon is there");
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_authority_has_to_be_known() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = attacked(home.path()).await;
    let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let ca = home.path().join("ca.crt");
    std::fs::write(&ca, certificate.cert.pem()).expect("written");
    let url = format!("https://localhost:{}", tls_in_front_of(&daemon, &certificate).await);
    let list = ["alerts", "list", "--admin", &url];
    let unknown = run(&list, b"");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(err(&unknown).contains("--ca-file FILE names the authority"), "{}", err(&unknown));
    let known = run(&[&list[..], &["--ca-file", ca.to_str().expect("UTF-8")]].concat(), b"");
    assert_eq!(known.status.code(), Some(0), "{}", err(&known));
    assert_eq!(ids(&out(&known)).len(), daemon.alerts().await.len());
}
