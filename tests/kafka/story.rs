//! Events with planted attacks for every type of correlation.

use std::fmt::Write as _;

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
correlation: {type: value_count, rules: [many_gone], timespan: 10m, condition: {field: user.username, gte: 2}}
level: high
---
title: Reads much and deletes much
id: c-chain
correlation: {type: temporal, rules: [many_gone, many_read], group-by: [user.username], timespan: 10m, generate: true}
level: high
";

/// Deterministic chance.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }
}

/// Events over two hours: noise, and every so often a piece of an attack.
pub(crate) fn events(count: u64) -> Vec<String> {
    let mut chance = Chance::new(7);
    let step = 7_200_000_000 / count.max(1);
    (0..count)
        .map(|n| {
            let micros = n * step;
            // An attack lasts a minute; its user is a name of its own, its kind goes round.
            let attack = micros / 60_000_000;
            let user = format!("attacker-{}", attack % 97);
            let number = chance.below(100);
            match (number, attack % 4) {
                // Of what is deleted every few minutes ten times as much at once.
                (50..60, _) if attack == 100 => {
                    event(n, micros, &user, "delete", "configmaps", "shop", &format!("map-{n}"), 200, "kubectl")
                }
                (0, 0) => event(n, micros, &user, "delete", "configmaps", "shop", &format!("map-{n}"), 200, "kubectl"),
                (0 | 1, 1) => {
                    event(n, micros, &user, "get", "secrets", "shop", &format!("secret-{}", n % 23), 200, "kubectl")
                }
                (0, 2) => {
                    event(n, micros, &user, "create", "pods", "shop", "new", 403, &format!("tool-{}", attack % 5))
                }
                (1, 2) => {
                    event(n, micros, &user, "get", "secrets", "shop", "one", 200, &format!("tool-{}", attack % 5))
                }
                (0 | 1, _) if number == 0 => {
                    event(n, micros, &user, "delete", "configmaps", "shop", &format!("map-{n}"), 200, "kubectl")
                }
                (1, _) => event(
                    n,
                    micros,
                    &user,
                    "get",
                    "secrets",
                    &format!("ns-{}", attack % 7),
                    &format!("secret-{}", n % 23),
                    200,
                    "kubectl",
                ),
                (2, _) if n % 40 == 2 => {
                    event(n, micros, &user, "create", "pods/exec", "shop", "web-0", 101, "kubectl")
                }
                _ => event(
                    n,
                    micros,
                    "system:serviceaccount:shop:web",
                    "get",
                    "deployments",
                    "shop",
                    &format!("web-{}", n % 50),
                    200,
                    "web",
                ),
            }
        })
        .collect()
}

/// A rule whose windows hold what happens in so many seconds.
pub(crate) fn one_window(seconds: u64) -> String {
    let rule = RULES.split("---").nth(1).unwrap_or_default();
    format!(
        "{rule}---\ntitle: Far too many\nid: too-many\ncorrelation: {{type: event_count, rules: [gone], group-by: [user.username], \
         timespan: {seconds}s, condition: {{gte: 100000000}}}}\nlevel: low\n"
    )
}

/// A match of that rule; one every millisecond, of a thousand users.
pub(crate) fn matching(n: u64) -> String {
    event(
        n,
        n * 1_000,
        &format!("user-{}", n % 1_000),
        "delete",
        "configmaps",
        "shop",
        &format!("map-{n}"),
        200,
        "kubectl",
    )
}

/// An event so many days after all others; they differ by their number.
pub(crate) fn end(number: u64, day: u64) -> String {
    event(
        4_000_000_000 + day * 1_000 + number,
        day * 86_400_000_000,
        "web",
        "get",
        "deployments",
        "shop",
        "end",
        200,
        "web",
    )
}

#[allow(clippy::too_many_arguments, reason = "an event has many parts")]
fn event(
    n: u64,
    micros: u64,
    user: &str,
    verb: &str,
    resource: &str,
    namespace: &str,
    name: &str,
    code: u32,
    agent: &str,
) -> String {
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
