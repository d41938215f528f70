//! Bodies that users write: a template into which an alert is put, each value escaped for the kind of text it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::value::{Serde, Value as Given, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, escape_formatter};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::super::SendError;
use super::super::facts::{PLAIN, report, title};
use crate::alert::{Alert, EventExcerpt, Level, ObjectRef, ResponseStatus, RuleInfo, Status, User};
use crate::clock::Timestamp;
use crate::text::{shorten, visible, visible_json};

/// Steps and bytes that one body may cost: a template that loops without end is ended.
const FUEL: u64 = 2_000_000;
/// The longest body, in bytes.
const BODY_MAX: usize = 1 << 20;
/// Of the report, in characters.
const REPORT_MAX: usize = 20_000;
/// The name of the only template.
const NAME: &str = "body";
/// What a form's values are escaped as.
const URL: &str = "url";

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong there.
    pub message: String,
}

impl Mistake {
    fn of(error: &Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::OutOfFuel => "it takes too long: is there a loop without end?".to_owned(),
            ErrorKind::UndefinedError => {
                "this value does not exist; for one that may be absent write `| default(\"\")`".to_owned()
            }
            kind => kind.to_string(),
        };
        let detail = error.detail().map(|detail| format!(": {}", shorten(detail, 200))).unwrap_or_default();
        Self { line: error.line(), message: kind + &detail }
    }
}

/// A template that was tried.
pub(super) struct Template {
    environment: Environment<'static>,
    json: bool,
}

impl Template {
    /// Compiles it, and tries it on an alert with everything and on one with nothing.
    pub(super) fn new(source: &str, content_type: &str) -> Result<Self, Mistake> {
        let kind = escaping(content_type);
        let json = matches!(kind, AutoEscape::Json);
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_auto_escape_callback(move |_| kind.clone());
        environment.set_formatter(write);
        environment.set_fuel(Some(FUEL));
        let added = environment.add_template_owned(NAME, source.to_owned());
        added.map_err(|error| Mistake::of(&error))?;
        let template = Self { environment, json };
        for alert in [full(), bare()] {
            template.try_on(&alert)?;
        }
        Ok(template)
    }

    fn try_on(&self, alert: &Alert) -> Result<(), Mistake> {
        let body = self.fill(alert).map_err(|error| Mistake::of(&error))?;
        let wrong = |message: String| Mistake { line: None, message };
        if body.trim().is_empty() {
            return Err(wrong("it makes an empty body".to_owned()));
        }
        if !self.json {
            return Ok(());
        }
        serde_json::from_str::<Value>(&body).map(drop).map_err(|error| {
            let near = body.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
            wrong(format!("what it makes of an alert is no JSON: {error}: {}", shorten(near, 120)))
        })
    }

    fn fill(&self, alert: &Alert) -> Result<String, Error> {
        self.environment.get_template(NAME)?.render(Serde(context(alert)))
    }

    /// The body for an alert.
    pub(super) fn body(&self, alert: &Alert) -> Result<String, SendError> {
        let body = self.fill(alert).map_err(|error| {
            let Mistake { line, message } = Mistake::of(&error);
            let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
            SendError::reject(format!("the template{line}: {message}"))
        })?;
        if body.len() > BODY_MAX {
            return Err(SendError::reject(format!("the template makes a body of more than {BODY_MAX} bytes")));
        }
        if self.json && serde_json::from_str::<serde::de::IgnoredAny>(&body).is_err() {
            return Err(SendError::reject("what the template makes of this alert is no JSON"));
        }
        Ok(body)
    }
}

/// What a value is escaped as in such a body.
fn escaping(content_type: &str) -> AutoEscape {
    let content_type = content_type.to_ascii_lowercase();
    if content_type.contains("json") {
        AutoEscape::Json
    } else if content_type.contains("html") || content_type.contains("xml") {
        AutoEscape::Html
    } else if content_type.contains("x-www-form-urlencoded") {
        AutoEscape::Custom(URL.into())
    } else {
        AutoEscape::None
    }
}

/// Writes a value. In JSON a text is written for between the quotes that the template has around it.
fn write(out: &mut Output, state: &mut State, value: &Given) -> Result<(), Error> {
    if value.is_safe() {
        return out.write_str(&value.to_string()).map_err(Error::from);
    }
    let text = match (state.auto_escape(), value.as_str()) {
        (AutoEscape::Json, Some(text)) => {
            let quoted = visible_json(json!(text).to_string());
            quoted[1..quoted.len() - 1].to_owned()
        }
        (AutoEscape::Json, None) => {
            let json = serde_json::to_string(value);
            visible_json(json.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?)
        }
        (AutoEscape::Custom(_), _) => utf8_percent_encode(&value.to_string(), NON_ALPHANUMERIC).to_string(),
        (AutoEscape::None, _) if matches!(value.kind(), ValueKind::None | ValueKind::Undefined) => String::new(),
        (AutoEscape::None, _) => visible(&value.to_string()),
        _ => return escape_formatter(out, state, value),
    };
    out.write_str(&text).map_err(Error::from)
}

/// What a template can ask for. Every field of an alert is there, those that it lacks as empty texts and lists.
fn context(alert: &Alert) -> Value {
    let mut given = json!(alert);
    fill_in(
        &mut given,
        &json!({"timeline": [], "rule": {"runbook": ""}, "event": {
            "user": {"username": "", "groups": []},
            "impersonatedUser": {"username": "", "groups": []},
            "userAgent": "",
            "objectRef": {"resource": "", "namespace": "", "name": "", "apiGroup": "", "apiVersion": "", "subresource": ""},
            "responseStatus": {"code": "", "reason": ""},
        }}),
    );
    let report = report(alert, PLAIN, REPORT_MAX);
    json!({"alert": given, "title": title(alert, 200, PLAIN), "report": report.lines().collect::<Vec<_>>()})
}

/// Adds what is missing.
fn fill_in(value: &mut Value, defaults: &Value) {
    match (value, defaults) {
        (Value::Object(map), Value::Object(defaults)) => {
            for (key, default) in defaults {
                fill_in(map.entry(key.clone()).or_insert(Value::Null), default);
            }
        }
        (value @ Value::Null, default) => {
            *value = if default.is_object() { json!({}) } else { default.clone() };
            if default.is_object() {
                fill_in(value, default);
            }
        }
        _ => {}
    }
}

/// An alert with everything, and with whatever a template that does not escape would stumble over.
fn full() -> Alert {
    let text = |text: &str| format!("{text} \"quoted\" \\ <b>&amp;</b>\n{{}}");
    let user = User { username: Some(text("user")), groups: vec![text("group")] };
    let rule = RuleInfo {
        id: text("rule"),
        title: text("title"),
        level: Level::High,
        tags: vec![text("tag")],
        references: vec![text("reference")],
        runbook: Some(text("runbook")),
    };
    let object = |part: &str| Some(text(part));
    Alert {
        rule: Arc::new(rule),
        cluster: text("cluster"),
        summary: text("summary"),
        group: BTreeMap::from([("user.username".to_owned(), text("user").into())]),
        matched: BTreeMap::from([("verb".to_owned(), text("get").into())]),
        audit_ids: vec![text("audit")],
        event: EventExcerpt {
            verb: text("get"),
            user: user.clone(),
            impersonated_user: Some(user),
            source_ips: vec!["192.0.2.1".to_owned()],
            user_agent: Some(text("agent")),
            object_ref: Some(ObjectRef {
                resource: object("resource"),
                namespace: object("namespace"),
                name: object("name"),
                api_group: object("group"),
                api_version: object("version"),
                subresource: object("sub"),
            }),
            response_status: Some(ResponseStatus { code: Some(200), reason: Some(text("reason")) }),
            ..EventExcerpt::default()
        },
        ..bare()
    }
}

/// An alert that lacks whatever an alert may lack.
fn bare() -> Alert {
    let time = Timestamp(0);
    Alert {
        id: "0".repeat(32),
        status: Status::Firing,
        time,
        cluster: "default".to_owned(),
        rule: Arc::default(),
        summary: "nothing else is known".to_owned(),
        count: 1,
        first_seen: time,
        last_seen: time,
        group: BTreeMap::new(),
        event: EventExcerpt::default(),
        matched: BTreeMap::new(),
        audit_ids: Vec::new(),
        timeline: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::{alert, hostile};
    use super::*;

    const JSON: &str = "application/json";

    fn made(source: &str, content_type: &str, alert: &Alert) -> String {
        let template = Template::new(source, content_type).unwrap_or_else(|mistake| panic!("{mistake:?}"));
        template.body(alert).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_body_holds_what_the_template_asks_for() {
        let source = r#"{
  "text": "{{ title }}: {{ alert.summary }} {{ alert.event.userAgent }}",
  "count": {{ alert.count }},
  "ips": {{ alert.event.sourceIPs }},
  "who": {{ alert.event.user.username | tojson }},
  "team": "{{ alert.group["team"] | default("soc") }}",
  {% if alert.status == "firing" %}"urgent": true,{% endif %}
  "report": "{{ report | join("\n") }}"
}"#;
        let body: Value = serde_json::from_str(&made(source, JSON, &alert("a", "r", Level::High))).unwrap();
        assert_eq!(
            body["text"],
            "🟠 High · Title of r: alice read secret payments/db-creds from 10.0.0.1 (get, 200) kubectl/v1.36.2"
        );
        assert_eq!((&body["count"], &body["ips"]), (&json!(3), &json!(["10.0.0.1"])));
        assert_eq!((&body["who"], &body["team"], &body["urgent"]), (&json!("alice"), &json!("soc"), &json!(true)));
        assert!(body["report"].as_str().unwrap().contains("\nWho: alice\n"));
    }

    #[test]
    fn no_value_leaves_its_place_in_any_kind_of_body() {
        let evil = "\"}, {\"x\": \"\\ <script>&\u{202e}\n";
        let of = |content_type: &str, source: &str| made(source, content_type, &hostile("id", evil));
        let body: Value =
            serde_json::from_str(&of(JSON, r#"{"a": "{{ alert.summary }}", "b": {{ alert.matched }}}"#)).unwrap();
        assert_eq!(body["a"], evil);
        assert_eq!(body["b"].as_object().unwrap().len(), 200);
        assert!(of("text/html", "<p>{{ alert.summary }}</p>").contains("&lt;script&gt;&amp;"));
        let form = of("application/x-www-form-urlencoded", "text={{ alert.summary }}&n={{ alert.count }}");
        let pairs: Vec<_> = form_urlencoded::parse(form.as_bytes()).collect();
        assert_eq!(pairs, [("text".into(), evil.into()), ("n".into(), "3".into())]);
        let text = of("text/plain", "{{ alert.summary }}|{{ alert.event.responseStatus.code }}");
        assert_eq!(text, "\"}, {\"x\": \"\\ <script>&\\u{202e}\\n|-1");
    }

    #[test]
    fn mistakes_are_found_before_an_alert_is_lost_to_them() {
        for (source, line, said) in [
            ("{\n  \"a\": {{ alert.sumary }}\n}", Some(2), "does not exist"),
            ("{\n\n  \"a\": \"{{ alert.summary \"\n}", Some(4), "syntax error"),
            ("{% if %}", Some(1), "syntax error"),
            ("{\"a\": \"{{ alert.summary | shout }}\"}", Some(1), "unknown filter"),
            ("{% include \"/etc/passwd\" %}", Some(1), ""),
            ("{\"a\": {{ alert.summary }}}", None, "is no JSON"),
            ("{\"a\": \"{{ alert.summary | safe }}\"}", None, "is no JSON"),
            // An event need not have a code.
            ("{\"a\": {{ alert.event.responseStatus.code }}}", None, "is no JSON"),
            ("{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}", Some(1), "too long"),
            ("  ", None, "empty body"),
        ] {
            let Err(mistake) = Template::new(source, JSON) else { panic!("{source} is right") };
            assert_eq!(mistake.line, line, "{source}: {mistake:?}");
            assert!(mistake.message.contains(said), "{source}: {mistake:?}");
        }
    }
}
