//! What has to hold of every built-in detection: cases that decide each of its parts, no overlap that nobody looked at, no
//! names of the real world.
//!
//! Files that are generated are written anew with `KUBESIREN_WRITE=1 cargo test --test it gates`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use kubesiren::cases::mutate::mutate;
use kubesiren::cases::overlap::overlaps;
use kubesiren::rule::sigma::Placeholders;
use regex::Regex;

use crate::support::generated;

fn detections() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("detections")
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Rule, part and reason: what no case can decide.
fn allowed() -> BTreeMap<(String, String), String> {
    let file = fs::read_to_string(detections().join("undecided.tsv")).expect("the list");
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    let entry = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [rule, part, reason] = cells[..] else {
            panic!("undecided.tsv: rule, part and reason belong here: {line}")
        };
        assert!(reason.ends_with('.'), "undecided.tsv: a reason is a sentence: {line}");
        ((rule.to_owned(), part.to_owned()), reason.to_owned())
    };
    lines.map(entry).collect()
}

#[test]
fn every_part_of_every_rule_decides_some_case() {
    let mutated = mutate(&[detections()], &Placeholders::new(), threads());
    assert!(mutated.findings.is_empty(), "{:?}", mutated.findings);
    assert!(mutated.changes > 5_000, "{}", mutated.changes);
    let mut allowed = allowed();
    let mut missing = String::new();
    for undecided in &mutated.undecided {
        if allowed.remove(&(undecided.rule.clone(), undecided.part.clone())).is_none() {
            let file = undecided.file.strip_prefix(detections()).expect("below the folder").display();
            let _ = writeln!(missing, "{file}: {}\t{}", undecided.rule, undecided.part);
        }
    }
    assert!(
        missing.is_empty(),
        "No case goes otherwise if a rule is changed so. Write one beside the rule that does, or give the reason why none \
         can in detections/undecided.tsv (rule, part, reason, with tabs between):\n{missing}"
    );
    let stale: Vec<_> = allowed.keys().collect();
    assert!(stale.is_empty(), "undecided.tsv: some case decides these by now, or they are gone: {stale:#?}");
}

#[test]
fn what_else_fires_on_a_case_is_written_down() {
    let mut table = String::from(
        "# Which other rules fire on the events of a case. Look at what changes: two rules that say the same are one too many.\n\
         # Written by KUBESIREN_WRITE=1 cargo test --test it gates\n\
         # rule\tcase\tothers\n",
    );
    for overlap in overlaps(&[detections()], &Placeholders::new(), threads()) {
        let _ = writeln!(table, "{}\t{}\t{}", overlap.rule, overlap.case, overlap.others.join("; "));
    }
    generated("detections/cross-fire.tsv", &table);
}

/// Everything below the detections that people wrote.
fn texts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![detections()];
    while let Some(folder) = open.pop() {
        for path in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yml") {
                let name = path.strip_prefix(detections()).expect("below it").display().to_string();
                found.push((name, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    found.sort();
    found
}

/// What a pattern finds in the detections and their cases, but for what is allowed.
fn found(pattern: &str, allowed: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).expect("a pattern");
    let mut found = BTreeSet::new();
    for (file, text) in texts() {
        let hits = pattern.find_iter(&text).map(|hit| hit.as_str()).filter(|hit| !allowed(hit));
        found.extend(hits.map(|hit| format!("{file}: {hit}")));
    }
    found
}

/// Addresses are private, for documentation, or name nobody: the cloud's metadata service, whole networks.
#[test]
fn addresses_are_nobodys() {
    let version_4 = Regex::new(
        r"^(10\.|127\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.|192\.0\.2\.|198\.51\.100\.|203\.0\.113\.|0\.0\.0\.0$|100\.64\.|100\.100\.100\.200$|168\.63\.129\.16$|255\.)",
    )
    .expect("a pattern");
    let found_4 = found(r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b", &|hit| version_4.is_match(hit));
    assert!(found_4.is_empty(), "use 192.0.2.x, 198.51.100.x or 203.0.113.x: {found_4:#?}");
    let is_allowed = |hit: &str| {
        let hit = hit.to_ascii_lowercase();
        ["2001:db8:", "fd", "fe80:", "::1", "::ffff:"].iter().any(|known| hit.starts_with(known))
    };
    let found_6 = found(r"\b[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){2,7}::?[0-9a-fA-F]{0,4}\b", &is_allowed);
    assert!(found_6.is_empty(), "use 2001:db8::x: {found_6:#?}");
}

/// The accounts that Amazon's own documentation uses are nobody's.
#[test]
fn cloud_accounts_are_nobodys() {
    let documented = ["111122223333", "123456789012", "444455556666", "000000000000"];
    let found = found(r"\b\d{12}\b", &|hit| documented.contains(&hit));
    assert!(found.is_empty(), "use {documented:?}: {found:#?}");
}

#[test]
fn people_live_at_example_com() {
    // What looks like mail and is none: images by digest, kubelet's node names, schemes.
    let is_allowed = |hit: &str| {
        let (name, host) = hit.split_once('@').unwrap_or_default();
        host.ends_with("example.com")
            || host.ends_with("example.org")
            || host.ends_with(".gserviceaccount.com")
            || name.is_empty()
    };
    let found = found(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+\.[A-Za-z.]+", &is_allowed);
    assert!(found.is_empty(), "use @example.com: {found:#?}");
}

/// Whose names may stand in rules and cases: those of Kubernetes, of clouds, registries and of what runs in clusters.
const DOMAINS: [&str; 62] = [
    "amazon.com",
    "amazonaws.com",
    "amd.com",
    "appscode.com",
    "argoproj.io",
    "azure.com",
    "azurecr.io",
    "bitnami.com",
    "cert-manager.io",
    "cnpg.io",
    "crossplane.io",
    "docker.io",
    "elastic.co",
    "example.com",
    "example.net",
    "example.org",
    "external-secrets.io",
    "falco.org",
    "fluentbit.io",
    "fluxcd.io",
    "gcr.io",
    "ghcr.io",
    "github.com",
    "github.io",
    "gitlab.com",
    "gke.io",
    "google.com",
    "googleapis.com",
    "gserviceaccount.com",
    "intel.com",
    "istio.io",
    "jfrog.io",
    "k8s.io",
    "k8up.io",
    "kanister.io",
    "kasten.io",
    "kubernetes.io",
    "kubewarden.io",
    "kyverno.io",
    "longhorn.io",
    "metallb.io",
    "microsoft.com",
    "mitre.org",
    "ngrok-free.app",
    "nginx.org",
    "nip.io",
    "nvcr.io",
    "nvidia.com",
    "openshift.io",
    "pkg.dev",
    "quay.io",
    "readthedocs.io",
    "redhat.com",
    "redhat.io",
    "slack.com",
    "sslip.io",
    "tekton.dev",
    "upbound.io",
    "velero.io",
    "windows.net",
    "x-k8s.io",
    "oracle.com",
];

#[test]
fn domains_are_those_of_documentation_or_of_known_software() {
    let is_allowed = |hit: &str| {
        let labels: Vec<&str> = hit.rsplitn(3, '.').collect();
        let domain = format!("{}.{}", labels[1], labels[0]).to_ascii_lowercase();
        // In a query what stands before a name is percent-encoded.
        let plain = domain.strip_prefix("2f").or_else(|| domain.strip_prefix("3d")).unwrap_or(&domain);
        DOMAINS.contains(&plain)
    };
    let found = found(
        r"\b[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*\.(com|net|org|io|dev|co|cloud|app|ai|xyz|eu|de|uk|us|ru|cn|info|biz)\b",
        &is_allowed,
    );
    assert!(found.is_empty(), "use example.com, or add the maker of what runs in clusters to the list: {found:#?}");
}
