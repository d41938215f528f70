//! Words that random rules and random events have in common, and the generators of both.

use proptest::prelude::*;
use serde_json::{Value, json};

/// The placeholder that random rules may name, and what it stands for.
pub(crate) const PLACEHOLDER: &str = "names";
pub(crate) const PLACEHOLDERS: [&str; 3] = ["get", "A*", "pods"];

/// Texts of rules and of events.
const TEXTS: [&str; 37] = [
    "get",
    "GET",
    "a",
    "ab",
    "A*",
    "?b",
    "*",
    "",
    "403",
    "403.0",
    "true",
    "null",
    "10.0.0.1",
    "10.0.0.2:443",
    "::ffff:10.0.0.3",
    "ä",
    "ÄB",
    "ß",
    "İ",
    "ΑΣ",
    "RequestReceived",
    "test",
    "pods",
    "<x>&",
    r"a\b",
    r"a\*b",
    "a*b",
    "Z2V0",
    "-a",
    "/a/b",
    "1e3",
    "get\nab",
    "2026-01-05T09:00:00Z",
    "%61b",
    "%41+%2B%",
    "%ffa%c3%84",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
];

const FIELDS: [&str; 27] = [
    "verb",
    "stage",
    "cluster",
    "level",
    "user.username",
    "user.groups",
    "user",
    "objectRef.resource",
    "objectRef.subresource",
    "apiGroup",
    "responseStatus.code",
    "sourceIPs",
    "sourceIPs[-1]",
    "sourceIPs[1]",
    "annotations.a.b/c",
    "requestObject",
    "requestObject.a",
    "requestObject.a.b",
    "requestObject.a[0]",
    "requestObject.spec.containers.image",
    "requestObject.spec.hostNetwork",
    "responseObject.a",
    "requestURI",
    "requestURI.decoded",
    "stageTimestamp",
    "hostPath",
    "capabilities",
];

/// What a chain of modifiers compares with.
#[derive(Clone, Copy, Debug)]
enum Takes {
    /// Any scalar, or several texts and numbers.
    Any,
    Texts,
    /// Two texts at least.
    Several,
    /// Texts without wildcards.
    Encoded,
    Bool,
    Regexes,
    Networks,
    Numbers,
    Parts,
    Fields,
    Placeholders,
}

const CHAINS: [(&str, Takes); 62] = [
    ("", Takes::Any),
    ("", Takes::Any),
    ("", Takes::Texts),
    ("", Takes::Texts),
    ("|contains", Takes::Texts),
    ("|startswith", Takes::Texts),
    ("|endswith", Takes::Texts),
    ("|contains", Takes::Numbers),
    ("|cased", Takes::Texts),
    ("|contains|cased", Takes::Texts),
    ("|cased|startswith", Takes::Texts),
    ("|endswith|cased", Takes::Texts),
    ("|neq", Takes::Any),
    ("|neq", Takes::Texts),
    ("|contains|neq", Takes::Texts),
    ("|neq|endswith|cased", Takes::Texts),
    ("|all", Takes::Several),
    ("|contains|all", Takes::Several),
    ("|all|contains|neq", Takes::Several),
    ("|startswith|cased|all", Takes::Several),
    ("|exists", Takes::Bool),
    ("|exists", Takes::Bool),
    ("|exists|neq", Takes::Bool),
    ("|re", Takes::Regexes),
    ("|re|i", Takes::Regexes),
    ("|re|i|m|s", Takes::Regexes),
    ("|re|dotall|neq", Takes::Regexes),
    ("|cidr", Takes::Networks),
    ("|cidr|neq", Takes::Networks),
    ("|lt", Takes::Numbers),
    ("|lte", Takes::Numbers),
    ("|gt", Takes::Numbers),
    ("|gte", Takes::Numbers),
    ("|gte|neq", Takes::Numbers),
    ("|minute", Takes::Parts),
    ("|hour", Takes::Parts),
    ("|hour|gte", Takes::Parts),
    ("|day|lte", Takes::Parts),
    ("|week", Takes::Parts),
    ("|month|neq", Takes::Parts),
    ("|year|gt", Takes::Parts),
    ("|fieldref", Takes::Fields),
    ("|fieldref", Takes::Fields),
    ("|fieldref|contains", Takes::Fields),
    ("|fieldref|startswith|cased", Takes::Fields),
    ("|fieldref|endswith", Takes::Fields),
    ("|fieldref|neq", Takes::Fields),
    ("|fieldref|neq|endswith", Takes::Fields),
    ("|base64", Takes::Encoded),
    ("|base64|contains", Takes::Encoded),
    ("|base64offset|contains", Takes::Encoded),
    ("|wide|base64offset|contains", Takes::Encoded),
    ("|utf16|base64", Takes::Encoded),
    ("|utf16be", Takes::Encoded),
    ("|utf16le|contains", Takes::Encoded),
    ("|windash", Takes::Texts),
    ("|windash|contains", Takes::Texts),
    ("|contains|windash|neq", Takes::Texts),
    ("|expand", Takes::Placeholders),
    ("|expand|contains", Takes::Placeholders),
    ("|expand|cased|endswith", Takes::Placeholders),
    ("|expand|neq", Takes::Placeholders),
];

fn one_of<T: Clone + std::fmt::Debug + 'static>(items: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(items.to_vec())
}

/// One value, or several.
fn some<T: Into<Value> + Clone + std::fmt::Debug + 'static>(items: &[T], least: usize) -> BoxedStrategy<Value> {
    prop::collection::vec(one_of(items), least..4)
        .prop_map(|mut items| match items.len() {
            1 => items.remove(0).into(),
            _ => items.into_iter().map(Into::into).collect(),
        })
        .boxed()
}

fn compared(takes: Takes) -> BoxedStrategy<Value> {
    let numbers = [json!(403), json!(403.0), json!(0), json!(-1), json!(1.5), json!(1000), json!(9), json!(1e300)];
    match takes {
        Takes::Any => {
            let odd = [json!(403), json!(0), json!(1.5), json!(-1), json!(true), json!(false), json!("x")];
            prop_oneof![1 => Just(Value::Null), 4 => some(&odd, 1), 1 => one_of(&TEXTS).prop_map(Value::from)].boxed()
        }
        Takes::Texts => some(&TEXTS, 1),
        Takes::Several => some(&TEXTS, 2),
        Takes::Encoded => some(&["get", "a", "ab", "", "true", "pods"], 1),
        Takes::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Takes::Regexes => some(&["^(a|4)", "", "T$", "^ab$", "a.b", "[^a-z]", r"\d{3}", "ä|ß"], 1),
        Takes::Networks => some(&["10.0.0.0/8", "10.0.0.1", "::ffff:0:0/96", "0.0.0.0/0", "::/0"], 1),
        Takes::Numbers => some(&numbers, 1),
        Takes::Parts => some(&[0, 1, 2, 5, 9, 2026], 1),
        Takes::Fields => some(&FIELDS, 1),
        Takes::Placeholders => some(&["%names%", "x%names%", "%names%*"], 1),
    }
}

fn item() -> impl Strategy<Value = (String, Value)> {
    let field = one_of(&FIELDS);
    (field, one_of(&CHAINS)).prop_flat_map(|(field, (chain, takes))| {
        compared(takes).prop_map(move |value| (format!("{field}{chain}"), value))
    })
}

fn map() -> impl Strategy<Value = Value> {
    prop::collection::vec(item(), 1..4).prop_map(|items| items.into_iter().collect())
}

/// A search identifier: fields, alternatives of fields, keywords, or both.
fn search() -> impl Strategy<Value = Value> {
    let words = || some(&TEXTS, 1);
    let keywords = prop_oneof![
        words().prop_map(|words| if words.is_array() { words } else { json!([words]) }),
        some(&[json!(403), json!(true), json!("et"), json!(1.5)], 2),
        some(&TEXTS, 2).prop_map(|words| json!({"|all": words})),
        words().prop_map(|words| json!({"|cased": words})),
        words().prop_map(|words| json!({"|startswith": words})),
        compared(Takes::Regexes).prop_map(|regex| json!({"|re|i": regex})),
        compared(Takes::Networks).prop_map(|network| json!({"|cidr": network})),
        compared(Takes::Numbers).prop_map(|number| json!({"|lt": number})),
        compared(Takes::Encoded).prop_map(|text| json!({"|base64offset|contains": text})),
        one_of(&TEXTS).prop_map(|word| json!({"|neq": word})),
    ];
    prop_oneof![
        6 => map(),
        1 => prop::collection::vec(map(), 1..3).prop_map(Value::from),
        1 => keywords,
        1 => (map(), one_of(&TEXTS)).prop_map(|(map, word)| json!([word, map])),
    ]
}

/// Conditions over the names that [`detection`] gives.
fn condition() -> impl Strategy<Value = String> {
    let names = ["s0", "s1", "s2", "_s3", "1 of s*", "all of s*", "any of s?", "1 of them", "all of them", "1 of _*"];
    one_of(&names).prop_map(str::to_owned).prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| format!("not ({part})")),
            inner.clone().prop_map(|part| format!("NOT not ({part})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("{left} and {right}")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} or {right})")),
            (inner.clone(), inner).prop_map(|(left, right)| format!("{left} or not {right}")),
        ]
    })
}

/// What stands under a Sigma rule's `detection`.
pub(crate) fn detection() -> impl Strategy<Value = Value> {
    let conditions = prop_oneof![
        4 => condition().prop_map(Value::from),
        1 => prop::collection::vec(condition(), 1..3).prop_map(Value::from),
    ];
    (prop::collection::vec(search(), 4), conditions).prop_map(|(searches, condition)| {
        let names = ["s0", "s1", "s2", "_s3"].map(str::to_owned);
        let mut detection: serde_json::Map<String, Value> = names.into_iter().zip(searches).collect();
        detection.insert("condition".to_owned(), condition);
        detection.into()
    })
}

/// Falco's fields that have one text.
const SINGLE: [&str; 27] = [
    "ka.verb",
    "ka.stage",
    "ka.uri",
    "ka.cluster.name",
    "ka.user.name",
    "ka.impuser.name",
    "ka.auth.decision",
    "ka.target.name",
    "ka.target.resource",
    "ka.target.subresource",
    "ka.target.pod.name",
    "ka.response.code",
    "ka.req.pod.host_network",
    "ka.req.pod.run_as_user",
    "ka.req.container.image",
    "ka.req.container.image.repository",
    "ka.req.container.privileged",
    "ka.req.volume.hostpath[/a*]",
    "ka.req.volume.hostpath[/a/b]",
    "ka.req.configmap.obj",
    "ka.uri.param[a]",
    "jevt.value[/requestObject/a]",
    "jevt.value[/requestObject/a/b]",
    "jevt.value[/sourceIPs/0]",
    "jevt.value[/annotations/a.b~1c]",
    "json.value[/user/username]",
    "jevt.obj",
];

/// Those that have a list.
const LISTS: [&str; 28] = [
    "ka.user.groups",
    "ka.sourceips",
    "ka.sourceips[0]",
    "ka.req.pod.containers.image",
    "ka.req.pod.containers.image[1]",
    "ka.req.pod.containers.image.repository",
    "ka.req.pod.containers.name",
    "ka.req.pod.containers.command",
    "ka.req.pod.containers.args[0]",
    "ka.req.pod.containers.privileged",
    "ka.req.pod.containers.host_port",
    "ka.req.pod.containers.eff_run_as_user",
    "ka.req.pod.containers.eff_run_as_group[0]",
    "ka.req.pod.containers.add_capabilities",
    "ka.req.pod.initContainers.image",
    "ka.req.pod.ephemeralContainers.command",
    "ka.req.pod.volumes.hostpath",
    "ka.req.pod.volumes.volume_type",
    "ka.req.pod.volumes.flexvolume_driver",
    "ka.req.pod.supplemental_groups",
    "ka.req.role.rules",
    "ka.req.role.rules.verbs",
    "ka.req.role.rules.resources[0]",
    "ka.req.service.ports",
    "ka.req.binding.subjects",
    "ka.req.binding.subjects.user_names",
    "ka.req.binding.subjects.serviceaccount_ns_names",
    "getopt(ka.req.pod.containers.command, \"a:b\")",
];

fn single() -> impl Strategy<Value = String> {
    one_of(&SINGLE).prop_map(str::to_owned).prop_recursive(2, 4, 2, |inner| {
        let list = || one_of(&LISTS);
        prop_oneof![
            (one_of(&["tolower", "toupper", "b64", "basename"]), inner.clone())
                .prop_map(|(name, of)| format!("{name}({of})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("concat({a}, \"/\", {b})")),
            (one_of(&["\"-\"", "\"\""]), list()).prop_map(|(between, list)| format!("join({between}, {list})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("join(\",\", ({a}, \"x\", {b}))")),
            list().prop_map(|list| format!("getopt({list}, \"a:b\")[a]")),
        ]
    })
}

fn list() -> impl Strategy<Value = String> {
    let made = ["tolower", "toupper", "b64", "basename"];
    prop_oneof![
        4 => one_of(&LISTS).prop_map(str::to_owned),
        1 => (one_of(&made), one_of(&LISTS)).prop_map(|(name, list)| format!("{name}({list})")),
    ]
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("jevt.rawtime".to_owned()),
        single().prop_map(|of| format!("len({of})")),
        list().prop_map(|of| format!("len({of})")),
    ]
}

fn word() -> impl Strategy<Value = String> {
    one_of(&TEXTS).prop_map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn words() -> impl Strategy<Value = String> {
    prop::collection::vec(word(), 0..4).prop_map(|words| format!("({})", words.join(", ")))
}

/// One question of Falco's language: every operator, with and without modifiers, against words and fields.
fn check() -> impl Strategy<Value = String> {
    const PLAIN: [&str; 7] = ["=", "==", "!=", "contains", "icontains", "startswith", "endswith"];
    const WITH_FIELD: [&str; 7] = ["=", "!=", "contains", "icontains", "startswith", "endswith", "in"];
    let numbers = || one_of(&["0", "1", "2", "403", "0x3", "-1.5", "1767603600000000000"]);
    let globs = ["*", "a*", "?b", "[!a]*", "@(get|a)", "+(a)b", "*/b"];
    prop_oneof![
        1 => prop_oneof![single(), list(), number()].prop_map(|field| format!("{field} exists")),
        4 => (single(), one_of(&PLAIN), word()).prop_map(|(field, how, word)| format!("{field} {how} {word}")),
        2 => (single(), one_of(&PLAIN), one_of(&["oneof", "anyof", "allof"]), words())
            .prop_map(|(field, how, of, words)| format!("{field} {how} {of} {words}")),
        1 => (single(), one_of(&["glob", "iglob"]), one_of(&globs))
            .prop_map(|(field, how, glob)| format!("{field} {how} \"{glob}\"")),
        1 => (single(), one_of(&["bcontains", "bstartswith"]), one_of(&["6765", "61", "c3a4", ""]))
            .prop_map(|(field, how, hex)| format!("{field} {how} \"{hex}\"")),
        1 => (single(), one_of(&["a|get", "[a-z]+", ".*b", ""]))
            .prop_map(|(field, regex)| format!("{field} regex \"{regex}\"")),
        1 => (single(), one_of(&["<", "<=", ">", ">="]), numbers()).prop_map(|(f, how, n)| format!("{f} {how} {n}")),
        2 => (single(), words()).prop_map(|(field, words)| format!("{field} in {words}")),
        1 => (single(), one_of(&["(/a)", "(/a/*, get)", "(a, /)"])).prop_map(|(f, paths)| format!("{f} pmatch {paths}")),
        2 => (single(), one_of(&WITH_FIELD), single()).prop_map(|(field, how, other)| format!("{field} {how} val({other})")),
        1 => (single(), one_of(&["in", "intersects"]), list()).prop_map(|(f, how, list)| format!("{f} {how} val({list})")),
        3 => (list(), one_of(&["in", "intersects"]), words()).prop_map(|(l, how, words)| format!("{l} {how} {words}")),
        1 => (list(), one_of(&["in", "intersects"]), list()).prop_map(|(l, how, other)| format!("{l} {how} val({other})")),
        1 => (number(), one_of(&["<", "<=", ">", ">=", "=", "!="]), numbers())
            .prop_map(|(field, how, number)| format!("{field} {how} {number}")),
        1 => (number(), numbers(), numbers()).prop_map(|(field, a, b)| format!("{field} in ({a}, {b})")),
    ]
}

/// A Falco rule's condition.
pub(crate) fn conditions() -> impl Strategy<Value = String> {
    check().prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|part| format!("not ({part})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("{left} and {right}")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left} or {right})")),
            (inner.clone(), inner).prop_map(|(left, right)| format!("({left}) and not ({right})")),
        ]
    })
}

/// JSON as it is written: keys may be there twice, numbers and texts may be odd.
#[derive(Clone, Debug)]
enum Json {
    Text(String),
    /// Anything else that has no parts.
    Raw(String),
    List(Vec<Self>),
    Object(Vec<(&'static str, Self)>),
}

impl Json {
    /// Writes it; the bits of `odd` decide where there are blanks and escapes that need not be.
    fn write(&self, odd: &mut u64, out: &mut String) {
        let mut often = |one_in: u64| {
            *odd = odd.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*odd >> 33).is_multiple_of(one_in)
        };
        let blank = if often(24) { "\n " } else { "" };
        match self {
            Self::Text(text) => write_text(text, often(6), out),
            Self::Raw(raw) => out.push_str(raw),
            Self::List(items) => {
                for (number, item) in items.iter().enumerate() {
                    out.push_str(if number == 0 { "[" } else { "," });
                    out.push_str(blank);
                    item.write(odd, out);
                }
                out.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Self::Object(members) => {
                for (number, (key, value)) in members.iter().enumerate() {
                    out.push_str(if number == 0 { "{" } else { "," });
                    *odd = odd.rotate_left(7) ^ 1;
                    write_text(key, odd.is_multiple_of(16), out);
                    out.push_str(if blank.is_empty() { ":" } else { " : " });
                    value.write(odd, out);
                }
                out.push_str(if members.is_empty() { "{}" } else { "}" });
            }
        }
    }
}

/// A JSON string; `escaped`: with escapes that need not be, as in `\u0065xec`.
fn write_text(text: &str, escaped: bool, out: &mut String) {
    if !escaped {
        return out.push_str(&json!(text).to_string());
    }
    out.push('"');
    for (number, unit) in text.encode_utf16().enumerate() {
        let plain = char::from_u32(unit.into()).filter(|c| c.is_ascii_alphanumeric() && number % 3 == 1);
        match plain {
            Some(c) => out.push(c),
            None => out.push_str(&format!("\\u{unit:04x}")),
        }
    }
    out.push('"');
}

fn raw(text: &str) -> Json {
    Json::Raw(text.to_owned())
}

fn leaf() -> impl Strategy<Value = Json> {
    let odd = [
        "403",
        "403.0",
        "4.03e2",
        "0",
        "-0",
        "-0.0",
        "-1",
        "1.50",
        "1000",
        "1e3",
        "18446744073709551615",
        "1e999",
        "123456789012345678901234567890",
        "9007199254740993",
        "true",
        "false",
        "null",
        "{}",
        "[]",
        "[[]]",
        r#""x\ud800""#,
        r#""\udc00\ud800a""#,
        r#""\ud83d\ude00""#,
        r#""\u0000""#,
        r#""\/a\/b""#,
    ];
    prop_oneof![
        60 => one_of(&TEXTS).prop_map(|text| Json::Text(text.to_owned())),
        20 => one_of(&odd).prop_map(raw),
        1 => (1_usize..130, one_of(&["403", "\"a\"", "{}"])).prop_map(|(depth, leaf)| {
            raw(&format!("{}{leaf}{}", "[".repeat(depth), "]".repeat(depth)))
        }),
        1 => (1_usize..130, one_of(&["403", "\"a\""])).prop_map(|(depth, leaf)| {
            raw(&format!("{}{leaf}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth)))
        }),
    ]
}

/// Any value, its keys those that paths go through.
fn value() -> BoxedStrategy<Json> {
    let keys = ["a", "b", "a.b", "b/c", "a.b/c", "username", "spec", "containers", "image", "hostNetwork", "c", ""];
    let nested = leaf().prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::List),
            prop::collection::vec((one_of(&keys), inner), 0..4).prop_map(Json::Object),
        ]
    });
    prop_oneof![3 => leaf(), 1 => nested].boxed()
}

/// An object that has each of these keys at times, and seldom one twice.
fn object(members: Vec<(&'static str, BoxedStrategy<Json>)>) -> BoxedStrategy<Json> {
    let members: Vec<_> = members
        .into_iter()
        .map(|(key, value)| {
            let times = prop_oneof![10 => Just(0_usize), 20 => Just(1), 1 => Just(2)];
            times.prop_flat_map(move |times| prop::collection::vec((Just(key), value.clone()), times))
        })
        .collect();
    members.prop_map(|members| Json::Object(members.into_iter().flatten().collect())).boxed()
}

fn listed(item: BoxedStrategy<Json>) -> BoxedStrategy<Json> {
    prop_oneof![8 => prop::collection::vec(item.clone(), 0..3).prop_map(Json::List), 1 => item].boxed()
}

/// What is created: a pod, a role, a binding, all at once.
fn body() -> BoxedStrategy<Json> {
    let context = || {
        object(vec![
            ("privileged", value()),
            ("runAsUser", value()),
            ("runAsGroup", value()),
            ("capabilities", object(vec![("add", listed(value()))])),
        ])
    };
    let container = || {
        object(vec![
            ("name", value()),
            ("image", value()),
            ("command", listed(value())),
            ("args", listed(value())),
            ("ports", listed(object(vec![("hostPort", value()), ("containerPort", value())]))),
            ("securityContext", context()),
        ])
    };
    let volume = object(vec![
        ("name", value()),
        ("hostPath", object(vec![("path", value())])),
        ("flexVolume", object(vec![("driver", value())])),
    ]);
    let spec = object(vec![
        ("hostNetwork", value()),
        ("containers", listed(container())),
        ("initContainers", listed(container())),
        ("ephemeralContainers", listed(container())),
        ("volumes", listed(volume)),
        ("securityContext", object(vec![("runAsUser", value()), ("supplementalGroups", listed(value()))])),
        ("ports", listed(value())),
    ]);
    let kinds = ["User", "Group", "ServiceAccount"];
    let kind = one_of(&kinds).prop_map(|kind| Json::Text(kind.to_owned())).boxed();
    let subject = object(vec![("kind", kind), ("name", value()), ("namespace", value())]);
    let rule = object(vec![("verbs", listed(value())), ("resources", listed(value())), ("apiGroups", value())]);
    let whole = object(vec![
        ("a", value()),
        ("a.b", value()),
        ("spec", spec),
        ("rules", listed(rule)),
        ("subjects", listed(subject)),
        ("data", value()),
    ]);
    prop_oneof![6 => whole, 1 => value()].boxed()
}

/// An event as text: what every event has, then anything, in any order.
pub(crate) fn event() -> impl Strategy<Value = String> {
    let stages = ["ResponseComplete", "ResponseComplete", "ResponseStarted", "Panic", "RequestReceived", "Odd"];
    let times = ["2026-01-05T09:00:00.000000Z", "2026-01-05T09:00:00Z", "2026-11-21T04:15:56.715875+02:00"];
    let text = |items: &[&'static str]| one_of(items).prop_map(|text| Json::Text(text.to_owned()));
    let uris = ["/api?a=get&b=x", "/a?a=%2fbin%2Fsh", "/a/b"];
    let uri = prop_oneof![1 => text(&TEXTS), 2 => text(&uris)].boxed();
    let fixed = (text(&TEXTS), text(&stages), text(&times)).prop_map(|(verb, stage, time)| {
        let id = Json::Text("a".to_owned());
        vec![("auditID", id), ("verb", verb), ("stage", stage), ("stageTimestamp", time)]
    });
    let user = object(vec![("username", value()), ("groups", listed(value())), ("uid", value())]);
    let target = object(vec![
        ("resource", prop_oneof![text(&["pods"]), text(&TEXTS)].boxed()),
        ("name", value()),
        ("subresource", value()),
        ("apiGroup", value()),
    ]);
    let others = vec![
        ("requestURI", uri),
        ("level", value()),
        ("cluster", value()),
        ("user", prop_oneof![5 => user.clone(), 1 => value()].boxed()),
        ("impersonatedUser", user),
        ("objectRef", prop_oneof![8 => target, 1 => value()].boxed()),
        ("responseStatus", object(vec![("code", value()), ("reason", value())])),
        ("sourceIPs", listed(value())),
        ("annotations", object(vec![("a.b/c", value()), ("a", value()), ("authorization.k8s.io/decision", value())])),
        ("requestObject", body()),
        ("responseObject", object(vec![("a", value()), ("metadata", value())])),
        ("other", value()),
    ];
    let others =
        others.into_iter().map(|(key, value)| prop::collection::vec((Just(key), value), 0..2)).collect::<Vec<_>>();
    let twice = prop_oneof![40 => Just(None), 1 => text(&TEXTS).prop_map(Some)];
    (fixed, others, twice, any::<u64>()).prop_flat_map(|(fixed, others, twice, odd)| {
        let twice = twice.into_iter().map(|verb| ("verb", verb));
        let members: Vec<_> = fixed.into_iter().chain(others.into_iter().flatten()).chain(twice).collect();
        Just(members).prop_shuffle().prop_map(move |members| {
            let (mut odd, mut out) = (odd, String::new());
            Json::Object(members).write(&mut odd, &mut out);
            out
        })
    })
}
