//! Rule sets of any size, as people's rules are: three of four name verb and resource, some look into bodies, some know
//! nothing but a user, an agent, an address or a piece of a URI.

use std::fmt::Write;
use std::path::Path;

use kubesiren::rule::{Rules, load::load_text};

use super::Dice;

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

const RESOURCES: [&str; 24] = [
    "pods",
    "secrets",
    "configmaps",
    "serviceaccounts",
    "deployments",
    "daemonsets",
    "statefulsets",
    "replicasets",
    "jobs",
    "cronjobs",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "nodes",
    "namespaces",
    "services",
    "ingresses",
    "networkpolicies",
    "persistentvolumes",
    "leases",
    "events",
    "validatingwebhookconfigurations",
    "certificatesigningrequests",
];

/// `count` rules about single events, as Sigma.
pub(crate) fn text(count: usize) -> String {
    let mut dice = Dice(11);
    let mut text = String::new();
    for n in 0..count {
        rule(&mut text, n, &mut dice);
    }
    text
}

/// The same, loaded.
pub(crate) fn rules(count: usize) -> Rules {
    let loaded = load_text(Path::new("made-up.yml"), &text(count));
    assert!(!loaded.has_errors(), "{}", loaded.findings[0]);
    loaded.rules
}

fn rule(text: &mut String, n: usize, dice: &mut Dice) {
    write!(
        text,
        "---\ntitle: Rule {n}\nid: rule-{n}\nlogsource: {{product: kubernetes, service: audit}}\ndetection:\n  selection:\n"
    )
    .unwrap();
    if dice.roll(4) > 0 {
        let resource = RESOURCES[dice.roll(RESOURCES.len() as u64) as usize];
        writeln!(text, "    objectRef.resource: {resource}").unwrap();
        match dice.roll(3) {
            0 => writeln!(text, "    verb: [create, update, patch]").unwrap(),
            _ => writeln!(text, "    verb: {}", VERBS[dice.roll(8) as usize]).unwrap(),
        }
        further(text, n, dice);
    } else {
        alone(text, n, dice);
    }
    let filtered = dice.roll(5) == 0;
    if filtered {
        writeln!(text, "  filter:\n    user.username|startswith: ['system:node:', 'system:serviceaccount:team-{n}']")
            .unwrap();
    }
    writeln!(text, "  condition: selection{}", if filtered { " and not filter" } else { "" }).unwrap();
}

/// What a rule asks besides verb and resource.
fn further(text: &mut String, n: usize, dice: &mut Dice) {
    match dice.roll(10) {
        0 => writeln!(text, "    objectRef.namespace: team-{n}"),
        1 => writeln!(text, "    objectRef.name|startswith: svc-{n}"),
        2 => writeln!(text, "    user.username|contains: runner-{n}"),
        3 => writeln!(text, "    objectRef.subresource: [exec, attach]\n    responseStatus.code|lt: {}", 200 + n % 300),
        4 => writeln!(text, "    responseStatus.code: 403\n    user.username: robot-{n}"),
        5 => writeln!(text, "    requestObject.spec.containers.image|contains: registry-{n}.example.org"),
        6 => writeln!(text, "    requestObject.spec.hostNetwork: true\n    objectRef.namespace|endswith: '-{n}'"),
        7 => writeln!(text, "    userAgent|contains: tool-{n}/"),
        8 => writeln!(text, "    user.groups: [group-{n}, admins-{n}]"),
        _ => writeln!(text, "    objectRef.name: [a-{n}, b-{n}, c-{n}]"),
    }
    .unwrap();
}

/// What a rule asks that names neither.
fn alone(text: &mut String, n: usize, dice: &mut Dice) {
    match dice.roll(8) {
        0 => writeln!(text, "    user.username: [robot-{n}, 'system:serviceaccount:ns-{n}:bot']"),
        1 => writeln!(text, "    userAgent|contains: scanner-{n}"),
        2 => writeln!(text, "    requestURI|contains: /apis/vendor-{n}.example.org/"),
        3 => writeln!(text, "    sourceIPs|cidr: 172.{}.{}.0/24", n % 32, n % 250),
        4 => writeln!(text, "    user.groups: intruders-{n}"),
        5 => writeln!(text, "    impersonatedUser.username|startswith: ghost-{n}"),
        6 => writeln!(text, "    requestURI|re: '/api/v1/.*/proxy-{n}/[a-z]+'"),
        _ => writeln!(text, "    objectRef.namespace: quarantine-{n}\n    responseStatus.code|gte: 400"),
    }
    .unwrap();
}
