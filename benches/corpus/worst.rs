//! Events that somebody made to be slow to read, and rules that are slow with them.

use std::fmt::Write;

use super::Dice;

/// Rules whose patterns would make a backtracking matcher stand still.
pub(crate) const RULES: &str = "
title: Nested repetition
id: nested
logsource: {product: kubernetes, service: audit}
detection: {sel: {userAgent|re: '^(a+)+b$'}, condition: sel}
---
title: Twice the same
id: twice
logsource: {product: kubernetes, service: audit}
detection: {sel: {userAgent|re: '(x+x+)+y'}, condition: sel}
---
title: Many stars
id: stars
logsource: {product: kubernetes, service: audit}
detection: {sel: {userAgent: '*a*a*a*a*a*a*a*a*b'}, condition: sel}
---
title: Stars in a body
id: body
logsource: {product: kubernetes, service: audit}
detection: {sel: {requestObject.spec.text: '*q*a*a*a*a*a*b'}, condition: sel}
";

/// Name and lines.
pub(crate) fn corpora() -> Vec<(&'static str, Vec<u8>)> {
    let one = |n: u64, groups: &str, more: &str| event(n, QUIET, groups, "kubectl/v1", more);
    let many = |count: u64, make: &dyn Fn(u64) -> String| (0..count).map(make).collect::<String>().into_bytes();
    let groups: String = (0..10_000).map(|n| format!(r#","group-{n}""#)).collect();
    let annotations: String = (0..100_000).map(|n| format!(r#","a{n}.example.org/b":"{n}""#)).collect();
    let mut dice = Dice(3);
    let escapes: String = (0..4_000)
        .map(|_| ["\\u003c", "\\u0026", "\\n", "\\\"", "\\ud83d\\ude00", "x"][dice.roll(6) as usize])
        .collect();
    let mut containers = String::new();
    while containers.len() < 3_000_000 {
        let n = containers.len();
        write!(
            containers,
            r#",{{"name":"c{n}","image":"registry.example.com/app:{n}","env":[{{"name":"A","value":"{n}"}}]}}"#
        )
        .unwrap();
    }
    let deep = |depth: usize| format!("{}1{}", r#"{"a":["#.repeat(depth), "]}".repeat(depth));
    let (at_limit, beyond) = (deep(45), deep(20_000));
    let backtracking = "a".repeat(1_000);
    let body_text = "qa".repeat(2_000);
    vec![
        (
            "a 3 MB event",
            many(8, &|n| {
                one(n, "", &format!(r#","requestObject":{{"kind":"Pod","spec":{{"containers":[{{}}{containers}]}}}}"#))
            }),
        ),
        ("10 000 groups", many(100, &|n| one(n, &groups, ""))),
        ("100 000 annotations", many(8, &|n| one(n, "", &format!(r#","annotations":{{"x":"y"{annotations}}}"#)))),
        (
            "strings full of escapes",
            many(400, &|n| {
                one(
                    n,
                    &format!(r#","{escapes}""#),
                    &format!(
                        r#","requestObject":{{"kind":"Pod","metadata":{{"name":"{escapes}"}},"spec":{{"text":"{escapes}"}}}}"#
                    ),
                )
            }),
        ),
        (
            "depth at the limit",
            many(4_000, &|n| one(n, "", &format!(r#","requestObject":{{"kind":"Pod","spec":{at_limit}}}"#))),
        ),
        (
            "depth beyond it",
            many(60, &|n| one(n, "", &format!(r#","requestObject":{{"kind":"Pod","spec":{beyond}}}"#))),
        ),
        (
            "patterns made to backtrack",
            many(4_000, &|n| {
                event(
                    n,
                    QUIET,
                    "",
                    &backtracking,
                    &format!(r#","requestObject":{{"kind":"Pod","spec":{{"text":"{body_text}"}}}}"#),
                )
            }),
        ),
        ("each event matches", many(4_000, &|n| event(n, LOUD, "", "kubectl/v1", ""))),
    ]
}

/// Somebody of whom no rule says anything: what is measured is reading.
const QUIET: &str = "ci:deployer";
/// What no controller does by hand.
const LOUD: &str = "kube-system:deployment-controller";

fn event(n: u64, user: &str, groups: &str, agent: &str, more: &str) -> String {
    format!(
        "{}\n",
        format_args!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"{n:08x}-0000-4000-8000-000000000000","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/shop/deployments/web?fieldManager=kubectl","verb":"update","user":{{"username":"system:serviceaccount:{user}","groups":["system:authenticated"{groups}]}},"sourceIPs":["10.0.0.1"],"userAgent":"{agent}","objectRef":{{"resource":"deployments","namespace":"shop","name":"web","apiGroup":"apps","apiVersion":"v1"}},"responseStatus":{{"code":200}},"requestReceivedTimestamp":"2026-11-21T04:00:00.{n:06}Z","stageTimestamp":"2026-11-21T04:00:01.{n:06}Z"{more}}}"#
        )
    )
}
