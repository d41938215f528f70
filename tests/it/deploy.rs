//! What is in deploy/ is right as far as it can be told without a cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use kubesiren::config::{self, Depth};
use kubesiren::diagnose::SourceText;
use kubesiren::yaml;
use serde_json::Value;

use super::support::installed;

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn documents(path: &str) -> Vec<Value> {
    parsed(path, read(path))
}

/// The documents of a text in YAML.
pub(crate) fn parsed(path: &str, text: String) -> Vec<Value> {
    let (documents, findings) = yaml::parse(&SourceText::new(Path::new(path), text));
    assert!(findings.is_empty(), "{findings:#?}");
    documents.iter().map(yaml::Node::to_json).collect()
}

pub(crate) fn of_kind(documents: &[Value], kind: &str) -> Value {
    let found: Vec<_> = documents.iter().filter(|document| document["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "one {kind}");
    found[0].clone()
}

#[test]
fn every_yaml_file_is_yaml() {
    for entry in std::fs::read_dir(root().join("deploy")).expect("deploy/").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".yaml") {
            assert!(!documents(&format!("deploy/{name}")).is_empty(), "{name}");
        }
    }
}

#[test]
fn the_pod_is_restricted() {
    let all = documents("deploy/kubernetes.yaml");
    let labels = &of_kind(&all, "Namespace")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
    assert_eq!(of_kind(&all, "ServiceAccount")["automountServiceAccountToken"], false);

    restricted(&of_kind(&all, "StatefulSet")["spec"]["template"]["spec"]);
}

/// A pod that the level `restricted` of Pod Security lets through, and that writes to its volumes alone.
pub(crate) fn restricted(pod: &Value) {
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[forbidden].is_null(), "{forbidden}");
    }
    for container in pod["containers"].as_array().expect("containers") {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
        assert!(context["capabilities"]["add"].is_null() && context["privileged"].is_null());
        // Others' containers have probes of their own, or none.
        for probe in
            ["startupProbe", "livenessProbe", "readinessProbe"].iter().filter(|_| container["name"] == "kubesiren")
        {
            assert_eq!(container[probe]["httpGet"]["port"], "admin", "{probe}");
        }
    }
    for volume in pod["volumes"].as_array().expect("volumes") {
        assert!(volume["hostPath"].is_null(), "{volume}");
    }
}

#[test]
fn everything_selects_the_same_pod() {
    let all = documents("deploy/kubernetes.yaml");
    let label = serde_json::json!({"app.kubernetes.io/name": "kubesiren", "app.kubernetes.io/instance": "kubesiren"});
    let stateful = of_kind(&all, "StatefulSet");
    assert_eq!(stateful["spec"]["template"]["metadata"]["labels"], label);
    assert_eq!(stateful["spec"]["selector"]["matchLabels"], label);
    assert_eq!(of_kind(&all, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"], label);
    assert_eq!(of_kind(&all, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"], label);
    let services: Vec<_> = all.iter().filter(|document| document["kind"] == "Service").collect();
    assert!(services.len() == 2 && services.iter().all(|service| service["spec"]["selector"] == label));
}

#[test]
fn the_configuration_in_the_manifest_loads() {
    let map = of_kind(&documents("deploy/kubernetes.yaml"), "ConfigMap");
    let text = map["data"]["config.yaml"].as_str().expect("text");
    let config = config::parse(Path::new("kubernetes.yaml"), text, &[], Depth::Text);
    let config = config.unwrap_or_else(|findings| panic!("{findings:#?}"));
    assert_eq!(config.admin.listen.port(), 9766);
}

#[test]
fn alerts_use_metrics_that_exist() {
    let definition = regex::Regex::new(r#"(?m)^    \w+: (.+), "(\w+)", "[^"]+";$"#).expect("a pattern");
    let mut known = BTreeSet::new();
    for found in definition.captures_iter(&read("src/metrics.rs")) {
        let (kind, name) = (&found[1], &found[2]);
        // As in the type's name: what the encoder appends to the metric's.
        let endings: &[&str] = match kind {
            kind if kind.contains("Counter") => &["_total"],
            kind if kind.contains("Histogram") => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        known.extend(endings.iter().map(|ending| format!("kubesiren_{name}{ending}")));
    }
    assert!(known.len() > 20, "{known:?}");

    let name = regex::Regex::new(r"kubesiren_\w+").expect("a pattern");
    let mut used = BTreeSet::new();
    for group in documents("deploy/prometheus-rules.yaml")[0]["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            assert!(rule["record"].is_string() || rule["annotations"]["summary"].is_string(), "{rule}");
            let expression = rule["expr"].as_str().expect("an expression");
            used.extend(name.find_iter(expression).map(|found| found.as_str().to_owned()));
        }
    }
    let unknown: Vec<_> = used.difference(&known).collect();
    assert!(unknown.is_empty() && used.len() >= 10, "{unknown:?}");
}

#[test]
fn the_audit_policy_logs_no_secret() {
    let policy = &documents("deploy/audit-policy.yaml")[0];
    assert_eq!(policy["omitStages"], serde_json::json!(["RequestReceived"]));
    let rules = policy["rules"].as_array().expect("rules");
    let mentions = |rule: &Value, group: &str, resource: &str| {
        let resources = rule["resources"].as_array().cloned().unwrap_or_default();
        resources.iter().any(|entry| {
            let names = entry["resources"].as_array().cloned().unwrap_or_default();
            entry["group"] == group && (names.is_empty() || names.iter().any(|name| name == resource))
        })
    };
    let first = |group: &str, resource: &str| {
        let rule = rules.iter().find(|rule| mentions(rule, group, resource));
        rule.unwrap_or_else(|| panic!("no rule for {resource}"))["level"].clone()
    };
    for resource in ["secrets", "configmaps", "serviceaccounts/token"] {
        assert_eq!(first("", resource), "Metadata", "{resource}");
    }
    assert_eq!(first("authentication.k8s.io", "tokenreviews"), "Metadata");
    // Sessions come before the rules that drop the control plane's reads, because their verb is `get`.
    assert_eq!(first("", "pods/exec"), "Request");
    assert!(!rules.iter().any(|rule| rule["level"] == "RequestResponse"), "answers carry secrets");
    assert_eq!(rules.last().expect("rules"), &serde_json::json!({"level": "Metadata"}));
}

#[test]
fn the_unit_is_right_and_shut_in() {
    if !installed("systemd-analyze") {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let unit = home.path().join("kubesiren.service");
    // Where the program is installed there is none while it is tested.
    let text = read("deploy/kubesiren.service").replace("/usr/local/bin/kubesiren", env!("CARGO_BIN_EXE_kubesiren"));
    std::fs::write(&unit, text).expect("written");
    let verified = Command::new("systemd-analyze").arg("verify").arg(&unit).output().expect("it can be started");
    let words = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<&str> = words.lines().filter(|line| line.contains("kubesiren")).collect();
    assert!(verified.status.success() && ours.is_empty(), "{words}");
    // Exposure times ten, of at most 100: 2.0 is what systemd calls OK.
    let security = ["security", "--offline=true", "--threshold=20", "--no-pager"];
    let judged = Command::new("systemd-analyze").args(security).arg(&unit).output().expect("it can be started");
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

/// What the image is built of: a compiler's stage for crates alone, and a last one without a shell, as nobody's user.
#[test]
fn the_image_runs_as_nobody_and_holds_one_program() {
    let text = read("deploy/Dockerfile");
    let last = text.rsplit("\nFROM ").next().expect("a stage");
    assert!(last.starts_with("gcr.io/distroless/cc-debian12:nonroot\n"), "{last}");
    assert!(last.contains("\nUSER 65532:65532\n") && !last.contains("\nRUN "), "{last}");
    assert_eq!(last.matches("\nCOPY ").count(), 1, "{last}");
    // Stand-ins for every target that Cargo.toml names: cargo refuses a manifest with a missing one.
    for bench in
        regex::Regex::new(r#"\[\[bench\]\]\nname = "(\w+)""#).expect("a pattern").captures_iter(&read("Cargo.toml"))
    {
        assert!(text.contains(&format!("benches/{}.rs", &bench[1])), "{}", &bench[1]);
    }
    let ignored = read(".dockerignore");
    assert!(ignored.lines().any(|line| line == "/target"), "{ignored}");
}
