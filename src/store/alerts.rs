//! Alerts as the API and the correlator ask for them.

use std::fmt::Write as _;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Rows, params_from_iter};

use super::{AlertQuery, StoreError, outbox};
use crate::alert::{Alert, CANARY, Level};

/// Reads alerts from rows whose first column is the body.
pub(super) fn collect(mut rows: Rows<'_>) -> Result<Vec<Alert>, StoreError> {
    let mut alerts = Vec::new();
    while let Some(row) = rows.next()? {
        alerts.push(outbox::alert(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?);
    }
    Ok(alerts)
}

/// Alerts that are still firing, in the order of their times.
pub(super) fn firing(connection: &Connection) -> Result<Vec<Alert>, StoreError> {
    let mut select = connection.prepare_cached("SELECT body FROM alerts WHERE status = 'firing' ORDER BY time, id")?;
    collect(select.query([])?)
}

/// One alert.
pub(super) fn one(connection: &Connection, id: &str) -> Result<Option<Alert>, StoreError> {
    let mut select = connection.prepare_cached("SELECT body FROM alerts WHERE id = ?1")?;
    let body: Option<String> = select.query_row([id], |row| row.get(0)).optional()?;
    body.map(|body| outbox::alert(&body)).transpose()
}

/// Alerts that answer the query, newest first.
pub(super) fn list(connection: &Connection, query: &AlertQuery) -> Result<Vec<Alert>, StoreError> {
    let filter = Filter::new(query);
    let limit = query.limit.min(AlertQuery::LIMIT_MAX);
    let sql = format!("SELECT body FROM alerts WHERE 1{} ORDER BY time DESC, id DESC LIMIT {limit}", filter.sql);
    let mut select = connection.prepare_cached(&sql)?;
    collect(select.query(params_from_iter(filter.values))?)
}

/// The conditions of a query: their text holds no value of the caller's.
#[derive(Default)]
struct Filter {
    sql: String,
    values: Vec<Sql>,
}

impl Filter {
    fn new(query: &AlertQuery) -> Self {
        let mut filter = Self::default();
        filter.add("time >= ?", query.since.map(|time| time.0));
        filter.add("time < ?", query.until.map(|time| time.0));
        // The daemon's own are shown to whoever asks for them by name.
        filter.add("rule != ?", query.rule.is_none().then(|| CANARY.to_owned()));
        filter.add("rule = ?", query.rule.clone());
        filter.add("cluster = ?", query.cluster.clone());
        filter.add("namespace = ?", query.namespace.clone());
        if let Some(user) = &query.user {
            filter.add("(username = ?", Some(user.clone()));
            filter.sql.push_str(" OR acting_as = ?)");
            filter.values.push(Sql::from(user.clone()));
        }
        if let Some((time, id)) = &query.before {
            filter.sql.push_str(" AND (time, id) < (?, ?)");
            filter.values.extend([Sql::from(time.0), Sql::from(id.clone())]);
        }
        filter.level(query.min_level);
        filter.text(query.text.as_deref());
        filter
    }

    fn add(&mut self, condition: &str, value: Option<impl Into<Sql>>) {
        if let Some(value) = value {
            self.sql.push_str(" AND ");
            self.sql.push_str(condition);
            self.values.push(value.into());
        }
    }

    fn level(&mut self, min: Option<Level>) {
        let Some(min) = min.filter(|min| *min > Level::Informational) else { return };
        let names: Vec<String> =
            Level::ALL.iter().filter(|level| **level >= min).map(|level| format!("'{level}'")).collect();
        let _ = write!(self.sql, " AND level IN ({})", names.join(", ")); // Writing to a string cannot fail.
    }

    /// Any value of the JSON, but no key. The look at the whole body only spares the walk through most of them.
    fn text(&mut self, text: Option<&str>) {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return };
        let text = text.to_ascii_lowercase();
        let quoted = serde_json::Value::from(text.as_str()).to_string();
        let inside = quoted[1..quoted.len() - 1].to_owned();
        self.sql.push_str(
            " AND instr(lower(body), ?) > 0
             AND EXISTS (SELECT 1 FROM json_tree(alerts.body) AS v WHERE instr(lower(v.atom), ?) > 0)",
        );
        self.values.extend([Sql::from(inside), Sql::from(text)]);
    }
}
