//! Why a rule is or is not true of an event, in words: the judge's answers, predicate by predicate.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::field::{Field, Got};
use super::ir::{Expr, Glob, Op, Ordering, Quantifier, Regex, Relation, Rule, STAGES_DECIDED, Test, Text};
use super::naive;
use crate::event::FieldPath;
use crate::event::project::fold;

/// How a value of an event may be shown: field, value, event. Explanations leave the machine, secrets must not.
pub type Show = fn(&Field, &Value, &Value) -> Value;

/// Texts of a list that one line names.
const TEXTS_MAX: usize = 8;

/// Tests of a list that are told in full; of longer ones the first are.
const LINE_MAX: usize = 60;

/// Values that one line names.
const VALUES_MAX: usize = 4;

/// Where an event holds what clients wrote.
const BODIES: [&str; 3] = ["requestObject", "responseObject", "annotations"];

/// What there is to say about one rule and one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether the rule is true of the event.
    pub holds: bool,
    /// Why the rule was not asked at all, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_asked: Option<String>,
    /// The rule's expression with its answers.
    pub node: Node,
}

/// A part of an expression and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Whether it is true of the event.
    pub holds: bool,
    /// What is asked, and for a predicate what was found.
    pub text: String,
    /// What it is made of; a predicate has no parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Self>,
}

/// Explains one rule and one event.
#[must_use]
pub fn explain(rule: &Rule, event: &Value, show: Show) -> Explanation {
    let stage = event.get("stage").and_then(Value::as_str).unwrap_or_default();
    let decided = STAGES_DECIDED.contains(&fold(stage).as_str());
    let not_asked = (!rule.names_stage && !decided).then(|| {
        format!(
            "not asked: nothing is decided at the stage {}, and the rule does not name `stage` itself",
            quoted(&stage.into())
        )
    });
    Explanation { holds: naive::rule_holds(rule, event), not_asked, node: node(&rule.expr, event, show) }
}

impl Explanation {
    /// Why the rule is not true, in one line; `None` if it is.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        if self.holds {
            return None;
        }
        Some(self.not_asked.clone().unwrap_or_else(|| self.node.first_false()))
    }
}

impl Node {
    /// The first predicate that had to be otherwise.
    fn first_false(&self) -> String {
        match self.parts.iter().find(|part| !part.holds) {
            Some(part) => part.first_false(),
            None => match self.parts.first() {
                // Only `not` is false although no part of it is.
                Some(part) => format!("not wanted: {}", part.first_true()),
                None => self.text.clone(),
            },
        }
    }

    fn first_true(&self) -> String {
        self.parts.iter().find(|part| part.holds).map_or_else(|| self.text.clone(), Self::first_true)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        let mark = if self.holds { '✓' } else { '✗' };
        writeln!(f, "{:width$}{mark} {}", "", self.text, width = depth * 2)?;
        self.parts.iter().try_for_each(|part| part.write(f, depth + 1))
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.not_asked {
            writeln!(f, "✗ {why}")?;
        }
        self.node.write(f, 0)
    }
}

fn node(expr: &Expr, event: &Value, show: Show) -> Node {
    let holds = naive::holds(expr, event);
    let nodes = |parts: &[Expr]| parts.iter().map(|part| node(part, event, show)).collect();
    match expr {
        Expr::All(parts) | Expr::Any(parts) if parts.len() == 1 => node(&parts[0], event, show),
        Expr::All(parts) => match one_field(parts) {
            Some(tests) => Node { holds, text: line(&tests, " and ", event, show), parts: Vec::new() },
            None => Node { holds, text: "all of:".to_owned(), parts: nodes(parts) },
        },
        Expr::Any(parts) => match one_field(parts) {
            Some(tests) => Node { holds, text: line(&tests, " or ", event, show), parts: Vec::new() },
            None => Node { holds, text: "any of:".to_owned(), parts: nodes(parts) },
        },
        Expr::Not(part) => match &**part {
            Expr::Test(Test { field, op: Op::Exists, .. }) => {
                let text = format!("{field} does not exist: {}", found(field, event, show));
                Node { holds, text, parts: Vec::new() }
            }
            part => Node { holds, text: "not:".to_owned(), parts: vec![node(part, event, show)] },
        },
        Expr::Test(test) => Node { holds, text: line(&[test], "", event, show), parts: Vec::new() },
    }
}

/// The tests of a list, if all of them ask about the same field: those are told in one line.
fn one_field(parts: &[Expr]) -> Option<Vec<&Test>> {
    let mut tests: Vec<&Test> = Vec::new();
    for part in parts {
        let Expr::Test(test) = part else { return None };
        if tests.first().is_some_and(|first| first.field != test.field || first.of != test.of) {
            return None;
        }
        tests.push(test);
    }
    (!tests.is_empty()).then_some(tests)
}

/// `objectRef.resource is "secrets": it is "pods"`.
fn line(tests: &[&Test], between: &str, event: &Value, show: Show) -> String {
    let Some(first) = tests.first() else { return String::new() };
    let mut questions = String::new();
    let mut before = String::new();
    let shown = if tests.len() > LINE_MAX { TEXTS_MAX } else { tests.len() };
    for (number, test) in tests.iter().take(shown).enumerate() {
        let (verb, rest) = question(&test.op);
        questions.push_str(if number == 0 { " " } else { between });
        // "is "get" or "list"" reads better than a verb for each.
        if verb != before {
            questions.push_str(&verb);
            questions.push_str(if rest.is_empty() { "" } else { " " });
        }
        questions.push_str(&rest);
        before = verb;
    }
    if shown < tests.len() {
        questions.push_str(&format!("{between}{} more", tests.len() - shown));
    }
    let every = if first.of == Quantifier::Every { "every " } else { "" };
    let found =
        if first.field == Field::Anything { anywhere(tests, event, show) } else { found(&first.field, event, show) };
    let mut text = format!("{every}{}{questions}: {found}", first.field);
    for test in tests {
        if let Op::Field { other, .. } = &test.op {
            text.push_str(&format!("; {other}: {}", self::found(other, event, show)));
        }
    }
    text
}

/// The question in words.
#[must_use]
pub fn asked(op: &Op) -> String {
    let (verb, rest) = question(op);
    format!("{verb} {rest}").trim_end().to_owned()
}

/// The question in words: how it compares, and with what.
fn question(op: &Op) -> (String, String) {
    let case = |cased: bool| if cased { " (case matters)" } else { "" };
    let (verb, rest) = match op {
        Op::Exists => ("exists", String::new()),
        Op::Null => ("is null or missing", String::new()),
        Op::Text { pattern: Text::Plain(Relation::Contains, text), .. } if text.is_empty() => {
            ("has any value", String::new())
        }
        Op::Text { pattern: Text::Plain(how, text), cased } => {
            (relation(*how), format!("{}{}", quoted(&text.as_str().into()), case(*cased)))
        }
        Op::Text { pattern: Text::Glob(pieces), cased } => {
            ("looks like", format!("{}{}", quoted(&pieces.iter().map(piece).collect::<String>().into()), case(*cased)))
        }
        Op::OneOf { texts, cased } => ("is", one_of(texts, *cased)),
        Op::Number(number) => ("is", number.to_string()),
        Op::Compare(ordering, bound) => (compared(*ordering), bound.to_string()),
        Op::Regex(Regex(regex)) => ("matches the regular expression", format!("/{}/", regex.as_str())),
        Op::Time(part, ordering, bound) => {
            ("is a time", format!("of which the {} (UTC) {} {bound}", part.as_str(), compared(*ordering)))
        }
        Op::Cidr(network) => ("is an address in", network.to_string()),
        Op::Field { other, how, cased } => (relation(*how), format!("the value of {other}{}", case(*cased))),
    };
    (verb.to_owned(), rest)
}

/// `"a" or "b"`; of long lists the first.
fn one_of(texts: &[String], cased: bool) -> String {
    let shown: Vec<String> = texts.iter().take(TEXTS_MAX).map(|text| quoted(&text.as_str().into())).collect();
    let case = if cased { " (case matters)" } else { "" };
    match texts.len() {
        0 => "one of none".to_owned(),
        len if len > TEXTS_MAX => format!("{} or one of {} more{case}", shown.join(", "), len - TEXTS_MAX),
        _ => format!("{}{case}", shown.join(" or ")),
    }
}

fn relation(how: Relation) -> &'static str {
    match how {
        Relation::Is => "is",
        Relation::Contains => "contains",
        Relation::StartsWith => "starts with",
        Relation::EndsWith => "ends with",
    }
}

fn compared(ordering: Ordering) -> &'static str {
    match ordering {
        Ordering::Lt => "is less than",
        Ordering::Lte => "is at most",
        Ordering::Gt => "is more than",
        Ordering::Gte => "is at least",
        Ordering::Eq => "is",
        Ordering::Neq => "is not",
    }
}

fn piece(piece: &Glob) -> String {
    match piece {
        Glob::Literal(text) => text.replace('\\', "\\\\").replace('*', "\\*").replace('?', "\\?"),
        Glob::Many => "*".to_owned(),
        Glob::One => "?".to_owned(),
    }
}

/// What the event has in a field, in words.
fn found(field: &Field, event: &Value, show: Show) -> String {
    let all = field.resolve(event);
    let scalars: Vec<&Value> = all
        .iter()
        .filter_map(|found| match found {
            Got::Scalar(value) => Some(&**value),
            Got::Container => None,
        })
        .collect();
    let shown: Vec<String> = scalars.iter().take(VALUES_MAX).map(|value| quoted(&show(field, value, event))).collect();
    let more = scalars.len().saturating_sub(VALUES_MAX);
    match (all.len(), scalars.len()) {
        (0, _) => "the event has no such field".to_owned(),
        (_, 0) => "it is there, but is no single value".to_owned(),
        (_, 1) => format!("it is {}", shown[0]),
        _ if more > 0 => format!("its values are {} and {more} more", shown.join(", ")),
        _ => format!("its values are {}", shown.join(", ")),
    }
}

/// Where in the event keywords were found. Of what is in a body only the place is told: it may be a secret.
fn anywhere(tests: &[&Test], event: &Value, show: Show) -> String {
    let mut scalars = Vec::new();
    collect(event, &mut String::new(), &mut scalars);
    let hits: Vec<String> = scalars
        .iter()
        .filter(|(_, value)| tests.iter().any(|test| naive::test_holds(test, value)))
        .map(|(path, value)| {
            let place = quoted(&path.as_str().into());
            let place = place.trim_matches('"');
            let in_body = BODIES.iter().any(|body| path.starts_with(body));
            match FieldPath::parse(path) {
                Ok(field) if !in_body => format!("{place} is {}", quoted(&show(&field.into(), value, event))),
                _ => format!("{place} is so"),
            }
        })
        .collect();
    match hits.len() {
        0 => format!("none of the event's {} values is so", scalars.len()),
        len if len > VALUES_MAX => format!("{} and {} more", hits[..VALUES_MAX].join(", "), len - VALUES_MAX),
        _ => hits.join(", "),
    }
}

/// Every scalar with the path to it.
fn collect<'e>(value: &'e Value, path: &mut String, scalars: &mut Vec<(String, &'e Value)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let len = path.len();
                path.push_str(if path.is_empty() { "" } else { "." });
                path.push_str(key);
                collect(value, path, scalars);
                path.truncate(len);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, path, scalars)),
        scalar => scalars.push((path.clone(), scalar)),
    }
}

/// A value as JSON in which nothing can move a terminal's cursor or turn its text around.
#[must_use]
pub fn quoted(value: &Value) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::rule::load::load_text;

    fn rule(detection: &str) -> Rule {
        let text = format!("title: T\nlogsource: {{product: kubernetes}}\ndetection:\n{detection}");
        let mut loaded = load_text(Path::new("rule.yml"), &text);
        assert!(!loaded.has_errors(), "{:?}", loaded.findings);
        loaded.rules.rules.remove(0)
    }

    fn plain(_: &Field, value: &Value, _: &Value) -> Value {
        value.clone()
    }

    fn event() -> Value {
        json!({"verb": "create", "stage": "ResponseComplete", "objectRef": {"resource": "pods"},
            "user": {"groups": ["a", "b"]}, "responseStatus": {"code": 403}})
    }

    #[test]
    fn the_tree_says_for_each_predicate_what_was_found() {
        let rule = rule(concat!(
            "  sel:\n    objectRef.resource: secrets\n    verb: [get, create]\n    user.username|endswith: x\n",
            "  out:\n    responseStatus.code|gte: 400\n    user.groups|contains: B\n  condition: sel and not out\n",
        ));
        let explained = explain(&rule, &event(), plain);
        let lines = [
            "✗ all of:",
            "  ✗ all of:",
            "    ✗ objectRef.resource is \"secrets\": it is \"pods\"",
            "    ✓ verb is \"get\" or \"create\": it is \"create\"",
            "    ✗ user.username ends with \"x\": the event has no such field",
            "  ✗ not:",
            "    ✓ all of:",
            "      ✓ responseStatus.code is at least 400: it is 403",
            "      ✓ user.groups contains \"b\": its values are \"a\", \"b\"",
        ];
        assert_eq!(explained.to_string().lines().collect::<Vec<_>>(), lines);
        assert_eq!(explained.reason().as_deref(), Some("objectRef.resource is \"secrets\": it is \"pods\""));
    }

    #[test]
    fn every_question_has_words() {
        for (item, line) in [
            ("verb: 'c*te'", "✓ verb looks like \"c*te\": it is \"create\""),
            ("verb|cased: Create", "✗ verb is \"Create\" (case matters): it is \"create\""),
            ("verb|re: ^c", "✓ verb matches the regular expression /^c/: it is \"create\""),
            ("sourceIPs|cidr: 10.0.0.0/8", "✗ sourceIPs is an address in 10.0.0.0/8: the event has no such field"),
            ("user.username: null", "✓ user.username is null or missing: the event has no such field"),
            ("user|exists: true", "✓ user exists: it is there, but is no single value"),
            ("user|exists: false", "✗ user does not exist: it is there, but is no single value"),
            ("responseStatus.code: 403", "✓ responseStatus.code is 403: it is 403"),
            ("verb: '*'", "✓ verb has any value: it is \"create\""),
            (
                "verb|fieldref: stage",
                "✗ verb is the value of stage: it is \"create\"; stage: it is \"ResponseComplete\"",
            ),
        ] {
            let rule = rule(&format!("  sel:\n    {item}\n  condition: sel\n"));
            assert_eq!(explain(&rule, &event(), plain).to_string().trim_end(), line);
        }
    }

    #[test]
    fn of_very_long_lists_the_first_are_named() {
        let rule = rule("  sel:\n    user.username|expand: '%system_accounts%'\n  condition: sel\n");
        let line = explain(&rule, &event(), plain).to_string();
        assert!(line.contains(":bootstrap-signer\" or ") && line.contains(" more: "), "{line}");
        assert!(!line.contains(":coredns") && line.len() < 700, "{line}");
    }

    /// A rule's lines about an event that has something for every kind of question.
    fn lines(rule: &Rule) -> Vec<String> {
        let event = json!({
            "verb": "create", "stage": "ResponseComplete", "stageTimestamp": "2026-11-21T04:15:56Z", "userAgent": "TruffleHog/3",
            "user": {"username": "Bob", "groups": ["a", "b"]}, "objectRef": {"name": "B"}, "sourceIPs": ["10.0.0.1", "::1"],
            "requestURI": "/api?a=b", "annotations": {"k": "secret key"},
            "requestObject": {"spec": {"containers": [{"image": "evil:1"}, {"image": "nginx:2"}]}},
        });
        explain(rule, &event, plain).to_string().lines().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn keywords_say_where_they_were_found() {
        for (keywords, expected) in [
            ("[trufflehog, nope]", "✓ any field contains \"trufflehog\" or \"nope\": userAgent is \"TruffleHog/3\""),
            ("['se?ret*']", "✓ any field looks like \"*se?ret**\": annotations.k is so"),
            ("[nope]", "✗ any field contains \"nope\": none of the event's 14 values is so"),
            (
                "{'|re': '^evil'}",
                "✓ any field matches the regular expression /^evil/: requestObject.spec.containers.image is so",
            ),
        ] {
            let rule = rule(&format!("  k: {keywords}\n  condition: k\n"));
            assert_eq!(lines(&rule), [expected.replace("**", "*")]);
        }
    }

    #[test]
    fn every_sigma_question_shows_both_sides() {
        for (item, expected) in [
            (
                "user.username|fieldref|startswith: objectRef.name",
                "✓ user.username starts with the value of objectRef.name: it is \"Bob\"; objectRef.name: it is \"B\"",
            ),
            (
                "sourceIPs[-1]|cidr: [10.0.0.0/8, 'fd00::/8']",
                "✗ sourceIPs[-1] is an address in 10.0.0.0/8 or fd00::/8: it is \"::1\"",
            ),
            (
                "stageTimestamp|hour|gte: 22",
                "✗ stageTimestamp is a time of which the hour (UTC) is at least 22: it is \"2026-11-21T04:15:56Z\"",
            ),
            (
                "requestObject.spec.containers.image|contains|all: [v, x]",
                "✓ requestObject.spec.containers.image contains \"v\" and \"x\": its values are \"evil:1\", \"nginx:2\"",
            ),
            ("verb|re|i: ^C", "✓ verb matches the regular expression /(?i)^C/: it is \"create\""),
        ] {
            assert_eq!(lines(&rule(&format!("  s:\n    {item}\n  condition: s\n"))), [expected]);
        }
    }

    #[test]
    fn every_falco_question_shows_both_sides() {
        const WITH: &str = "- list: trusted\n  items: [nginx]\n- rule: R\n  desc: d\n  output: o\n  priority: INFO\n  source: k8s_audit\n";
        for (condition, expected) in [
            ("ka.verb = create", "✓ verb is \"create\" (case matters): it is \"create\""),
            (
                "ka.req.pod.containers.image.repository in (trusted)",
                "✗ every ka.req.pod.containers.image.repository is \"nginx\" (case matters): its values are \"evil\", \"nginx\"",
            ),
            ("tolower(ka.user.name) = bob", "✓ tolower(ka.user.name) is \"bob\" (case matters): it is \"bob\""),
            ("len(ka.user.groups) > 1", "✓ len(ka.user.groups) is more than 1: it is 2"),
            ("ka.uri.param[a] startswith b", "✓ ka.uri.param[a] starts with \"b\" (case matters): it is \"b\""),
            ("ka.sourceips[2] exists", "✗ ka.sourceips[2] exists: the event has no such field"),
            (
                "ka.target.name = val(ka.user.name)",
                "✗ objectRef.name is the value of user.username (case matters): it is \"B\"; user.username: it is \"Bob\"",
            ),
            (
                "ka.user.name startswith anyof (A, B)",
                "✓ user.username starts with \"A\" (case matters) or \"B\" (case matters): it is \"Bob\"",
            ),
            (
                "jevt.value[/requestObject/spec/containers/0/image] glob \"*:1\"",
                "✓ jevt.value[/requestObject/spec/containers/0/image] ends with \":1\" (case matters): it is \"evil:1\"",
            ),
        ] {
            let mut loaded = load_text(Path::new("r.yaml"), &format!("{WITH}  condition: >\n    {condition}\n"));
            assert!(!loaded.has_errors(), "{:?}", loaded.findings);
            assert_eq!(lines(&loaded.rules.rules.remove(0)), [expected], "{condition}");
        }
        let exceptions = "  condition: ka.verb=create\n  exceptions:\n    - {name: e, fields: [ka.user.name, ka.target.name], comps: [startswith, in], values: [[Bo, [B, C]], [x, y]]}\n";
        let mut loaded = load_text(Path::new("r.yaml"), &format!("{WITH}{exceptions}"));
        let told = lines(&loaded.rules.rules.remove(0));
        assert_eq!(told[2], "✗ not:");
        assert!(
            told.contains(&"✓ objectRef.name is \"B\" or \"C\" (case matters): it is \"B\"".to_owned()),
            "{told:?}"
        );
    }

    #[test]
    fn what_was_not_wanted_is_the_reason() {
        let rule =
            rule("  sel: {verb: create}\n  out: {objectRef.resource: [pods, nodes]}\n  condition: sel and not out\n");
        let reason = explain(&rule, &event(), plain).reason();
        let expected = "not wanted: objectRef.resource is \"pods\" or \"nodes\": it is \"pods\"";
        assert_eq!(reason.as_deref(), Some(expected));
    }

    #[test]
    fn an_undecided_stage_is_told() {
        let mut event = event();
        event["stage"] = "RequestReceived".into();
        let explained = explain(&rule("  sel: {verb: create}\n  condition: sel\n"), &event, plain);
        assert!(!explained.holds && explained.node.holds);
        assert!(explained.reason().is_some_and(|reason| reason.contains("at the stage \"RequestReceived\"")));
        assert!(explained.to_string().starts_with("✗ not asked: "));
    }

    #[test]
    fn nothing_in_a_value_reaches_the_terminal_raw() {
        assert_eq!(quoted(&"a\u{1b}[2J\u{202e}\u{9b}".into()), "\"a\\u001b[2J\\u{202e}\\u{9b}\"");
    }
}
