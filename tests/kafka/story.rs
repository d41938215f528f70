//! Events with planted attacks for every type of correlation.

use std::fmt::Write as _;

use crate::chance::Chance;

/// The rules that the attacks are planted for: every type, and correlations that are made of correlations.
pub(crate) const RULES: &str = "title: Secret read
id: read
name: read
level: low
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: get, objectRef.resource: secrets}, condition: s}
---
title: Map deleted
id: gone
name: gone
level: low
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: delete, objectRef.resource: configmaps}, condition: s}
---
title: Refused
id: refused
name: refused
level: low
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: create, responseStatus.code: 403}, condition: s}
---
title: Exec
id: exec
level: high
logsource: {product: kubernetes, service: audit}
detection: {s: {verb: create, objectRef.subresource: exec}, condition: s}
---
title: Many maps deleted
id: c-event-count
name: many_gone
correlation: {type: event_count, rules: [gone], group-by: [user.username], timespan: 60s, condition: {gte: 10}}
level: medium
---
title: Many different secrets read
id: c-value-count
name: many_read
correlation: {type: value_count, rules: [read], group-by: [user.username], timespan: 60s, condition: {field: objectRef.name, gte: 8}}
level: medium
---
title: Read and deleted
id: c-temporal
correlation: {type: temporal, rules: [read, gone], group-by: [user.username], timespan: 60s}
level: medium
---
title: Refused, then read
id: c-temporal-ordered
correlation: {type: temporal_ordered, rules: [refused, read], group-by: [user.username], timespan: 60s}
level: medium
---
title: A sum of codes
id: c-value-sum
correlation: {type: value_sum, rules: [refused], group-by: [sourceIPs], timespan: 60s, condition: {field: responseStatus.code, gte: 4000}}
level: medium
---
title: An average of codes
id: c-value-avg
correlation: {type: value_avg, rules: [refused, read], group-by: [userAgent], timespan: 60s, condition: {field: responseStatus.code, gte: 350}}
level: medium
---
title: A percentile of codes
id: c-value-percentile
correlation: {type: value_percentile, rules: [refused, read], group-by: [userAgent], timespan: 60s, condition: {field: responseStatus.code, percentile: 50, gte: 403}}
level: medium
---
title: A namespace that a user never read before
id: c-first-seen
correlation: {type: first_seen, rules: [read], group-by: [user.username], condition: {field: objectRef.namespace}, timespan: 30d, learning: 10m}
level: medium
---
title: Far more deleted than usual
id: c-spike
correlation: {type: spike, rules: [gone], group-by: [objectRef.namespace], timespan: 60s, condition: {gte: 10, times: 3}, learning: 30m}
level: medium
---
title: Several users at once
id: c-of-correlations
correlation: {type: value_count, rules: [many_gone], timespan: 10m, condition: {field: user.username, gte: 2}, generate: true}
level: high
---
title: Reads much and deletes much
id: c-chain
correlation: {type: temporal, rules: [many_gone, many_read], group-by: [user.username], timespan: 10m, generate: true}
level: high
";

/// What is done, and how it ends.
struct Deed<'d> {
    user: &'d str,
    verb: &'d str,
    /// With its subresource, if it has one.
    resource: &'d str,
    namespace: &'d str,
    name: &'d str,
    code: u32,
    agent: &'d str,
}

/// Nothing that matters.
const ORDINARY: Deed<'_> =
    Deed { user: "web", verb: "get", resource: "deployments", namespace: "shop", name: "end", code: 200, agent: "web" };

/// Events over two hours: noise, and every so often a piece of an attack.
pub(crate) fn events(count: u64) -> Vec<String> {
    let mut chance = Chance::new(7);
    let step = 7_200_000_000 / count.max(1);
    (0..count).map(|n| one_of_the_story(n, n * step, chance.below(100))).collect()
}

/// An attack lasts a minute; its user is a name of its own, its kind goes round.
fn one_of_the_story(n: u64, micros: u64, chance: u64) -> String {
    let attack = micros / 60_000_000;
    let user = format!("attacker-{}", attack % 97);
    let (map, secret) = (format!("map-{n}"), format!("secret-{}", n % 23));
    let (namespace, tool) = (format!("ns-{}", attack % 7), format!("tool-{}", attack % 5));
    let ours = Deed { user: &user, agent: "kubectl", ..ORDINARY };
    let deletes = Deed { verb: "delete", resource: "configmaps", name: &map, ..ours };
    let reads = Deed { resource: "secrets", name: &secret, ..ours };
    let deed = match (chance, attack % 4) {
        // Of what is deleted every few minutes ten times as much at once.
        (50..60, _) if attack == 100 => deletes,
        (0 | 1, 1) => reads,
        (0, 2) => Deed { verb: "create", resource: "pods", name: "new", code: 403, agent: &tool, ..ours },
        (1, 2) => Deed { name: "one", agent: &tool, ..reads },
        (0, _) => deletes,
        (1, _) => Deed { namespace: &namespace, ..reads },
        (2, _) if n % 40 == 2 => Deed { verb: "create", resource: "pods/exec", name: "web-0", code: 101, ..ours },
        _ => {
            let name = format!("web-{}", n % 50);
            return event(n, micros, &Deed { user: "system:serviceaccount:shop:web", name: &name, ..ORDINARY });
        }
    };
    event(n, micros, &deed)
}

/// A rule whose windows hold what happens in so many seconds.
pub(crate) fn one_window(seconds: u64) -> String {
    let rule = RULES.split("---").nth(1).unwrap_or_default();
    format!(
        "{rule}---\ntitle: Far too many\nid: too-many\ncorrelation: {{type: event_count, rules: [gone], group-by: [user.username], \
         timespan: {seconds}s, condition: {{gte: 10000}}}}\nlevel: low\n"
    )
}

/// A match of that rule; one every millisecond, of a thousand users.
pub(crate) fn matching(n: u64) -> String {
    let (user, name) = (format!("user-{}", n % 1_000), format!("map-{n}"));
    let deed = Deed { user: &user, verb: "delete", resource: "configmaps", name: &name, agent: "kubectl", ..ORDINARY };
    event(n, n * 1_000, &deed)
}

/// An event so many days after all others; they differ by their number.
pub(crate) fn end(number: u64, day: u64) -> String {
    event(4_000_000_000 + day * 1_000 + number, day * 86_400_000_000, &ORDINARY)
}

fn event(n: u64, micros: u64, deed: &Deed<'_>) -> String {
    let Deed { user, verb, resource, namespace, name, code, agent } = *deed;
    let (day, micros) = (1 + micros / 86_400_000_000, micros % 86_400_000_000);
    let seconds = micros / 1_000_000;
    let time = format!(
        "2026-11-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        micros % 1_000_000
    );
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let mut text = String::with_capacity(900);
    let _ = write!(
        text,
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{:08x}-0000-4000-8000-{:012x}","stage":"ResponseComplete","#,
        n % 0xffff_ffff,
        n
    );
    let _ = write!(
        text,
        r#""requestURI":"/api/v1/namespaces/{namespace}/{resource}/{name}","verb":"{verb}","user":{{"username":"{user}","groups":["system:authenticated"]}},"#
    );
    let sub = if subresource.is_empty() { String::new() } else { format!(r#","subresource":"{subresource}""#) };
    let _ = write!(
        text,
        r#""sourceIPs":["10.0.0.{}"],"userAgent":"{agent}","objectRef":{{"resource":"{resource}","namespace":"{namespace}","name":"{name}","apiVersion":"v1"{sub}}},"#,
        user.len() + usize::from(user.as_bytes().last().copied().unwrap_or_default() % 10)
    );
    let _ = write!(
        text,
        r#""responseStatus":{{"metadata":{{}},"code":{code}}},"requestReceivedTimestamp":"{time}","stageTimestamp":"{time}","annotations":{{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":""}}}}"#
    );
    text
}
