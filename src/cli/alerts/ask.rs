//! Questions about alerts, and the answers.

use anyhow::anyhow;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::alert::{Alert, RuleName};
use crate::cli::Failure;
use crate::cli::client::{Client, Problem};
use crate::store::{Deed, Handling};
use crate::text::visible;

/// The longest page that the daemon gives.
const PAGE_MAX: usize = 1_000;
/// Characters of an id: what is as long is a whole one.
const ID_LEN: usize = 32;
/// Fewer characters of an id could begin too many.
const ID_MIN: usize = 4;
/// Alerts that are named where the beginning of an id is that of several.
const NAMED_MAX: usize = 5;

/// An alert, and what people did about it.
#[derive(Clone, Debug, Deserialize)]
pub struct Handled {
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// How far people are with it.
    pub handling: Option<Handling>,
    /// The silence that kept it from the sinks.
    pub silence: Option<i64>,
    /// What was done, where one alert was asked for.
    #[serde(default)]
    pub history: Vec<Deed>,
}

/// Alerts as the daemon writes them, so that JSON is passed on as it is.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// In the order that was asked for.
    pub alerts: Vec<Box<RawValue>>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<String>,
    /// In the order of arrival: what to ask for `after` next.
    pub place: Option<i64>,
}

/// A page of at most `left` alerts.
pub async fn listing(
    client: &Client,
    query: &[(&'static str, String)],
    left: usize,
    cursor: Option<String>,
) -> Result<Page, Problem> {
    let mut query = query.to_vec();
    query.push(("limit", left.clamp(1, PAGE_MAX).to_string()));
    query.extend(cursor.map(|cursor| ("cursor", cursor)));
    client.get("/api/v1/alerts", &query).await
}

/// An alert as one line of JSON.
pub(in crate::cli) fn line(text: &RawValue) -> String {
    // The daemon writes none in between; something in front of it may.
    text.get().replace(['\n', '\r'], " ")
}

/// An alert that is to be shown.
pub(in crate::cli) fn read(text: &RawValue) -> Result<Handled, Failure> {
    let read = serde_json::from_str(text.get());
    read.map_err(|error| anyhow!("the daemon's alert cannot be read, is it of another version? {error}").into())
}

/// The path of an alert.
pub(in crate::cli) fn path(id: &str, below: &str) -> Result<String, Failure> {
    let right = !id.is_empty() && id.len() <= ID_LEN && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if right {
        return Ok(format!("/api/v1/alerts/{id}{below}"));
    }
    Err(anyhow!("`{}` is no alert's id; `kubesiren alerts list` shows them", visible(id)).into())
}

/// The alert that a user means, by its id or the beginning of it.
pub async fn one(client: &Client, wanted: &str) -> Result<Box<RawValue>, Failure> {
    let id = wanted.to_ascii_lowercase();
    let path = path(&id, "")?;
    match client.get(&path, &[]).await {
        Err(problem) if problem.is_not_found() && (ID_MIN..ID_LEN).contains(&id.len()) => begins(client, &id).await,
        Err(problem) if problem.is_not_found() => Err(none(&id)),
        answer => Ok(answer?),
    }
}

fn none(id: &str) -> Failure {
    anyhow!(
        "no alert has the id `{id}`; `kubesiren alerts list` shows those there are (ended ones for journal.keep_alerts)"
    )
    .into()
}

/// Looks for the beginning among all texts of alerts, of which the ids are some.
async fn begins(client: &Client, id: &str) -> Result<Box<RawValue>, Failure> {
    #[derive(Deserialize)]
    struct Name {
        id: String,
    }
    let query = [("q", id.to_owned())];
    let (mut found, mut names) = (None, Vec::new());
    let mut cursor = None;
    loop {
        let page = listing(client, &query, PAGE_MAX, cursor.take()).await?;
        for text in page.alerts {
            let name: Name = serde_json::from_str(text.get()).map_err(anyhow::Error::from)?;
            if name.id.starts_with(id) {
                names.push(name.id);
                found = Some(text);
            }
        }
        match page.next_cursor {
            Some(next) if names.len() <= NAMED_MAX => cursor = Some(next),
            _ => break,
        }
    }
    match (found, names.as_slice()) {
        (Some(_), [whole]) => Ok(client.get(&path(whole, "")?, &[]).await?),
        (None, _) | (_, []) => Err(none(id)),
        (Some(_), several) => {
            let mut lines: String = several.iter().take(NAMED_MAX).map(|id| format!("\n  {}", visible(id))).collect();
            if several.len() > NAMED_MAX {
                lines.push_str("\n  …");
            }
            Err(anyhow!("`{id}` begins several ids; give more of it:{lines}").into())
        }
    }
}

/// The rules that the daemon uses.
pub async fn rules(client: &Client) -> Result<Vec<RuleName>, Problem> {
    #[derive(Deserialize)]
    struct Rules {
        rules: Vec<RuleName>,
    }
    let Rules { rules } = client.get("/api/v1/rules", &[]).await?;
    Ok(rules)
}

/// The id of the rule that a user means: by id or title, or by the first characters of the id. What is none of a rule in use
/// is taken as it is, since alerts outlive rules.
pub async fn rule_id(client: &Client, wanted: &str) -> Result<String, Failure> {
    let rules = rules(client).await?;
    if let Some(rule) = rules.iter().find(|rule| rule.id == wanted || rule.title.eq_ignore_ascii_case(wanted)) {
        return Ok(rule.id.clone());
    }
    let found: Vec<&RuleName> = rules.iter().filter(|rule| !wanted.is_empty() && rule.id.starts_with(wanted)).collect();
    match found.as_slice() {
        [] => Ok(wanted.to_owned()),
        [rule] => Ok(rule.id.clone()),
        several => {
            let lines: String =
                several.iter().map(|rule| format!("\n  {}  {}", visible(&rule.id), visible(&rule.title))).collect();
            Err(anyhow!("`{}` begins several rules' ids:{lines}", visible(wanted)).into())
        }
    }
}
