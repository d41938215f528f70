//! Alerts as the API, the page and the correlator ask for them.

use std::fmt::Write as _;
use std::time::Duration;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, Rows, params_from_iter};

use super::{AlertQuery, Arrived, Handling, Listed, Related, StoreError, outbox};
use crate::alert::{Alert, CANARY, Level};

/// Related alerts of a kind.
const RELATED_MAX: usize = 50;

/// How far away in time a related alert may be.
const RELATED_WITHIN: Duration = Duration::from_secs(24 * 3_600);

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
    let (sql, values) = listing("body", query);
    let mut select = connection.prepare_cached(&sql)?;
    collect(select.query(params_from_iter(values))?)
}

/// The same with what people did about them, and without reading them.
pub(super) fn listed(connection: &Connection, query: &AlertQuery) -> Result<Vec<Listed>, StoreError> {
    let (sql, values) = listing("time, id, body, handling, silence", query);
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(params_from_iter(values), listed_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Alerts that answer the query and arrived after its place, in the order of arrival: a row keeps its number, however often
/// the alert changes. Where the place is one of another database, all of this one is new.
pub(super) fn arrived(connection: &Connection, query: &AlertQuery) -> Result<Arrived, StoreError> {
    let newest = newest(connection)?; // First: what comes meanwhile is for the next time.
    let after = query.after.filter(|after| *after <= newest).unwrap_or(0);
    let mut filter = Filter::new(query);
    filter.sql.push_str(" AND rowid > ? AND rowid <= ?");
    filter.values.extend([Sql::from(after), Sql::from(newest)]);
    let limit = query.limit.min(AlertQuery::LIMIT_MAX);
    let sql = format!(
        "SELECT time, id, body, handling, silence, rowid FROM alerts NOT INDEXED WHERE 1{} ORDER BY rowid LIMIT {limit}",
        filter.sql
    );
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(params_from_iter(filter.values), |row| Ok((listed_row(row)?, row.get(5)?)))?;
    let rows: Vec<(Listed, i64)> = rows.collect::<Result<_, _>>()?;
    let place = rows.last().filter(|_| rows.len() >= limit).map_or(newest, |(_, place)| *place);
    Ok(Arrived { alerts: rows.into_iter().map(|(alert, _)| alert).collect(), place })
}

/// The place of the alert that arrived last.
pub(super) fn newest(connection: &Connection) -> Result<i64, StoreError> {
    let mut select = connection.prepare_cached("SELECT coalesce(max(rowid), 0) FROM alerts")?;
    Ok(select.query_row([], |row| row.get(0))?)
}

/// One of them.
pub(super) fn listed_one(connection: &Connection, id: &str) -> Result<Option<Listed>, StoreError> {
    let mut select = connection.prepare_cached("SELECT time, id, body, handling, silence FROM alerts WHERE id = ?1")?;
    Ok(select.query_row([id], listed_row).optional()?)
}

fn listed_row(row: &Row<'_>) -> rusqlite::Result<Listed> {
    let handling: Option<String> = row.get(3)?;
    Ok(Listed {
        time: crate::clock::Timestamp(row.get(0)?),
        id: row.get(1)?,
        body: row.get(2)?,
        handling: handling.as_deref().and_then(Handling::of_name),
        silence: row.get(4)?,
    })
}

fn listing(columns: &str, query: &AlertQuery) -> (String, Vec<Sql>) {
    let filter = Filter::new(query);
    let limit = query.limit.min(AlertQuery::LIMIT_MAX);
    let sql = format!("SELECT {columns} FROM alerts WHERE 1{} ORDER BY time DESC, id DESC LIMIT {limit}", filter.sql);
    (sql, filter.values)
}

/// What else the same user did, and what else was done to the same object, in the day before and after.
pub(super) fn related(connection: &Connection, id: &str) -> Result<Option<Related>, StoreError> {
    let Some(alert) = one(connection, id)? else { return Ok(None) };
    let near = AlertQuery {
        since: Some(alert.time.minus(RELATED_WITHIN)),
        until: Some(alert.time.plus(RELATED_WITHIN)),
        cluster: Some(alert.cluster.clone()),
        limit: RELATED_MAX + 1,
        ..AlertQuery::default()
    };
    let found = |query: Option<AlertQuery>| -> Result<Vec<Listed>, StoreError> {
        let mut found = query.map_or_else(|| Ok(Vec::new()), |query| listed(connection, &query))?;
        found.retain(|other| other.id != id);
        found.truncate(RELATED_MAX);
        Ok(found)
    };
    let of_user =
        alert.event.user.username.as_ref().map(|user| AlertQuery { user: Some(user.clone()), ..near.clone() });
    let of_object = object(&alert).map(|object| AlertQuery {
        object: Some(object),
        // Of a cluster-scoped object there is one of a name only.
        namespace: alert.event.object_ref.as_ref().and_then(|object| object.namespace.clone()),
        ..near.clone()
    });
    Ok(Some(Related { user: found(of_user)?, object: found(of_object)? }))
}

/// What an alert is about, as the table calls it: `pods/web-0`.
pub(super) fn object(alert: &Alert) -> Option<String> {
    let object = alert.event.object_ref.as_ref()?;
    Some(format!("{}/{}", object.resource.as_deref()?, object.name.as_deref()?))
}

/// The conditions of a query: their text holds no value of the caller's.
#[derive(Default)]
pub(super) struct Filter {
    pub(super) sql: String,
    pub(super) values: Vec<Sql>,
}

impl Filter {
    pub(super) fn new(query: &AlertQuery) -> Self {
        let mut filter = Self::default();
        filter.add("time >= ?", query.since.map(|time| time.0));
        filter.add("time < ?", query.until.map(|time| time.0));
        // The daemon's own are shown to whoever asks for them by name.
        filter.add("rule != ?", query.rule.is_none().then(|| CANARY.to_owned()));
        filter.add("rule = ?", query.rule.clone());
        filter.add("cluster = ?", query.cluster.clone());
        filter.add("namespace = ?", query.namespace.clone());
        filter.add("verb = ?", query.verb.clone());
        filter.add("object = ?", query.object.clone());
        if let Some(user) = &query.user {
            // The plus keeps the indices of users out: they would bring all that is theirs, to be sorted before the first.
            filter.add("(+username = ?", Some(user.clone()));
            filter.sql.push_str(" OR +acting_as = ?)");
            filter.values.push(Sql::from(user.clone()));
        }
        match query.handling {
            Some(Handling::Open) => filter.sql.push_str(" AND handling IS NULL"),
            Some(handling) => filter.add("handling = ?", Some(handling.as_str().to_owned())),
            None => {}
        }
        if let Some(silenced) = query.silenced {
            filter.sql.push_str(if silenced { " AND silence IS NOT NULL" } else { " AND silence IS NULL" });
        }
        if let Some((time, id)) = &query.before {
            filter.sql.push_str(" AND (time, id) < (?, ?)");
            filter.values.extend([Sql::from(time.0), Sql::from(id.clone())]);
        }
        filter.level(query.min_level);
        filter.add("holds(body, ?)", query.text.clone().filter(|text| !text.is_empty()));
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
}
