//! From episodes to alerts and back, and to the matches of the correlations that are made of them.

use std::sync::Arc;

use super::super::summary;
use super::super::timeline::Timeline;
use super::super::window::Chain;
use super::group::group_in;
use super::{Change, Fed, Held};
use crate::alert::{Alert, Kind, Status};
use crate::engine::{Consumer, Fields, Packed, Shown};
use crate::hash;
use crate::rule::ir::CorrelationKind;

/// A group goes: an episode that was told must be seen to end.
pub(super) fn resolve_told(consumer: &Consumer, held: &mut Held) -> Vec<Change> {
    if !consumer.alerts {
        return Vec::new();
    }
    let told = held.key.leave().into_iter();
    told.map(|(id, chain)| Change { kind: Kind::Resolved, alert: alert(consumer, held, id, &chain, Status::Resolved) })
        .collect()
}

/// An episode as the match of those correlations that are made of it.
pub(super) fn fed_by(consumer: &Consumer, held: &Held, id: &str, chain: &Chain) -> Fed {
    let shown = chain.shown.open();
    Fed {
        cluster: Arc::clone(&held.id.1),
        time: chain.opened,
        request: hash::short(&[id.as_bytes()]),
        audit_id: shown.event.audit_id.into(),
        group: group_in(consumer, &held.id.2),
        fields: Arc::new(shown.fields),
        shown: chain.shown.clone(),
        again: false,
    }
}

/// A pure function of rule, cluster, group and evidence.
pub(super) fn alert_id(rule: &str, cluster: &str, group: &str, evidence: u64) -> String {
    let parts = [rule.as_bytes(), cluster.as_bytes(), group.as_bytes(), &evidence.to_le_bytes()];
    hash::of(&parts).to_hex()[..32].to_owned()
}

pub(super) fn alert(consumer: &Consumer, held: &Held, id: String, chain: &Chain, status: Status) -> Alert {
    let Shown { event, matched, said, .. } = chain.shown.open();
    let group = group_in(consumer, &held.id.2);
    let said = || said.unwrap_or_else(|| summary::sentence(&event));
    let summary = if let CorrelationKind::FirstSeen(rule) = &consumer.kind {
        let fields: Vec<&str> = rule.fields.iter().map(|field| &*field.name).collect();
        summary::of_first_seen(&group, &fields, &event)
    } else if consumer.single && chain.count == 1 {
        said()
    } else if consumer.single {
        said() + &times(chain.count)
    } else {
        summary::of_several(&group, chain.count, chain.last.since(chain.first), &event)
    };
    Alert {
        id,
        status,
        time: chain.opened,
        cluster: held.id.1.to_string(),
        rule: Arc::clone(&consumer.info),
        summary,
        count: chain.count,
        first_seen: chain.first,
        last_seen: chain.last,
        group,
        event,
        matched,
        timeline: chain.timeline.told(consumer),
        audit_ids: chain.audit_ids.iter().map(|(_, id)| id.to_string()).collect(),
    }
}

pub(super) fn times(count: u64) -> String {
    format!(", {count} times")
}

/// The episode of an alert that the store knows.
pub(super) fn chain_of(alert: &Alert, consumer: &Consumer) -> Chain {
    // Of a rule about single events; others say something of the whole episode, made anew each time.
    let said = alert.summary.strip_suffix(&times(alert.count)).unwrap_or(&alert.summary);
    Chain {
        first: alert.first_seen,
        opened: alert.time,
        last: alert.last_seen,
        count: alert.count,
        evidence: 0, // Only for naming episodes that have no name yet.
        timeline: Timeline::of(alert, consumer),
        audit_ids: alert.audit_ids.iter().map(|id| (alert.first_seen, id.as_str().into())).collect(),
        shown: Packed::from(Shown {
            event: alert.event.clone(),
            matched: alert.matched.clone(),
            said: Some(said.to_owned()),
            fields: Fields::new(),
        }),
    }
}
