//! Audit policies: what is generated lets every rule fire, and what is said of a policy is so.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, LazyLock};

use kubesiren::cases::{self, Report};
use kubesiren::correlate::{Limits, REPEAT_AFTER};
use kubesiren::diagnose::SourceText;
use kubesiren::engine::RuleSet;
use kubesiren::policy::check::{Sight, check};
use kubesiren::policy::estimate::Estimate;
use kubesiren::policy::evaluate::Request;
use kubesiren::policy::generate::{self, Generated, generate};
use kubesiren::policy::model::Level;
use kubesiren::policy::{Policy, api, model, render};
use kubesiren::rule::sigma::Placeholders;
use kubesiren::rule::{self, Rules};
use kubesiren::scan::{Input, Scan};
use serde_json::{Value, json};

use crate::support::{recording, scenarios, skipped};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

static BUILTIN: LazyLock<Rules> = LazyLock::new(|| {
    let loaded = rule::load(&rule::Options { builtin: true, ..rule::Options::default() });
    assert!(!loaded.has_errors());
    loaded.rules
});

/// The same without bodies that hold credentials.
static WITHHOLDING: LazyLock<Generated> =
    LazyLock::new(|| generate(&BUILTIN, generate::Options { no_credentials: true }));

/// The policy for the built-in rules.
static GENERATED: LazyLock<Generated> = LazyLock::new(|| generate(&BUILTIN, generate::Options::default()));

/// An event as kube-apiserver writes it: cases leave the API group out, or leave it as it was, where it tells nothing.
fn complete(mut event: Value) -> Value {
    let group = event.pointer("/objectRef/resource").and_then(Value::as_str).and_then(api::group_of);
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        event["objectRef"]["apiGroup"] = json!(group);
    }
    event
}

/// The cases of all detections, their events cut down to what the policy lets through.
fn cases_under(policy: &Policy) -> Report {
    cases::run_with(&[root().join("detections")], &Placeholders::new(), &|event| cut(policy, event))
}

/// What a policy leaves of an event. That a deletion is a trial stays: no policy is made to tell those apart, and where it does
/// not, they are told as deletions.
fn cut(policy: &Policy, event: Value) -> Option<Value> {
    let event = complete(event);
    let mut left = policy.cut(&event)?;
    if let Some(trial) = event.pointer("/requestObject/dryRun")
        && left.get("requestObject").is_none()
    {
        left["requestObject"] = serde_json::json!({"dryRun": trial});
    }
    Some(left)
}

fn failures(report: &Report) -> Vec<String> {
    let all = report.files.iter().flat_map(|file| file.failures.iter().map(move |failure| (&file.file, failure)));
    all.map(|(file, failure)| format!("{}: {}: {}", file.display(), failure.name, first_line(&failure.what))).collect()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn read(path: &Path) -> Policy {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    model::parse(&SourceText::new(path, text)).unwrap_or_else(|findings| panic!("{findings:#?}")).0
}

/// A policy that is not part of the repository; tells when it is not there.
fn shared(name: &str) -> Option<Policy> {
    let path = root().join("../shared/data/audit-policies").join(name);
    if !path.exists() {
        skipped(&format!("{} is not there", path.display()));
        return None;
    }
    Some(read(&path))
}

#[test]
fn every_case_goes_as_expected_under_the_generated_policy() {
    let policy = GENERATED.policy();
    let report = cases_under(&policy);
    let failures = failures(&report);
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), report.passed(), failures.join("\n"));
    assert!(report.passed() > 1_000, "{}", report.passed());
}

#[test]
fn no_rule_is_blind_under_the_generated_policy() {
    let seen = check(&GENERATED.policy(), &BUILTIN);
    let not_full: Vec<_> = seen.iter().filter(|checked| checked.sight != Sight::Full).collect();
    assert!(not_full.is_empty(), "{not_full:#?}");
    assert!(seen.len() > 250, "{}", seen.len());
}

/// The same for the rules of others, which name stages and are about refused credentials in ways of their own.
#[test]
fn no_rule_of_others_is_blind_under_a_policy_made_for_it() {
    for path in ["falco/k8s_audit_rules.yaml", "sigma"] {
        let path = root().join("../shared/data").join(path);
        if !path.exists() {
            return skipped(&format!("{} is not there", path.display()));
        }
        let loaded = rule::load(&rule::Options { paths: vec![path.clone()], ..rule::Options::default() });
        let policy = generate(&loaded.rules, generate::Options::default()).policy();
        let seen = check(&policy, &loaded.rules);
        let not_full: Vec<_> = seen.iter().filter(|checked| checked.sight != Sight::Full).collect();
        assert!(seen.len() > 10 && not_full.is_empty(), "{}: {not_full:#?}", path.display());
    }
}

/// What is said of a policy must be what happens to the cases under it: nothing of a blind rule fires, all of a rule that
/// sees everything does.
fn assert_said_is_so(policy: &Policy) {
    let said: BTreeMap<String, Sight> =
        check(policy, &BUILTIN).into_iter().map(|checked| (checked.id, checked.sight)).collect();
    assert!(said.values().all(|sight| *sight != Sight::Unknown));
    assert!(said.values().any(|sight| *sight == Sight::Blind), "a policy to learn from");
    let mut wrong = Vec::new();
    for outcome in cases::outcomes(&[root().join("detections")], &Placeholders::new(), &|event| cut(policy, event)) {
        let Some(sight) = said.get(&outcome.rule) else { continue };
        match (outcome.expected, outcome.fired, sight) {
            (true, true, Sight::Blind) => {
                wrong.push(format!("{} is said to be blind, but fires: {}", outcome.rule, outcome.name));
            }
            (true, false, Sight::Full) => {
                wrong.push(format!("{} is said to see all, but is silent: {}", outcome.rule, outcome.name));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_said_of_our_own_policy_is_so() {
    assert_said_is_so(&read(&root().join("deploy/audit-policy.yaml")));
    assert_said_is_so(&WITHHOLDING.policy());
}

#[test]
fn what_is_said_of_the_clouds_policies_is_so() {
    for name in ["gce-gke.yaml", "eks-default.yaml", "falco-k8saudit.yaml"] {
        let Some(policy) = shared(name) else { return };
        assert_said_is_so(&policy);
    }
}

/// The alerts about some events, by rule, and how often.
fn alerts(events: &[String]) -> BTreeMap<String, u64> {
    let rules = Arc::new(RuleSet::compile(BUILTIN.clone(), REPEAT_AFTER));
    let scan = Scan { rules, cluster: "lab".into(), limits: Limits::default(), threads: 1 };
    let reader = Box::new(Cursor::new(events.join("\n")));
    let scanned = scan.run(vec![Input { name: "events".to_owned(), reader }]);
    let mut found = BTreeMap::new();
    for alert in scanned.alerts {
        *found.entry(alert.rule.title.clone()).or_default() += alert.count;
    }
    found
}

/// What was recorded of attacks raises the same alerts when only what the policy lets through is left.
#[test]
fn recorded_attacks_are_seen_under_the_generated_policy() {
    let Some(scenarios) = scenarios() else { return };
    let policy = GENERATED.policy();
    let events: Vec<String> = scenarios.into_iter().map(|(_, event)| event).collect();
    let cut: Vec<String> = events
        .iter()
        .filter_map(|event| policy.cut(&serde_json::from_str(event).expect("JSON")))
        .map(|event| event.to_string())
        .collect();
    assert!(cut.len() < events.len());
    let (all, seen) = (alerts(&events), alerts(&cut));
    let less: Vec<_> = all.iter().filter(|(title, count)| seen.get(*title) != Some(count)).collect();
    let less: Vec<_> = less.into_iter().map(|(title, count)| (title, count, seen.get(title))).collect();
    assert!(all.len() > 50 && less.is_empty(), "{} {less:#?}", all.len());
}

/// What `data/policy-visibility.tsv` says was logged under a policy: level, or nothing.
fn measured(cell: &str) -> Option<Level> {
    let level = cell.split(' ').next()?;
    [Level::Metadata, Level::Request, Level::RequestResponse].into_iter().find(|known| known.as_str() == level)
}

/// What was measured is what we say: the same requests were recorded with everything, and counted under two policies.
#[test]
fn policies_log_what_was_measured() {
    let Some(scenarios) = scenarios() else { return };
    let table = std::fs::read_to_string(root().join("../shared/data/policy-visibility.tsv")).expect("readable");
    let mut compared = 0;
    for (column, name) in [(5, "gce-gke.yaml"), (6, "eks-default.yaml")] {
        let Some(policy) = shared(name) else { return };
        // Of each kind of request, the levels at which the policy logs those that were recorded.
        let mut ours: BTreeMap<[String; 4], BTreeSet<Level>> = BTreeMap::new();
        for (scenario, event) in &scenarios {
            let event: Value = serde_json::from_str(event).expect("JSON");
            // What the apiserver asks itself, it asks when its memory is empty.
            if event["user"]["username"] == "system:apiserver" {
                continue;
            }
            let level = policy.judge(&Request::of(&event)).level;
            ours.entry(key(scenario, &event)).or_default().insert(level);
        }
        for row in table.lines().skip(1) {
            let cells: Vec<&str> = row.split('\t').collect();
            let key = [0, 1, 2, 3].map(|at| cells[at].to_owned());
            let Some(levels) = ours.get(&key) else { continue };
            match measured(cells[column]) {
                Some(level) => assert!(levels.contains(&level), "{name}: {row}: {levels:?}"),
                // Clients that look an API up, and leases, come at their own times: there may have been none.
                None if key[2].starts_with("/openapi") || key[2].starts_with("/api") || key[2] == "leases" => continue,
                None => assert!(levels.contains(&Level::None), "{name}: {row}: {levels:?}"),
            }
            compared += 1;
        }
    }
    assert!(compared > 300, "{compared}");
}

/// Scenario, verb, resource with subresource or path, and code: what the table tells requests apart by.
fn key(scenario: &str, event: &Value) -> [String; 4] {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let what = match (text("/objectRef/resource"), text("/objectRef/subresource")) {
        (resource, _) if resource.is_empty() => text("/requestURI").split('?').next().unwrap_or_default().to_owned(),
        (resource, subresource) if subresource.is_empty() => resource,
        (resource, subresource) => format!("{resource}/{subresource}"),
    };
    let code = event.pointer("/responseStatus/code").map(Value::to_string).unwrap_or_default();
    [scenario.to_owned(), text("/verb"), what, code]
}

fn kubesiren(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubesiren"));
    command.args(args).env("NO_COLOR", "1").current_dir(root()).output().expect("the program can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

const ONE_RULE: &str = "title: A shell\nid: a-shell\nlogsource: {product: kubernetes, service: audit}\nlevel: high\n\
    detection:\n  selection: {objectRef.resource: pods, objectRef.subresource: exec}\n  condition: selection\n";

#[test]
fn a_policy_for_one_rule_logs_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (rule, policy) = (folder.path().join("rule.yml"), folder.path().join("policy.yaml"));
    std::fs::write(&rule, ONE_RULE).expect("written");
    let rules = ["--no-builtin", "--rules", rule.to_str().expect("UTF-8")];
    let generated = kubesiren(&[&["policy", "generate"], &rules[..]].concat());
    assert!(generated.status.success(), "{}", text(&generated.stderr));
    let shown = text(&generated.stdout);
    for part in ["# An audit policy for kube-apiserver", "resources: [pods/exec]", "- level: None\n"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    std::fs::write(&policy, &shown).expect("written");
    let file = policy.to_str().expect("UTF-8");
    let checked = kubesiren(&[&["policy", "check", file, "--format", "table"], &rules[..]].concat());
    assert_eq!(text(&checked.stdout), "1 rule: 0 blind, 0 see part of what they look for, 1 see all of it\n");
    assert_eq!(checked.status.code(), Some(0));
}

#[test]
fn a_blind_rule_is_told_with_what_to_do_and_exit_code_1() {
    let folder = tempfile::tempdir().expect("a folder");
    let (rule, policy) = (folder.path().join("rule.yml"), folder.path().join("policy.yaml"));
    let body = ONE_RULE.replace("objectRef.subresource: exec", "requestObject.spec.hostPID: true");
    std::fs::write(&rule, body).expect("written");
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n";
    let check = |rules: &str, format: &str| {
        std::fs::write(&policy, format!("{head}{rules}")).expect("written");
        let (policy, rule) = (policy.to_str().expect("UTF-8"), rule.to_str().expect("UTF-8"));
        kubesiren(&["policy", "check", policy, "--format", format, "--no-builtin", "--rules", rule])
    };
    let found = check("- level: Metadata\n", "table");
    let shown = text(&found.stdout);
    assert_eq!(found.status.code(), Some(1), "{shown}");
    for part in [
        "BLIND",
        "high          A shell",
        "create/update/patch pods; update/patch pods/ephemeralcontainers: ",
        "logged at Metadata, needs Request (line 4): requestObject.spec.hostPID",
        "add before line 4  - {level: Request, verbs: [",
        "1 rule: 1 blind",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    // What it says helps.
    let add = shown.split("add before line 4  ").nth(1).and_then(|rest| rest.lines().next()).expect("a rule to add");
    assert_eq!(check(&format!("{add}\n- level: Metadata\n"), "table").status.code(), Some(0));
    let found = check("- level: Metadata\n  users: [bob]\n", "json");
    let line: Value = serde_json::from_str(text(&found.stdout).lines().next().expect("a line")).expect("JSON");
    assert_eq!((&line["sight"], &line["gaps"][0]["why"]), (&json!("blind"), &json!("not-logged")));
    let found = check("- level: RequestResponse\n  omitStages: [ResponseComplete]\n", "table");
    assert!(text(&found.stdout).contains("stage ResponseComplete is omitted"), "{}", text(&found.stdout));
    let found = check("- {level: Metadata, verbs: [gte]}\n", "table");
    assert!(text(&found.stderr).contains("did you mean `get`?"), "{}", text(&found.stderr));
    let found = check("- level: Metdata\n", "table");
    assert_eq!(found.status.code(), Some(2));
    assert!(text(&found.stderr).contains("did you mean `Metadata`?"), "{}", text(&found.stderr));
}

#[test]
fn the_generated_policy_is_read_back_as_it_was_made() {
    for (generated, no_credentials) in [(&*GENERATED, false), (&*WITHHOLDING, true)] {
        let source = SourceText::new(Path::new("generated.yaml"), render::yaml(generated, "a test"));
        let (read, warnings) = model::parse(&source).unwrap_or_else(|findings| panic!("{findings:#?}"));
        assert!(warnings.is_empty());
        let shown = |policy: &Policy| {
            let mut rules = policy.rules.clone();
            rules.iter_mut().for_each(|rule| rule.line = 0);
            format!("{:?} {} {rules:?}", policy.omit_stages, policy.omit_managed_fields)
        };
        assert_eq!(shown(&read), shown(&generated.policy()));
        assert_eq!(source.text.contains("CAREFUL"), !no_credentials);
        assert_eq!(generated.withheld.is_empty(), !no_credentials);
    }
}

/// Bodies of what holds credentials are never logged where that was not wished.
#[test]
fn no_credential_is_logged_where_none_is_wanted() {
    let policy = WITHHOLDING.policy();
    for (group, resource, most) in [
        ("", "secrets", Level::Metadata),
        ("", "configmaps", Level::Metadata),
        ("authentication.k8s.io", "tokenreviews", Level::Metadata),
        ("", "serviceaccounts/token", Level::Request),
    ] {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        for verb in api::VERBS {
            let event = json!({
                "verb": verb, "user": {"username": "alice", "groups": ["system:authenticated"]},
                "objectRef": {"apiGroup": group, "resource": resource, "subresource": subresource, "namespace": "shop"},
            });
            let level = policy.judge(&Request::of(&event)).level;
            assert!(level <= most, "{verb} {resource}: {level}");
        }
    }
}

/// A rule of which the selection is given.
fn one_rule(selection: &str) -> Rules {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rule.yml");
    let head = "title: T\nid: t\nlogsource: {product: kubernetes, service: audit}\ndetection:\n  condition: s\n  s:";
    std::fs::write(&file, format!("{head} {selection}\n")).expect("written");
    let loaded = rule::load(&rule::Options { paths: vec![file], ..rule::Options::default() });
    assert!(!loaded.has_errors(), "{:?}", loaded.findings);
    loaded.rules
}

/// A refused credential shows itself at ResponseStarted only: a rule about another stage is not blind for it.
#[test]
fn what_no_policy_can_show_is_no_gap() {
    for stage in ["ResponseComplete", "ResponseStarted"] {
        let rules = one_rule(&format!("{{stage: {stage}, objectRef.resource: pods}}"));
        let seen = check(&generate(&rules, generate::Options::default()).policy(), &rules);
        assert!(seen.iter().all(|checked| checked.sight == Sight::Full), "{seen:#?}");
    }
}

/// A rule that names a group, or nothing at all, means the credentials in it too.
#[test]
fn no_credential_slips_into_the_log_with_the_rest_of_its_group() {
    let of_group = "{objectRef.apiGroup: route.openshift.io, requestObject.spec.host: x}";
    for (selection, group, secret, plain) in [
        (of_group, "route.openshift.io", "routes", "widgets"),
        ("{verb: create, requestObject.metadata.name: x}", "", "secrets", "pods"),
        ("{verb: create, requestObject.metadata.name: x}", "oauth.openshift.io", "oauthclients", "widgets"),
    ] {
        let level = |generated: &Generated, resource: &str| {
            let event = json!({
                "verb": "create", "user": {"username": "alice", "groups": ["system:authenticated"]},
                "objectRef": {"apiGroup": group, "resource": resource, "namespace": "shop"},
            });
            generated.policy().judge(&Request::of(&event)).level
        };
        let rules = one_rule(selection);
        let [all, withholding] =
            [false, true].map(|no_credentials| generate(&rules, generate::Options { no_credentials }));
        assert_eq!((level(&all, secret), level(&all, plain)), (Level::Request, Level::Request), "{selection}");
        assert_eq!((level(&withholding, secret), level(&withholding, plain)), (Level::Metadata, Level::Request));
        assert!(withholding.withheld.contains_key(secret), "{selection}: {:?}", withholding.withheld);
    }
}

/// The policies of the tables in `docs/audit-policy.md`, by the names that they have there.
fn documented(name: &str) -> Option<Policy> {
    match name {
        "`generate`" => Some(GENERATED.policy()),
        "`generate --no-credentials`" => Some(WITHHOLDING.policy()),
        "`deploy/audit-policy.yaml`" => Some(read(&root().join("deploy/audit-policy.yaml"))),
        "GKE" => shared("gce-gke.yaml"),
        "EKS" => shared("eks-default.yaml"),
        _ => panic!("`{name}` is no policy of the page"),
    }
}

/// The rows of the table on the page that has these columns, as cells.
fn table(head: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs/audit-policy.md")).expect("the page");
    let rows = text.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(rows.len() >= 5, "{head}");
    rows
}

#[test]
fn the_page_says_which_rules_the_policies_blind() {
    for row in table("| policy | blind | see part |") {
        let Some(policy) = documented(&row[0]) else { return };
        let checked = check(&policy, &BUILTIN);
        for (cell, sight) in row[1..].iter().zip([Sight::Blind, Sight::Partly]) {
            let said: BTreeSet<&str> = cell.split('`').skip(1).step_by(2).collect();
            let found = checked.iter().filter(|checked| checked.sight == sight);
            let found: BTreeSet<&str> = found.map(|checked| &*checked.title).collect();
            assert_eq!(found, said, "{} {sight:?}", row[0]);
        }
    }
}

#[test]
fn the_page_says_what_the_policies_write() {
    let Some(benign) = recording("benign.jsonl.zst") else { return };
    let text = zstd::stream::decode_all(std::fs::File::open(benign).expect("there")).expect("packed");
    let rows = table("| policy | events | bytes |");
    let policies: Option<Vec<Policy>> = rows.iter().map(|row| documented(&row[0])).collect();
    let Some(policies) = policies else { return };
    let mut estimates = vec![Estimate::default(); rows.len()];
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_slice(line).expect("JSON");
        for (policy, estimate) in policies.iter().zip(&mut estimates) {
            estimate.take(policy, &event, line.len() as u64);
        }
    }
    let percent = |part: u64, whole: u64| format!("{} %", (200 * part + whole) / (2 * whole));
    for (row, Estimate { before, after, .. }) in rows.iter().zip(&estimates) {
        let found = [percent(after.events, before.events), percent(after.bytes, before.bytes)];
        assert_eq!(found, row[1..], "{}", row[0]);
    }
    assert!(render::yaml(&GENERATED, "a test").lines().count() < 400, "it is to be read");
}

#[test]
fn the_volume_of_a_policy_is_told() {
    let sample = "samples/attack.jsonl";
    let found = kubesiren(&["policy", "check", "deploy/audit-policy.yaml", "--estimate", sample, "--format", "json"]);
    let shown = text(&found.stdout);
    let last: Value = serde_json::from_str(shown.lines().last().expect("a line")).expect("JSON");
    let of = |what: &str| last["estimate"][what]["events"].as_u64().expect("a number");
    assert_eq!(of("before"), std::fs::read_to_string(root().join(sample)).expect("the sample").lines().count() as u64);
    assert_eq!(of("before"), of("dropped") + of("stages_omitted") + of("after"));
    assert!(of("after") > 0);
    let Some(benign) = recording("benign.jsonl.zst") else { return };
    let benign = benign.to_str().expect("UTF-8").to_owned();
    let found = kubesiren(&["policy", "generate", "--estimate", &benign]);
    let shown = text(&found.stderr);
    let line = shown.lines().find(|line| line.contains("of the bytes")).unwrap_or_else(|| panic!("{shown}"));
    let percent: f64 =
        line.split(", ").nth(1).and_then(|part| part.split(' ').next()).expect(line).parse().expect(line);
    assert!(percent < 25.0, "{line}");
}
