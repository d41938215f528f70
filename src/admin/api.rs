//! `/api/v1`: alerts, rules, status, reload. Answers and errors are JSON; an error is `{"error": "…"}`.

use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{AdminState, Answer};
use crate::alert::{Alert, Level};
use crate::clock::{self, Timestamp};
use crate::store::{AlertQuery, StoreError};
use crate::units::Span;

/// Alerts on a page, where `limit` does not say.
const LIMIT_DEFAULT: usize = 100;
/// Alerts on the longest page.
const LIMIT_MAX: usize = 1_000;
/// How long an answer waits for the store.
const STORE_TIME: Duration = Duration::from_secs(10);
/// The parameters of `/api/v1/alerts`.
const PARAMETERS: [&str; 10] =
    ["since", "until", "level", "rule", "cluster", "user", "namespace", "q", "limit", "cursor"];

/// Answers with a code and one sentence.
pub(super) fn error(status: StatusCode, words: &str) -> Answer {
    Answer::json(status, &json!({ "error": words }))
}

/// `GET /api/v1/alerts`.
pub(super) async fn alerts(state: &AdminState, query: &str) -> Answer {
    let query = match parse(query, clock::now()) {
        Ok(query) => query,
        Err(words) => return error(StatusCode::BAD_REQUEST, &words),
    };
    let limit = query.limit;
    match within_time(state.store.alerts(query)).await {
        Ok(alerts) => Answer::json(StatusCode::OK, &page(&alerts, limit)),
        Err(answer) => answer,
    }
}

/// `GET /api/v1/alerts/{id}`.
pub(super) async fn alert(state: &AdminState, id: &str) -> Answer {
    match within_time(state.store.alert(id)).await {
        Ok(Some(alert)) => Answer::json(StatusCode::OK, &json!(alert)),
        Ok(None) => error(StatusCode::NOT_FOUND, "no alert has this id"),
        Err(answer) => answer,
    }
}

/// `GET /api/v1/rules`.
pub(super) fn rules(state: &AdminState) -> Answer {
    Answer::json(StatusCode::OK, &json!({ "rules": (state.rules)() }))
}

/// `GET /api/v1/status`.
pub(super) fn status(state: &AdminState, started: Timestamp) -> Answer {
    let reasons = state.health.reasons();
    let mut status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": started,
        "uptime_seconds": clock::now().since(started).as_secs(),
        "ready": reasons.is_empty(),
        "reasons": reasons,
    });
    if let (Some(status), Value::Object(more)) = (status.as_object_mut(), (state.status)()) {
        status.extend(more);
    }
    Answer::json(StatusCode::OK, &status)
}

/// `POST /api/v1/reload`.
pub(super) async fn reload(state: &AdminState) -> Answer {
    match (state.reload)().await {
        Ok(report) => Answer::json(StatusCode::OK, &report),
        // Not the request is wrong but what is on disk; the old set runs on.
        Err(words) => error(StatusCode::INTERNAL_SERVER_ERROR, &words),
    }
}

async fn within_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, Answer> {
    match timeout(STORE_TIME, asked).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(wrong)) => Err(error(StatusCode::SERVICE_UNAVAILABLE, &wrong.to_string())),
        Err(_) => Err(error(StatusCode::SERVICE_UNAVAILABLE, "the state database is too busy")),
    }
}

/// One page and where the next one starts: `next_cursor` is absent when there is no next one.
fn page(alerts: &[Alert], limit: usize) -> Value {
    let mut page = json!({ "alerts": alerts });
    if let Some(last) = alerts.last().filter(|_| alerts.len() >= limit) {
        page["next_cursor"] = cursor(last).into();
    }
    page
}

fn cursor(last: &Alert) -> String {
    format!("{}.{}", last.time.0, last.id)
}

fn parse_cursor(text: &str) -> Result<(Timestamp, String), String> {
    let wrong = || "`cursor` must be the `next_cursor` of the page before".to_owned();
    let (time, id) = text.split_once('.').ok_or_else(wrong)?;
    Ok((Timestamp(time.parse().map_err(|_| wrong())?), id.to_owned()))
}

/// The query string as the store wants it; the error names every mistake.
fn parse(query: &str, now: Timestamp) -> Result<AlertQuery, String> {
    let mut parsed = AlertQuery { limit: LIMIT_DEFAULT, ..AlertQuery::default() };
    let (mut seen, mut wrong, mut unknown) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if !PARAMETERS.contains(&&*name) {
            unknown.push(format!("`{name}`"));
        } else if !seen.insert(name.clone()) {
            wrong.push(format!("`{name}` is given twice"));
        } else if let Err(words) = set(&mut parsed, &name, &value, now) {
            wrong.push(words);
        }
    }
    if !unknown.is_empty() {
        wrong.push(format!("unknown: {}; known are {}", unknown.join(", "), PARAMETERS.join(", ")));
    }
    if wrong.is_empty() { Ok(parsed) } else { Err(wrong.join("; ")) }
}

fn set(query: &mut AlertQuery, name: &str, value: &str, now: Timestamp) -> Result<(), String> {
    let text = || Some(value.to_owned());
    match name {
        "since" => query.since = Some(time(name, value, now)?),
        "until" => query.until = Some(time(name, value, now)?),
        "level" => query.min_level = Some(value.parse::<Level>()?),
        "rule" => query.rule = text(),
        "cluster" => query.cluster = text(),
        "user" => query.user = text(),
        "namespace" => query.namespace = text(),
        "q" => query.text = text(),
        "limit" => {
            let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
            query.limit = limit.ok_or_else(|| format!("`limit` must be a number from 1 to {LIMIT_MAX}"))?;
        }
        _ => query.before = Some(parse_cursor(value)?),
    }
    Ok(())
}

/// A point in time, or a span before now.
fn time(name: &str, value: &str, now: Timestamp) -> Result<Timestamp, String> {
    Timestamp::parse(value)
        // A plus sign that was not encoded arrives as a space.
        .or_else(|| Timestamp::parse(&value.replace(' ', "+")))
        .or_else(|| value.parse::<Span>().ok().map(|span| now.minus(span.0)))
        .ok_or_else(|| format!("`{name}` must be a time like 2026-11-21T04:00:00Z, or a span before now like 1h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000_000);

    #[test]
    fn filters() {
        let query = parse(
            "since=2026-11-21T05:00:00%2B01:00&until=1h&level=high&rule=r&cluster=c&user=a+b&namespace=n&q=x%26y&limit=7\
             &cursor=5.abc",
            NOW,
        );
        let text = |text: &str| Some(text.to_owned());
        let expected = AlertQuery {
            since: Timestamp::parse("2026-11-21T04:00:00Z"),
            until: Some(NOW.minus(Duration::from_secs(3600))),
            min_level: Some(Level::High),
            rule: text("r"),
            cluster: text("c"),
            user: text("a b"),
            namespace: text("n"),
            text: text("x&y"),
            limit: 7,
            before: Some((Timestamp(5), "abc".to_owned())),
        };
        assert_eq!(query.map(|query| format!("{query:?}")), Ok(format!("{expected:?}")));
        assert_eq!(parse("", NOW).map(|query| query.limit), Ok(LIMIT_DEFAULT));
        let plus = parse("since=2026-11-21T05:00:00+01:00", NOW).map(|query| query.since);
        assert_eq!(plus, Ok(Timestamp::parse("2026-11-21T04:00:00Z")));
    }

    #[test]
    fn all_mistakes_are_told() {
        let wrong = parse("levle=high&limit=0&since=yesterday&cursor=x&rule=a&rule=b&level=bad", NOW).unwrap_err();
        for part in ["`levle`", "`limit` must", "`since` must", "`cursor` must", "`rule` is given twice", "`bad` is no"]
        {
            assert!(wrong.contains(part), "{part} in {wrong}");
        }
    }
}
