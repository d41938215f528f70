//! What people change: how far an alert is, and what the sinks are not told. Who did it stays on record, and in the log.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::AdminState;
use super::access::Caller;
use super::answer::Answer;
use super::api::{error, handling, within_time};
use crate::alert::CANARY;
use crate::clock::{self, Timestamp};
use crate::store::{Conditions, Deed, NewSilence};
use crate::units::Span;

/// Bytes of a note, or of a reason.
const NOTE_MAX: usize = 4_000;
/// Bytes of one condition.
const CONDITION_MAX: usize = 1_000;
/// The longest silence: what is to be hidden for ever is a rule's filter.
const SILENCE_MAX: Span = Span(std::time::Duration::from_secs(90 * 86_400));

/// The body of `POST /api/v1/alerts/{id}/handling`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Handled {
    action: String,
    #[serde(default)]
    note: String,
}

/// The body of `POST /api/v1/silences`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Silenced {
    conditions: Conditions,
    #[serde(default)]
    reason: String,
    lasts: String,
}

/// `POST /api/v1/alerts/{id}/handling`.
pub(super) async fn handle(state: &AdminState, id: &str, body: &[u8], caller: &Caller) -> Answer {
    let deed = match read_deed(body, caller) {
        Ok(deed) => deed,
        Err(words) => return error(StatusCode::BAD_REQUEST, &words),
    };
    let handling = deed.handling.map_or("note", |handling| handling.as_str());
    match within_time(state.store.deed(id, deed)).await {
        Ok(true) => {
            tracing::info!(who = %caller.who, alert = id, handling, "an alert was handled");
            super::api::alert(state, id).await
        }
        Ok(false) => match within_time(state.store.alert(id)).await {
            Ok(Some(_)) => error(StatusCode::CONFLICT, "too much is on record for this alert already"),
            Ok(None) => error(StatusCode::NOT_FOUND, "no alert has this id"),
            Err(answer) => answer,
        },
        Err(answer) => answer,
    }
}

fn read_deed(body: &[u8], caller: &Caller) -> Result<Deed, String> {
    let Handled { action, note } = serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
    let handling = handling(&action).ok_or("`action` must be acknowledge, close, reopen or note")?;
    let note = bounded("note", &note)?;
    if handling.is_none() && note.is_empty() {
        return Err("an empty note says nothing".to_owned());
    }
    Ok(Deed { at: clock::now(), who: caller.who.clone(), handling, note })
}

/// `POST /api/v1/silences`.
pub(super) async fn silence(state: &AdminState, body: &[u8], caller: &Caller) -> Answer {
    let new = match read_silence(body, caller, clock::now()) {
        Ok(new) => new,
        Err(words) => return error(StatusCode::BAD_REQUEST, &words),
    };
    let conditions = json!(new.conditions);
    let expires = new.expires;
    match within_time(state.store.silence(new)).await {
        Ok(Some(id)) => {
            tracing::info!(who = %caller.who, silence = id, %conditions, %expires, "alerts are silenced");
            Answer::json(StatusCode::CREATED, &json!({"id": id, "expires": expires}))
        }
        Ok(None) => error(StatusCode::CONFLICT, "too many silences are in force; end some first"),
        Err(answer) => answer,
    }
}

fn read_silence(body: &[u8], caller: &Caller, now: Timestamp) -> Result<NewSilence, String> {
    let Silenced { mut conditions, reason, lasts } =
        serde_json::from_slice(body).map_err(|error| format!("the body: {error}"))?;
    let Conditions { rule, cluster, user, namespace, verb, object } = &mut conditions;
    for condition in [rule, cluster, user, namespace, verb, object] {
        // An empty field of a form is none.
        condition.take_if(|text| text.is_empty());
    }
    if let Some((name, _)) = conditions.set().find(|(_, text)| text.len() > CONDITION_MAX) {
        return Err(format!("`{name}` is longer than {CONDITION_MAX} bytes"));
    }
    if conditions.set().next().is_none() {
        return Err("say what is silenced: without any condition it would be everything".to_owned());
    }
    if conditions.rule.as_deref() == Some(CANARY) {
        return Err("the canary is not silenced here: take `canary.sink` away".to_owned());
    }
    let lasts: Span = lasts.parse().map_err(|_| "`lasts` must be a span like 4h".to_owned())?;
    if lasts.0.is_zero() || lasts.0 > SILENCE_MAX.0 {
        return Err("`lasts` must be more than nothing and at most 90d; what is to be quiet for longer belongs in a filter of the rules".to_owned());
    }
    let reason = bounded("reason", &reason)?;
    if reason.is_empty() {
        return Err("`reason` must say why: somebody else will wonder".to_owned());
    }
    Ok(NewSilence { conditions, reason, who: caller.who.clone(), created: now, expires: now.plus(lasts.0) })
}

/// `POST /api/v1/silences/{id}/end`.
pub(super) async fn end_silence(state: &AdminState, id: i64, caller: &Caller) -> Answer {
    match within_time(state.store.end_silence(id, &caller.who, clock::now())).await {
        Ok(true) => {
            tracing::info!(who = %caller.who, silence = id, "a silence was ended");
            Answer::json(StatusCode::OK, &json!({"id": id}))
        }
        Ok(false) => error(StatusCode::NOT_FOUND, "no silence of this number is in force"),
        Err(answer) => answer,
    }
}

fn bounded(name: &str, text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.len() > NOTE_MAX { Err(format!("`{name}` is longer than {NOTE_MAX} bytes")) } else { Ok(text.to_owned()) }
}
