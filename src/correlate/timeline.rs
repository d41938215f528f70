//! What happened in an episode of several rules: one step for each rule that was true, in the order of their times.

use super::summary;
use super::window::Entry;
use crate::alert::{self, Alert};
use crate::clock::Timestamp;
use crate::engine::{Consumer, Packed, Shown};

/// Steps that an alert tells of. An episode may have as many as there are rules; those beyond are counted in `count`.
const TOLD_MAX: usize = 20;

/// The steps of an episode, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline(Vec<Step>);

/// The matches of one rule.
#[derive(Clone, Debug)]
struct Step {
    /// Of the first one.
    time: Timestamp,
    member: u16,
    request: u64,
    /// What the first one was, if that is still known.
    shown: Option<Packed>,
    count: u64,
}

impl Step {
    fn order(&self) -> (Timestamp, u16, u64) {
        (self.time, self.member, self.request)
    }
}

impl Timeline {
    /// Counts matches in, of which `entry` is the first. The order in which they are added does not matter.
    pub(super) fn add(&mut self, entry: &Entry, count: u64) {
        let mut step =
            Step { time: entry.time, member: entry.member, request: entry.request, shown: entry.shown.clone(), count };
        if let Some(at) = self.0.iter().position(|known| known.member == step.member) {
            self.0[at].count += count;
            if self.0[at].order() <= step.order() {
                return;
            }
            step.count = self.0.remove(at).count;
        }
        let at = self.0.partition_point(|known| known.order() <= step.order());
        self.0.insert(at, step);
    }

    /// What an alert says of it.
    pub(super) fn told(&self, consumer: &Consumer) -> Vec<alert::Step> {
        let told = self.0.iter().take(TOLD_MAX).filter_map(|step| {
            let info = consumer.steps.get(usize::from(step.member))?;
            let said = step.shown.as_ref().map(Packed::open);
            let summary = said.map(|shown| shown.said.unwrap_or_else(|| summary::sentence(&shown.event)));
            Some(alert::Step {
                time: step.time,
                rule: alert::RuleName { id: info.id.clone(), title: info.title.clone(), level: info.level },
                summary: summary.unwrap_or_default(),
                count: step.count,
            })
        });
        told.collect()
    }

    /// That of an alert which the store knows. Steps of rules that are gone are gone with them.
    pub(super) fn of(alert: &Alert, consumer: &Consumer) -> Self {
        let steps = alert.timeline.iter().filter_map(|step| {
            let member = consumer.steps.iter().position(|info| info.id == step.rule.id)?;
            let said = Some(step.summary.clone());
            let shown = Shown { said, ..Shown::default() };
            Some(Step {
                time: step.time,
                member: u16::try_from(member).ok()?,
                request: 0, // Nothing at the very same time takes its place.
                shown: Some(Packed::from(shown)),
                count: step.count,
            })
        });
        Self(steps.collect())
    }
}
