//! `/api/v1`: alerts, figures, rules, status, reload. Answers and errors are JSON; an error is `{"error": "…"}`.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::access::{Caller, Role};
use super::answer::Answer;
use super::{AdminState, query};
use crate::clock::{self, Timestamp};
use crate::store::{Arrived, Backlog, Deed, Handling, Listed, StoreError};
use crate::text::shorten;

/// How long an answer waits for the store.
const STORE_TIME: Duration = Duration::from_secs(10);
/// Characters of the reason why a sink takes nothing.
const REASON_MAX: usize = 300;

/// Answers with a code and one sentence.
pub(super) fn error(status: StatusCode, words: &str) -> Answer {
    Answer::json(status, &json!({ "error": words }))
}

/// `GET /api/v1/alerts`.
pub(super) async fn alerts(state: &AdminState, query: &str) -> Answer {
    let query = match query::listing(query, clock::now()) {
        Ok(query) => query,
        Err(words) => return error(StatusCode::BAD_REQUEST, &words),
    };
    let limit = query.limit;
    if query.after.is_some() {
        return match within_time(state.store.arrived(query)).await {
            Ok(arrived) => Answer::json_text(StatusCode::OK, arrivals(&arrived)),
            Err(answer) => answer,
        };
    }
    match within_time(state.store.listed(query)).await {
        Ok(alerts) => Answer::json_text(StatusCode::OK, page(&alerts, limit)),
        Err(answer) => answer,
    }
}

/// `GET /api/v1/figures`.
pub(super) async fn figures(state: &AdminState, query: &str) -> Answer {
    let now = clock::now();
    let (query, bars) = match query::figures(query, now) {
        Ok(asked) => asked,
        Err(words) => return error(StatusCode::BAD_REQUEST, &words),
    };
    match within_time(state.store.figures(query, now, bars)).await {
        Ok(figures) => Answer::json(StatusCode::OK, &json!(figures)),
        Err(answer) => answer,
    }
}

/// `GET /api/v1/alerts/{id}`.
pub(super) async fn alert(state: &AdminState, id: &str) -> Answer {
    match within_time(state.store.listed_one(id)).await {
        Ok(Some((alert, deeds))) => Answer::json_text(StatusCode::OK, with_deeds(&alert, &deeds)),
        Ok(None) => error(StatusCode::NOT_FOUND, "no alert has this id"),
        Err(answer) => answer,
    }
}

/// `GET /api/v1/alerts/{id}/related`.
pub(super) async fn related(state: &AdminState, id: &str) -> Answer {
    match within_time(state.store.related(id)).await {
        Ok(Some(related)) => {
            let (user, object) = (array(&related.user), array(&related.object));
            Answer::json_text(StatusCode::OK, format!(r#"{{"user":{user},"object":{object}}}"#))
        }
        Ok(None) => error(StatusCode::NOT_FOUND, "no alert has this id"),
        Err(answer) => answer,
    }
}

/// `GET /api/v1/silences`.
pub(super) async fn silences(state: &AdminState) -> Answer {
    match within_time(state.store.silences(clock::now())).await {
        Ok(silences) => Answer::json(StatusCode::OK, &json!({ "silences": silences })),
        Err(answer) => answer,
    }
}

/// `GET /api/v1/rules`.
pub(super) fn rules(state: &AdminState) -> Answer {
    Answer::json(StatusCode::OK, &json!({ "rules": (state.rules)() }))
}

/// `GET /api/v1/rules/{id}`.
pub(super) fn rule(state: &AdminState, id: &str) -> Answer {
    // Ids are free text in rules of one's own.
    let id = percent_encoding::percent_decode_str(id).decode_utf8_lossy();
    match (state.rule)(&id) {
        Some(rule) => Answer::json(StatusCode::OK, &rule),
        None => error(StatusCode::NOT_FOUND, "no rule in use has this id"),
    }
}

/// `GET /api/v1/session`: who the listener takes the caller for, and what would make more of them.
pub(super) fn session(state: &AdminState, caller: &Caller) -> Answer {
    let role = if caller.role == Role::Editor { "editor" } else { "reader" };
    Answer::json(
        StatusCode::OK,
        &json!({
            "who": caller.who, "role": role, "bearer": caller.bearer,
            "token": state.tokens.is_some() || state.reader_tokens.is_some(), "proxy": state.proxy.is_some()
        }),
    )
}

/// `GET /api/v1/status`.
pub(super) async fn status(state: &AdminState, started: Timestamp) -> Answer {
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
    let sinks: Vec<String> =
        status["sinks"].as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    let mut outbox = Vec::new();
    for sink in sinks {
        let read = async { Ok((state.store.backlog(&sink).await?, state.store.refusal(&sink).await?)) };
        match within_time(read).await {
            Ok((backlog, reason)) => outbox.push(waiting(&sink, backlog, reason)),
            Err(answer) => return answer,
        }
    }
    status["outbox"] = outbox.into();
    Answer::json(StatusCode::OK, &status)
}

/// What waits for a sink, and why it did not take something when it was last tried.
fn waiting(sink: &str, backlog: Backlog, reason: Option<String>) -> Value {
    let oldest = backlog.oldest.map(|queued| clock::now().since(queued).as_secs());
    json!({
        "sink": sink, "waiting": backlog.records, "oldest_seconds": oldest, "dead": backlog.dead,
        "reason": reason.map(|reason| shorten(&reason, REASON_MAX)),
    })
}

/// `POST /api/v1/reload`.
pub(super) async fn reload(state: &AdminState) -> Answer {
    match (state.reload)().await {
        Ok(report) => Answer::json(StatusCode::OK, &report),
        // Not the request is wrong but what is on disk; the old set runs on.
        Err(words) => error(StatusCode::INTERNAL_SERVER_ERROR, &words),
    }
}

pub(super) async fn within_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, Answer> {
    match timeout(STORE_TIME, asked).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(wrong)) => Err(error(StatusCode::SERVICE_UNAVAILABLE, &wrong.to_string())),
        Err(_) => Err(error(StatusCode::SERVICE_UNAVAILABLE, "the state database is too busy")),
    }
}

/// One page and where the next one starts: `next_cursor` is absent when there is no next one.
fn page(alerts: &[Listed], limit: usize) -> String {
    let mut page = format!(r#"{{"alerts":{}"#, array(alerts));
    if let Some(last) = alerts.last().filter(|_| alerts.len() >= limit) {
        page.push_str(&format!(r#","next_cursor":{}"#, json!(query::cursor(last))));
    }
    page.push('}');
    page
}

/// One page in the order of arrival, and what to ask for `after` next.
fn arrivals(arrived: &Arrived) -> String {
    format!(r#"{{"alerts":{},"place":{}}}"#, array(&arrived.alerts), arrived.place)
}

fn array(alerts: &[Listed]) -> String {
    let mut array = String::with_capacity(alerts.iter().map(|alert| alert.body.len() + 64).sum::<usize>() + 2);
    for alert in alerts {
        array.push(if array.is_empty() { '[' } else { ',' });
        write_alert(&mut array, alert);
    }
    array.push_str(if array.is_empty() { "[]" } else { "]" });
    array
}

/// The alert as it is kept, and what people did about it. It is not read: a page of a thousand would take long.
fn write_alert(out: &mut String, alert: &Listed) {
    let body = alert.body.strip_suffix('}').unwrap_or(&alert.body);
    out.push_str(body);
    if let Some(handling) = alert.handling {
        out.push_str(&format!(r#","handling":"{}""#, handling.as_str()));
    }
    if let Some(silence) = alert.silence {
        out.push_str(&format!(r#","silence":{silence}"#));
    }
    out.push('}');
}

fn with_deeds(alert: &Listed, deeds: &[Deed]) -> String {
    let mut shown = String::new();
    write_alert(&mut shown, alert);
    if !deeds.is_empty() {
        shown.pop();
        shown.push_str(&format!(r#","history":{}}}"#, json!(deeds)));
    }
    shown
}

/// What is asked for where somebody changes how far an alert is.
pub(super) fn handling(name: &str) -> Option<Option<Handling>> {
    match name {
        "acknowledge" => Some(Some(Handling::Acknowledged)),
        "close" => Some(Some(Handling::Closed)),
        "reopen" => Some(Some(Handling::Open)),
        "note" => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_did_stands_beside_what_is_kept() {
        let listed = |handling, silence| Listed {
            time: Timestamp(7),
            id: "a".to_owned(),
            body: r#"{"id":"a"}"#.to_owned(),
            handling,
            silence,
        };
        let all = [listed(None, None), listed(Some(Handling::Closed), Some(3))];
        assert_eq!(array(&all), r#"[{"id":"a"},{"id":"a","handling":"closed","silence":3}]"#);
        assert_eq!(page(&all, 2), format!(r#"{{"alerts":{},"next_cursor":"7.a"}}"#, array(&all)));
        assert_eq!(page(&[], 2), r#"{"alerts":[]}"#);
        let deed = Deed { at: Timestamp(0), who: "ada".to_owned(), handling: None, note: "\"".to_owned() };
        let shown: Value = serde_json::from_str(&with_deeds(&all[1], &[deed])).expect("JSON");
        assert_eq!((&shown["history"][0]["note"], &shown["silence"]), (&json!("\""), &json!(3)));
    }
}
