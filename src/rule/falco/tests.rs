//! Falco files as a whole: what is read, what is changed later, and what is refused at which place.

use std::path::Path;

use serde_json::{Value, json};

use crate::rule::load::{Loaded, load_text};
use crate::rule::naive::rule_holds;

const HEAD: &str = "- required_engine_version: 15\n- list: users\n  items: [admin, ci]\n\
    - macro: reads\n  condition: (ka.verb in (get, list))\n\
    - rule: R\n  desc: d\n  condition: reads and not ka.user.name in (users)\n  output: by %ka.user.name\n  priority: WARNING\n  source: k8s_audit\n  tags: [k8s]\n";

fn load(more: &str) -> Loaded {
    load_text(Path::new("f.yaml"), &format!("{HEAD}{more}"))
}

fn findings(more: &str) -> Vec<String> {
    load(more).findings.iter().map(ToString::to_string).collect()
}

fn event(verb: &str, user: &str) -> Value {
    json!({"auditID": "a", "stage": "ResponseComplete", "verb": verb, "user": {"username": user},
        "stageTimestamp": "2026-11-21T04:15:56.715875Z"})
}

/// Whether the rule is true of a `get` by eve, a `get` by ci and a `watch` by eve.
fn holds(more: &str) -> [bool; 3] {
    let loaded = load(more);
    assert!(!loaded.has_errors(), "{more}: {:?}", loaded.findings);
    let rule = &loaded.rules.rules[0];
    [("get", "eve"), ("get", "ci"), ("watch", "eve")].map(|(verb, user)| rule_holds(rule, &event(verb, user)))
}

#[test]
fn lists_macros_and_rules_are_put_together() {
    let loaded = load("");
    let rule = &loaded.rules.rules[0];
    assert_eq!((rule.info.id.as_str(), rule.info.level.as_str()), ("R", "medium"));
    assert_eq!(rule.info.tags, ["k8s"]);
    let said = rule.output.as_ref().map(|output| output.render(&event("get", "eve"), |_, value, _| value.clone()));
    assert_eq!(said.as_deref(), Some("by eve"));
    assert_eq!(holds(""), [true, false, false]);
}

#[test]
fn later_items_change_earlier_ones() {
    let append = "append: true";
    for (more, expected) in [
        (format!("- list: users\n  items: [eve]\n  {append}\n"), [false, false, false]),
        ("- list: users\n  items: [eve]\n".to_owned(), [false, true, false]),
        ("- list: users\n  items: [eve]\n  override: {items: append}\n".to_owned(), [false, false, false]),
        ("- list: more\n  items: [eve]\n- list: users\n  items: [more]\n".to_owned(), [false, true, false]),
        (format!("- macro: reads\n  condition: or ka.verb=watch\n  {append}\n"), [true, false, true]),
        ("- macro: reads\n  condition: ka.verb=watch\n".to_owned(), [false, false, true]),
        (format!("- rule: R\n  condition: and ka.verb=list\n  {append}\n"), [false, false, false]),
        ("- rule: R\n  condition: ka.verb=watch\n  override: {condition: replace}\n".to_owned(), [false, false, true]),
    ] {
        assert_eq!(holds(&more), expected, "{more}");
    }
    let replaced = load("- rule: R\n  priority: error\n  output: x\n  override: {priority: replace, output: append}\n");
    let rule = &replaced.rules.rules[0];
    assert_eq!(rule.info.level.as_str(), "high");
    let said = rule.output.as_ref().map(|output| output.render(&event("get", "eve"), |_, value, _| value.clone()));
    assert_eq!(said.as_deref(), Some("by eve x"));
}

#[test]
fn rules_are_switched_off_and_on() {
    let off = "- rule: R\n  enabled: false\n";
    assert!(load(off).rules.rules.is_empty());
    assert_eq!(
        load(&format!("{off}- rule: R\n  enabled: true\n  override: {{enabled: replace}}\n")).rules.rules.len(),
        1
    );
    let syscall = "- rule: S\n  desc: d\n  condition: evt.type=open\n  output: x\n  priority: INFO\n";
    let loaded = load(syscall);
    assert_eq!((loaded.rules.rules.len(), loaded.rules.skipped.len(), loaded.findings.len()), (1, 1, 0));
}

#[test]
fn exceptions_let_through() {
    let change = |exceptions: &str| format!("- rule: R\n  exceptions: [{exceptions}]\n  append: true\n");
    for (exception, expected) in [
        ("{name: e, fields: [ka.user.name, ka.verb], values: [[eve, get]]}", [false, false, false]),
        ("{name: e, fields: [ka.user.name, ka.verb], values: [[eve, list]]}", [true, false, false]),
        ("{name: e, fields: ka.user.name, values: [eve, bob]}", [false, false, false]),
        (
            "{name: e, fields: [ka.user.name, ka.verb], comps: [startswith, in], values: [[ev, [get]]]}",
            [false, false, false],
        ),
        ("{name: e, fields: [ka.user.name], comps: [in], values: [['(eve, bob)']]}", [false, false, false]),
        ("{name: e, fields: [ka.user.name]}", [true, false, false]),
    ] {
        assert_eq!(holds(&change(exception)), expected, "{exception}");
    }
    let later = format!("{}{}", change("{name: e, fields: [ka.user.name]}"), change("{name: e, values: [[eve]]}"));
    assert_eq!(holds(&later), [false, false, false]);
}

#[test]
fn mistakes_have_their_places() {
    let rule = |condition: &str| {
        format!(
            "- rule: X\n  desc: d\n  condition: >\n    {condition}\n  output: x\n  priority: INFO\n  source: k8s_audit\n"
        )
    };
    for (more, expected) in [
        (
            rule("reads and\n    ka.vreb=get"),
            "f.yaml:17:5: audit events have no field `ka.vreb` (did you mean `ka.verb`?)",
        ),
        (rule("reads and\n    wirtes"), "f.yaml:17:5: there is no macro `wirtes`"),
        (
            rule("ka.user.groups = x"),
            "f.yaml:16:5: `ka.user.groups` is a list: ask it with `in`, `intersects` or `exists`, not `=`",
        ),
        (rule("ka.user.name = users"), "f.yaml:16:20: `users` is a list: compare with `in (users)`"),
        (rule("ka.user.name regex \"(\""), "f.yaml:16:24: the regular expression is wrong: unclosed group"),
        (rule("ka.user.name glob \"!(a)\""), "f.yaml:16:23: `!(…)` is not supported"),
        (
            rule("jevt.rawtime contains 1"),
            "f.yaml:16:27: `jevt.rawtime` is a number: it cannot be compared with `contains`",
        ),
        (rule("join(ka.user.groups) = a"), "f.yaml:16:5: `join` is written so: join(separator, list)"),
        (
            "- macro: m\n  condition: a b\n".to_owned(),
            "f.yaml:14:16: expected `and`, `or` or the end of the condition, not `b`",
        ),
        ("- macro: m\n  condition: m\n".to_owned() + &rule("m"), "f.yaml:14:14: the macro `m` is made of itself"),
        ("- list: l\n  items: [l]\n".to_owned(), "f.yaml:14:11: the list `l` is made of itself"),
        (
            "- rule: Q\n  enabled: false\n".to_owned(),
            "f.yaml:13:9: there is no rule `Q` before this that could be changed (did you mean `R`?)",
        ),
        (
            "- rule: R\n  condition: and reads\n  tags: [x]\n  override: {condition: append}\n".to_owned(),
            "f.yaml:15:3: `override` does not say what becomes of `tags`",
        ),
        (
            "- rule: R\n  priority: info\n  override: {priority: append}\n".to_owned(),
            "f.yaml:15:24: `priority` can be replaced, not appended to",
        ),
        (
            rule("reads").replace("INFO", "URGENT"),
            "f.yaml:18:13: `URGENT` is no priority; the priorities are emergency, alert, critical, error, warning, notice, informational, info, debug",
        ),
        (
            rule("reads").replace("output: x", "output: x %ka.vreb"),
            "f.yaml:17:14: audit events have no field `ka.vreb` (did you mean `ka.verb`?)",
        ),
        (
            "- rule: R\n  exceptions: [{name: e, fields: [ka.verb], values: [[a, b]]}]\n  append: true\n".to_owned(),
            "f.yaml:14:23: the exception `e` has 1 fields: a value for each",
        ),
        (
            "- rule: R\n  exceptions: [{name: f, values: [[a]]}]\n  append: true\n".to_owned(),
            "f.yaml:14:23: the rule has no exception `f` to add values to",
        ),
        ("- thing: x\n".to_owned(), "f.yaml:13:3: an item must be a `rule`, a `macro` or a `list`"),
    ] {
        assert_eq!(findings(&more), [expected], "{more}");
    }
}

#[test]
fn what_append_does_not_change_is_told() {
    let more = "- rule: R\n  append: true\n  condition: and ka.verb=list\n  priority: ERROR\n  tags: [x]\n  output: y\n  enabled: false\n  source: k8s_audit\n";
    let ignored = |line: usize, key: &str| {
        format!("f.yaml:{line}:3: `append: true` does not change `{key}`, so it is ignored: `override` changes it")
    };
    assert_eq!(
        findings(more),
        [ignored(16, "priority"), ignored(17, "tags"), ignored(18, "output"), ignored(19, "enabled")]
    );
    let rule = &load(more).rules.rules[0];
    assert_eq!((rule.info.level.as_str(), rule.info.tags.as_slice()), ("medium", ["k8s".to_owned()].as_slice()));
    assert_eq!(holds(more), [false, false, false], "the condition is appended");
    for (more, expected) in [
        (
            "- rule: R\n  append: true\n  tags: [x]\n",
            "f.yaml:14:11: `append: true` needs a `condition` or `exceptions` to append",
        ),
        (
            "- rule: R\n  append: true\n  condition: and ka.verb=list\n  source: syscall\n",
            "f.yaml:16:11: the rule `R` is for `k8s_audit`: a change keeps its source",
        ),
    ] {
        assert!(findings(more).contains(&expected.to_owned()), "{more}: {:?}", findings(more));
        assert!(load(more).rules.rules.is_empty());
    }
    let optional = "- rule: R\n  condition: and ka.foo = a\n  skip-if-unknown-filter: true\n  source: k8s_audit\n  override: {condition: append, skip-if-unknown-filter: replace}\n";
    assert!(!load(optional).has_errors(), "{:?}", findings(optional));
}

#[test]
fn changes_that_would_lose_a_rule_or_its_exceptions_are_refused() {
    let rule = "- rule: X\n  desc: d\n  condition: ka.verb = get\n  output: o\n  priority: INFO\n  source: k8s_audit\n";
    let excepted = format!("{rule}  exceptions:\n    - name: e\n      fields: [ka.user.name]\n      values: [[ci]]\n");
    for (more, message) in [
        (
            format!("{rule}- rule: X\n  condition: and ka.user.name = x\n"),
            "the rule `X` stands here again without `source: k8s_audit`, and would be gone; `override` or `append: true` changes it",
        ),
        (
            format!(
                "{excepted}- rule: X\n  append: true\n  exceptions:\n    - name: e\n      fields: [ka.verb]\n      values: [[a]]\n"
            ),
            "the rule has the exception `e` already: only `values` can be added to it",
        ),
        (
            excepted.replace("fields:", "feilds:"),
            "an exception has no key `feilds`; it has name, fields, comps, values",
        ),
        (excepted.replace("[[ci]]", "ci"), "the `values` of the exception `e` must be a list"),
        (
            excepted.replace("priority: INFO", "priority: INFO\n  enabled: maybe"),
            "`enabled` is true or false, not text",
        ),
        (rule.replace("k8s_audit", "k8saudit"), "this is for another source (`k8s_audit` is ours), so it is skipped"),
    ] {
        assert!(findings(&more).iter().any(|found| found.ends_with(message)), "{more}: {:?}", findings(&more));
    }
    let optional = rule.replace("ka.verb = get", "ka.foo = a").replace("INFO", "INFO\n  skip-if-unknown-filter: true");
    let loaded = load(&optional);
    assert!(!loaded.has_errors() && loaded.findings.len() == 1 && loaded.rules.rules.len() == 1);
    let two = rule.replace("ka.verb = get", "ka.foo = a and ka.bar = b").replace("INFO", "INFOO");
    assert_eq!(findings(&two).len(), 3, "every mistake at once: {:?}", findings(&two));
    assert!(load(&rule.replace("INFO", "INFO\n  enabled: no")).rules.rules.iter().all(|rule| rule.info.id != "X"));
    assert_eq!(holds("- list: users\n  items: [eve]\n  append: yes\n"), [false, false, false]);
}

#[test]
fn macros_and_lists_cannot_blow_up() {
    let rule = |condition: &str| {
        format!("- rule: X\n  desc: d\n  condition: {condition}\n  output: o\n  priority: INFO\n  source: k8s_audit\n")
    };
    let chain = |of: &str, what: &str, times: usize| -> String {
        let each = |n: usize| format!("- {of}: n{n}\n  {what}\n").replace("BEFORE", &format!("n{}", n.max(1) - 1));
        (1..times).map(each).collect()
    };
    let first = "- macro: n0\n  condition: ka.verb=get\n";
    let words: Vec<String> = (0..1_000).map(|n| format!("a{n}")).collect();
    let words = words.join(", ");
    for (more, message) in [
        (first.to_owned() + &chain("macro", "condition: BEFORE or BEFORE", 60) + &rule("n59"), "too large"),
        (
            first.to_owned() + &chain("macro", "condition: BEFORE", 20_000) + &rule("n19999"),
            "macros are nested too deep",
        ),
        (chain("list", "items: [x, BEFORE]", 20_000) + &rule("ka.verb in (n19999)"), "lists are nested too deep"),
        (rule(&format!("ka.verb = oneof ({words})")), "at most 100 texts"),
        (
            format!("- macro: m\n  condition: ka.verb in ({words})\n") + &rule(&vec!["m"; 1_000].join(" or ")),
            "too large",
        ),
    ] {
        let found = findings(&more);
        assert!(found.iter().any(|finding| finding.contains(message)), "{message}: {:?}", found.first());
    }
    assert!(findings(&rule(&format!("ka.verb = oneof ({})", vec!["a"; 100].join(", ")))).is_empty());
}
