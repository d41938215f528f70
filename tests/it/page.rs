//! The web page in a real browser. Skipped, saying so, where there is no Chromium, no Node or no playwright-core.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use kubesiren::rule::load::BUILTIN;
use kubesiren::rule::{self, Rules};
use serde_json::{Value, json};

use crate::support::{Running, installed, json_lines, kubesiren, run, scan, skipped, story, text_at};

/// Where the browser's driver is looked for, beside the usual places: a folder with `node_modules`.
const MODULES: &str = "KUBESIREN_PAGE_MODULES";

/// What is installed is the same everywhere, and comes from whichever registry npm is set up for.
#[test]
fn the_modules_are_named_with_their_versions_and_without_a_registry() {
    let read = |name: &str| -> Value {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page").join(name);
        serde_json::from_str(&std::fs::read_to_string(file).expect("text")).expect("JSON")
    };
    let (wanted, locked) = (read("package.json"), read("package-lock.json"));
    assert!(!locked.to_string().contains("://"), "{locked}");
    let wanted = wanted["dependencies"].as_object().expect("modules");
    assert_eq!(locked["packages"].as_object().map(serde_json::Map::len), Some(wanted.len() + 1));
    for (name, version) in wanted {
        let locked = &locked["packages"][format!("node_modules/{name}")];
        assert_eq!(&locked["version"], version, "{name}: the version is exact");
        assert!(locked["integrity"].is_string(), "{name}");
    }
}

#[tokio::test]
async fn the_page_works_in_a_browser() {
    let Some(browser) = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        .into_iter()
        .find(|path| Path::new(path).exists())
    else {
        return skipped("there is no Chromium");
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let modules = std::env::var(MODULES).unwrap_or_else(|_| folder.display().to_string());
    if !Path::new(&modules).join("node_modules/playwright-core").exists() {
        return skipped("playwright-core is not installed: `npm ci --prefix tests/page`");
    }
    let home = tempfile::tempdir().expect("a folder");
    let mut demo = Running::start(kubesiren().args(["demo", "--speed", "2000"]).env("TMPDIR", home.path()));
    let address = |line: &str| {
        let (_, rest) = line.split_once("The page stays at ")?;
        rest.split('?').next().map(str::to_owned)
    };
    let page = demo.logged("the end of the story", address).await;
    let copies = home.path().join("copies");
    let to = copies.clone();
    let looking = tokio::task::spawn_blocking(move || {
        let mut node = Command::new("node");
        node.arg(folder.join("page.mjs"))
            .arg(page)
            .env("CHROMIUM", browser)
            .env(MODULES, modules)
            .env("COPIES", to)
            .output()
    });
    match looking.await.expect("no panic") {
        Ok(output) => {
            let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
            assert!(output.status.success(), "{said}");
        }
        Err(error) => return skipped(&format!("node does not run: {error}")),
    }
    // What the page gives to take along is right.
    for (command, folder) in [("test", "case"), ("check", "filter")] {
        let folder = copies.join(folder);
        let output = run(&["rules", command, folder.to_str().expect("UTF-8")], b"");
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(output.status.success(), "{command}: {said}");
    }
}

/// Events of kinds that the recordings lack: what matched of them stands in annotations, in lists, in nothing at all.
fn more_events() -> Vec<String> {
    let event = |n: usize, more: Value| {
        let time = format!("2026-11-20T05:00:{n:02}.000000Z");
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "stage": "ResponseComplete",
            "auditID": format!("6f1c3c1e-4a55-4b43-9d3c-{n:012}"), "userAgent": "kubectl/v1.36.0", "sourceIPs": ["10.0.0.7"],
            "user": {"username": "system:serviceaccount:shop:web", "groups": ["system:authenticated", "system:serviceaccounts"]},
            "responseStatus": {"code": 200}, "requestReceivedTimestamp": time, "stageTimestamp": time,
            "annotations": {"authorization.k8s.io/decision": "allow"},
        });
        for (key, value) in more.as_object().expect("members") {
            event[key] = value.clone();
        }
        event.to_string()
    };
    let object = |resource: &str, name: &str| json!({"resource": resource, "namespace": "shop", "name": name, "apiVersion": "v1"});
    let mut events = vec![event(
        0,
        json!({"verb": "get", "requestURI": "/api/v1/namespaces/shop/pods/a", "objectRef": object("pods", "a"),
            "annotations": {"authorization.k8s.io/decision": "allow", "authentication.k8s.io/legacy-token": "system:serviceaccount:shop:web"}}),
    )];
    events.extend((1..30).map(|n| {
        let (uri, name) = (format!("/api/v1/namespaces/shop/secrets/s{n}"), format!("s{n}"));
        event(n, json!({"verb": "get", "requestURI": uri, "objectRef": object("secrets", &name), "user": {"username": "eve", "groups": ["system:authenticated"]}}))
    }));
    events
}

/// What the API says of a rule, as far as cases are made of it; and its file.
fn known(rules: &Rules, id: &str) -> (Value, String) {
    let file = |file: &Path| file.strip_prefix(BUILTIN).expect("a built-in one").display().to_string();
    if let Some(rule) = rules.rules.iter().find(|rule| rule.info.id == id) {
        return (json!({"kind": "event"}), file(&rule.file));
    }
    let rule = rules.correlations.iter().find(|rule| rule.info.id == id).expect("a rule");
    let (any, kind) = (rule.any.is_some(), &rule.kind);
    (json!({"kind": kind.as_str(), "any": any, "counts": kind.counts(), "least": kind.least()}), file(&rule.file))
}

/// Every alert's case says what happened: it fires, and its quiet one does not. Where the alert holds too little of what
/// happened, the case says so.
#[test]
fn what_is_offered_as_a_case_passes() {
    if !installed("node") {
        return skipped("there is no Node");
    }
    let events = [more_events(), story()].concat();
    let (alerts, _) = scan(&["--profile", "paranoid", "--threads", "2"], events.join("\n").as_bytes());
    let loaded = rule::load(&rule::Options { builtin: true, ..rule::Options::default() });
    // One alert of each rule will do.
    let alerts: BTreeMap<&str, &Value> = alerts.iter().map(|alert| (text_at(alert, "/rule/id"), alert)).collect();
    let known: Vec<_> = alerts.keys().map(|id| known(&loaded.rules, id)).collect();
    let pairs: Vec<Value> =
        alerts.values().zip(&known).map(|(alert, (rule, _))| json!({"alert": alert, "rule": rule})).collect();

    let home = tempfile::tempdir().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for script in ["copy.js", "dom.js"] {
        std::fs::copy(root.join("src/admin/page").join(script), home.path().join(script)).expect("copied");
    }
    std::fs::write(home.path().join("package.json"), r#"{"type": "module"}"#).expect("written");
    let mut node = Command::new("node");
    node.arg(root.join("tests/page/cases.mjs")).arg(home.path().join("copy.js"));
    let mut node = node.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node can be started");
    let mut input = node.stdin.take().expect("piped");
    input.write_all(Value::from(pairs).to_string().as_bytes()).expect("node reads");
    drop(input);
    let output = node.wait_with_output().expect("it ends");
    let cases: Vec<String> = serde_json::from_slice(&output.stdout).expect("texts");

    let rules = home.path().join("rules");
    let mut offered: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let (mut kinds, mut unfinished) = (BTreeMap::<&str, usize>::new(), 0);
    for (case, (rule, file)) in cases.into_iter().zip(&known) {
        *kinds.entry(text_at(rule, "/kind")).or_default() += 1;
        if case.contains("TO BE COMPLETED") {
            unfinished += 1;
        } else {
            offered.entry(file).or_default().push(case);
        }
    }
    for (file, cases) in &offered {
        let to = rules.join(file);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(root.join("detections").join(file), &to).expect("copied");
        std::fs::write(to.with_extension("test.yml"), cases.join("---\n")).expect("written");
    }
    let output = run(&["rules", "test", rules.to_str().expect("UTF-8"), "-o", "json"], b"");
    let tested = json_lines(&String::from_utf8_lossy(&output.stdout));
    // Rules that nothing was offered for lie in the same files.
    let files = tested.iter().filter_map(|file| file["failed"].as_array());
    let failed: Vec<&Value> =
        files.flatten().filter(|failed| !text_at(failed, "/what").starts_with("has no ")).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let passed = tested.iter().filter_map(|file| file["passed"].as_u64()).max();
    assert!(
        passed >= Some(20) && kinds.len() >= 3 && unfinished < kinds.values().sum::<usize>() / 3,
        "{passed:?} {kinds:?} {unfinished}"
    );
}
