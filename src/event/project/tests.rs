//! The two walks, and the obvious way, side by side.

use std::cell::RefCell;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::super::path::{FieldPath, Found};
use super::super::pruned::pruned;
use super::*;

const PATHS: [&str; 9] = [
    "verb",
    "user",
    "user.username",
    "user.extra.a.b/c",
    "annotations.authorization.k8s.io/decision",
    "requestObject.spec.containers.image",
    "requestObject.spec.containers",
    "requestObject.data.x.y",
    "objectRef.name",
];

/// Compiled and obvious way side by side.
fn both(text: &str) -> (Vec<String>, Vec<String>) {
    let projection = Projection::new(PATHS);
    let mut scratch = Scratch::default();
    scratch.load(&projection, text.as_bytes()).expect("an event");
    let event: serde_json::Value = serde_json::from_str(text).expect("json");
    let mut fast = Vec::new();
    let mut slow = Vec::new();
    for path in PATHS {
        let slot = projection.slot(path).expect("known");
        scratch.demand(&projection, slot, text);
        fast.extend(scratch.values(slot, text).map(|value| format!("{path}={}", show(value))));
        for found in FieldPath::parse(path).expect("a path").resolve(&event) {
            slow.push(match found {
                Found::Container => format!("{path}=container"),
                Found::Scalar(value) => format!("{path}={value}"),
            });
        }
    }
    (fast, slow)
}

fn show(value: Val<'_>) -> String {
    match value {
        Val::Null => "null".to_owned(),
        Val::Bool(b) => b.to_string(),
        Val::Int(n) => n.to_string(),
        Val::Float(n) => number(n).to_string(),
        Val::Str(s) => json!(s).to_string(),
        Val::Container => "container".to_owned(),
    }
}

#[test]
fn agrees_with_the_obvious_way() {
    for event in [
        json!({"verb": "get", "user": {"username": "a", "extra": {"a.b/c": ["x", "y"]}}}),
        json!({"verb": 7, "user": [], "annotations": {"authorization.k8s.io/decision": "allow"}}),
        json!({"requestObject": {"spec": {"containers": [{"image": "a"}, {"image": null}, [{"image": 1.5}]]}}}),
        json!({"requestObject": {"spec.containers": {"image": "literal"}, "data": {"x.y": 1, "x": {"y": 2}}}}),
        json!({"requestObject": {"spec": {"containers": []}}, "objectRef": {"name": "tr\u{fc}gt \"q\" <"}}),
        json!({"user": null, "verb": true}),
    ] {
        let (fast, slow) = both(&event.to_string());
        assert_eq!(fast, slow, "{event}");
        assert!(!slow.is_empty());
    }
}

#[test]
fn escapes_are_undone_in_keys_and_values() {
    let (fast, slow) = both(r#"{"v\u0065rb":"g\u0065t","user":{"usern\u0061me":"\u003ca\u003e"}}"#);
    assert_eq!(fast, slow);
    let mut sorted = fast;
    sorted.sort();
    assert_eq!(sorted, ["user.username=\"<a>\"", "user=container", "verb=\"get\""]);
}

#[test]
fn doubled_keys_are_refused_in_the_envelope_and_the_last_counts_in_bodies() {
    let projection = Projection::new(PATHS);
    let mut scratch = Scratch::default();
    let error = scratch.load(&projection, br#"{"verb":"get","verb":"list"}"#).expect_err("twice");
    assert_eq!(error.reason, Reason::Duplicate);
    let (fast, slow) =
        both(r#"{"requestObject":{"spec":{"containers":[{"image":"a"}],"containers":[{"image":"b"}]}}}"#);
    assert_eq!(fast, slow);
    assert!(fast.contains(&"requestObject.spec.containers.image=\"b\"".to_owned()));
}

#[test]
fn doubled_keys_are_noticed_however_many_paths_there_are() {
    let many: Vec<String> = (0..700).map(|n| format!("a{n}.b{n}")).collect();
    let projection = Projection::new(many.iter().map(String::as_str).chain(PATHS).chain(["zone.of.x"]));
    let mut scratch = Scratch::default();
    for event in [
        r#"{"verb":"get","verb":"list"}"#,
        r#"{"a699":{"b699":1},"a699":{}}"#,
        r#"{"user":{"username":"a","username":"b"}}"#,
        r#"{"zone.of.x":1,"zone.of.x":2}"#,
    ] {
        let error = scratch.load(&projection, event.as_bytes()).expect_err(event);
        assert_eq!(error.reason, Reason::Duplicate, "{event}");
        let error = scratch.load_slowly(&projection, event).expect_err(event);
        assert_eq!(error.reason, Reason::Duplicate, "{event}");
    }
}

#[test]
fn folding_is_done_once_and_covers_every_scalar() {
    let projection = Projection::new(["verb"]);
    let mut scratch = Scratch::default();
    for (event, folded) in [
        (r#"{"verb":"GET"}"#, Some("get")),
        (r#"{"verb":"\u00c4B"}"#, Some("äb")),
        (r#"{"verb":true}"#, Some("true")),
        (r#"{"verb":-7}"#, Some("-7")),
        (r#"{"verb":1.50}"#, Some("1.5")),
        (r#"{"verb":null}"#, None),
    ] {
        scratch.load(&projection, event.as_bytes()).expect("an event");
        let at = scratch.first(projection.slot("verb").expect("known")).expect("there");
        assert_eq!(scratch.folded(at, event), folded);
        assert_eq!(scratch.folded(at, event), folded);
    }
}

#[test]
fn broken_events_say_where() {
    let projection = Projection::new(PATHS);
    let mut scratch = Scratch::default();
    let error = scratch.load(&projection, br#"{"verb":}"#).expect_err("broken");
    assert_eq!(error, ProjectError { reason: Reason::Syntax, detail: "expected value at line 1 column 9".to_owned() });
    assert_eq!(scratch.load(&projection, b"{\"verb\":\"\xff\"}").expect_err("utf8").detail, "not valid UTF-8");
    assert_eq!(scratch.load(&projection, b"[]").expect_err("no object").reason, Reason::Shape);
}

/// Everything that a scratch holds of an event.
fn dump(projection: &Projection, scratch: &Scratch, event: &str) -> Vec<String> {
    let slots = PATHS.iter().filter_map(|path| Some((path, projection.slot(path)?)));
    slots
        .flat_map(|(path, slot)| scratch.values(slot, event).map(move |value| format!("{path}={}", show(value))))
        .collect()
}

/// The twin's view; `None` if it refuses the event.
fn by_twin(projection: &Projection, event: &str) -> Option<Vec<String>> {
    let mut scratch = Scratch::default();
    scratch.load_slowly(projection, event).ok()?;
    for (number, node) in projection.section_nodes.iter().enumerate() {
        if let (Section::Raw(start, end), Some(node)) = (scratch.sections[number], node) {
            scratch.section_slowly(projection, number, *node, &event[start as usize..end as usize]);
        }
    }
    Some(dump(projection, &scratch, event))
}

thread_local! {
    /// A scratch that has seen every event of its thread before.
    static USED: RefCell<Scratch> = RefCell::default();
}

/// The fast walk's view; `None` if it gives up on the envelope. What was learned about events before changes nothing.
fn by_scan(projection: &Projection, event: &str) -> Option<Vec<String>> {
    let fresh = by_scan_with(projection, event, &mut Scratch::default());
    let used = USED.with_borrow_mut(|scratch| by_scan_with(projection, event, scratch));
    assert_eq!(fresh, used, "{event}");
    fresh
}

fn by_scan_with(projection: &Projection, event: &str, scratch: &mut Scratch) -> Option<Vec<String>> {
    let end = scratch.load_first(projection, event.as_bytes())?;
    assert!(event.is_char_boundary(end));
    if !event[end..].trim().is_empty() {
        return None;
    }
    for path in PATHS {
        scratch.demand(projection, projection.slot(path)?, event);
    }
    (!scratch.broken).then(|| dump(projection, scratch, event))
}

/// Events that have the keys of the paths in all sorts of places, and others.
fn events() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1e9..1e9).prop_map(serde_json::Value::from),
        "[a<\\\\\"\u{0}\u{1f}ü𐍈]{0,20}".prop_map(Into::into),
    ];
    let key = prop::sample::select(vec![
        "verb",
        "user",
        "username",
        "extra",
        "a",
        "b/c",
        "a.b/c",
        "annotations",
        "authorization.k8s.io/decision",
        "requestObject",
        "spec",
        "containers",
        "image",
        "spec.containers",
        "data",
        "x.y",
        "x",
        "y",
        "objectRef",
        "name",
        "",
        "other",
        "\"",
        "ü",
    ]);
    let inner = leaf.prop_recursive(6, 80, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|members| {
                serde_json::Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    });
    let top = prop::sample::select(vec!["verb", "user", "annotations", "requestObject", "objectRef", "other", ""]);
    prop::collection::vec((top, inner), 0..8).prop_map(|members| {
        serde_json::Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    })
}

/// Writes some characters as escapes, as Go does with `<`, and as an attacker might with any.
fn escaped(text: &str, every: usize) -> String {
    let mut out = String::new();
    let mut inside = false;
    let mut before = ' ';
    for (number, c) in text.chars().enumerate() {
        inside ^= c == '"' && before != '\\';
        if inside && before != '\\' && c.is_ascii_alphanumeric() && number % every == 0 {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
        before = if before == '\\' && c == '\\' { ' ' } else { c };
    }
    out
}

/// One for all cases, so that the used scratch goes on with what it learned.
static PROJECTION: LazyLock<Projection> = LazyLock::new(|| Projection::new(PATHS));

/// What each of [`PATHS`] yields in an event that is read as a whole.
fn parsed(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok().map(|event| each_path(&event))
}

fn each_path(event: &serde_json::Value) -> Vec<String> {
    let paths = PATHS.iter().map(|path| FieldPath::parse(path).expect("a path"));
    paths.map(|path| format!("{:?}", path.resolve(event))).collect()
}

/// The same of what is read for alerts.
fn in_pruned(text: &str) -> Option<Vec<String>> {
    pruned(text, &PROJECTION).map(|event| each_path(&event))
}

proptest! {
    #[test]
    fn both_walks_see_the_same(event in events(), pretty: bool, every in 1_usize..40) {
        let projection = &*PROJECTION;
        let text = if pretty { serde_json::to_string_pretty(&event) } else { serde_json::to_string(&event) };
        let text = text.expect("json");
        prop_assert_eq!(by_scan(projection, &text), by_twin(projection, &text));
        prop_assert!(by_scan(projection, &text).is_some());
        prop_assert_eq!(in_pruned(&text), parsed(&text));
        let text = escaped(&text, every);
        if let Some(whole) = parsed(&text) {
            prop_assert_eq!(by_scan(projection, &text), by_twin(projection, &text));
            prop_assert_eq!(in_pruned(&text), Some(whole));
        }
    }

    #[test]
    fn what_is_broken_is_not_read_otherwise(event in events(), at: prop::sample::Index, byte in prop::sample::select(b"\"\\{}[],:0 au\n".to_vec())) {
        let projection = &*PROJECTION;
        let whole = event.to_string();
        let mut text = whole.clone().into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let Ok(text) = String::from_utf8(text) else { return Ok(()) };
        if let (Some(pruned), Some(whole)) = (in_pruned(&text), parsed(&text)) {
            prop_assert_eq!(pruned, whole);
        }
        let (scan, twin) = (by_scan(projection, &text), by_twin(projection, &text));
        // Where the fast walk gives up, the twin decides; where both read it, they read the same. Only what is broken
        // where nobody looks is read by one alone.
        if let (Some(scan), Some(twin)) = (&scan, &twin) {
            prop_assert_eq!(scan, twin);
        }
        if scan.is_some() && twin.is_none() {
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err());
        }
        for cut in (0..whole.len()).filter(|cut| whole.is_char_boundary(*cut)) {
            prop_assert_eq!(by_scan(projection, &whole[..cut]), None);
        }
    }
}

#[test]
fn both_walks_see_the_same_of_recorded_events() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/lab/scenarios-full.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no recorded events beside the project");
        return;
    };
    let projection = &*PROJECTION;
    for line in text.lines() {
        let Some((_, event)) = line.split_once("\"event\":") else { continue };
        let event = event.trim().strip_suffix('}').expect("an object around the event");
        let scan = by_scan(projection, event);
        assert!(scan.is_some(), "{event}");
        assert_eq!(scan, by_twin(projection, event));
    }
}

#[test]
fn escapes_are_undone_as_the_parser_does() {
    for raw in [
        r#"a\"\\\/\b\f\n\r\tz"#,
        r"\u0041\u00fc\u20ac",
        r"\ud800\udf48",
        r"\ud83d\ude00x",
        r"\u0000",
        r"\ud800",
        r"\udc00",
        r"\ud800\u0041",
        r"\ud800x",
        r"\u12",
        r"\u+123",
        r"\x",
        r"\",
    ] {
        let mut ours = String::new();
        let ours = unescape(raw.as_bytes(), &mut ours).map(|()| ours);
        assert_eq!(ours, serde_json::from_str::<String>(&format!("\"{raw}\"")).ok(), "{raw}");
    }
}
