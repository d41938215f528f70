//! What to send from the deliveries that are due: alerts that belong together make one message, and what goes over
//! the rate is told in a digest. Nothing here reads a clock or sends anything.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::alert::Status;
use crate::clock::Timestamp;
use crate::sink::{Digest, Item, Message, Traits};
use crate::store::{Delivery, HELD_BACK, Kind, Settlement};

/// An alert that goes on is shown growing at most this often.
const UPDATE_EVERY: Duration = Duration::from_secs(15);
/// What waits for the rate is looked at again after this long.
const RATE_WAIT: Duration = Duration::from_secs(2);

/// What to do with the deliveries that are due.
#[derive(Debug, Default)]
pub struct Plan {
    /// Deliveries that need no message.
    pub settled: Vec<(i64, Settlement)>,
    /// What to send, in this order.
    pub messages: Vec<Message>,
    /// Whether something was left for when there are tokens again.
    pub waits: bool,
}

/// Why something waits that did not fail.
fn held_back(why: &str) -> String {
    format!("{HELD_BACK}{why}")
}

/// What the planner remembers between two plans. Losing it costs nothing but an early update.
#[derive(Debug, Default)]
pub struct Memory {
    /// When an alert was last updated, and a message that tells of several, by its place.
    updated: HashMap<String, Timestamp>,
    /// Alerts whose end is held back, and until when: told again meanwhile as firing.
    held: HashMap<String, Timestamp>,
}

impl Memory {
    /// Whether the sink shall not yet know that the alert ended.
    #[must_use]
    pub fn holds(&self, alert: &str, now: Timestamp) -> bool {
        self.held.get(alert).is_some_and(|until| now < *until)
    }
}

/// Plans the deliveries `due` at `now`, for a sink that may be sent `tokens` messages.
#[must_use]
pub fn plan(due: Vec<Delivery>, traits: &Traits, tokens: usize, memory: &mut Memory, now: Timestamp) -> Plan {
    // What is later than it can be was noted before the clock was set back.
    let held_max = traits.resend.unwrap_or_default() * 4;
    memory.updated.retain(|_, at| *at <= now && now < at.plus(UPDATE_EVERY));
    memory.held.retain(|_, until| now < *until && *until <= now.plus(held_max));
    let mut plan = Plan::default();
    if let Some(resend) = traits.resend {
        hold(&due, now.plus(resend * 4), memory);
    }
    let items = if traits.for_people { merge(due) } else { one_each(due) };
    let items: Vec<Item> = items.into_iter().filter_map(|item| admit(item, traits, memory, &mut plan)).collect();
    if traits.for_people {
        for_people(items, traits, tokens, now, &mut plan);
    } else {
        let messages = chunks(items, traits.batch_max.max(1)).into_iter();
        plan.messages.extend(messages.map(Message::of));
    }
    for item in plan.messages.iter().flat_map(|message| &message.items) {
        if traits.takes_updates && item.kind != Kind::Resolved {
            memory.updated.extend(names(item).map(|name| (name.clone(), now)));
        }
    }
    plan
}

/// By what it is known when something was updated: the alert, and the message that told of it.
fn names(item: &Item) -> impl Iterator<Item = &String> {
    [Some(&item.alert.id), item.remembered.as_ref()].into_iter().flatten()
}

fn item(delivery: Delivery) -> Item {
    let Delivery { seq, kind, mut alert, attempts, remembered } = delivery;
    // The store hands out the alert as it is now, but a sink hears of the beginning before the end.
    alert.status = if kind == Kind::Resolved { Status::Resolved } else { Status::Firing };
    Item { seqs: vec![seq], kind, alert, attempts, remembered }
}

fn one_each(due: Vec<Delivery>) -> Vec<Item> {
    due.into_iter().map(item).collect()
}

/// One item per alert: people are told once what began, grew and ended while nobody could be told.
fn merge(due: Vec<Delivery>) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    for next in due.into_iter().map(item) {
        let Some(&at) = index.get(&next.alert.id) else {
            index.insert(next.alert.id.clone(), items.len());
            items.push(next);
            continue;
        };
        let earlier = &mut items[at];
        earlier.seqs.extend(next.seqs);
        earlier.attempts = earlier.attempts.max(next.attempts);
        earlier.remembered = next.remembered.or(earlier.remembered.take());
        let ended = Kind::Resolved == earlier.kind.max(next.kind) || earlier.alert.status == Status::Resolved;
        earlier.kind = if earlier.kind == Kind::Firing { Kind::Firing } else { earlier.kind.max(next.kind) };
        earlier.alert = next.alert;
        earlier.alert.status = if ended { Status::Resolved } else { Status::Firing };
    }
    items
}

/// An alert that is resolved before Alertmanager's first notification is never notified. Where it had ended before the
/// sink heard of it, because the sink was away or the events were old, the end is held back as long as a firing alert
/// lives.
fn hold(due: &[Delivery], until: Timestamp, memory: &mut Memory) {
    let late = due.iter().filter(|d| d.kind == Kind::Firing && d.alert.status == Status::Resolved);
    memory.held.extend(late.map(|d| (d.alert.id.clone(), until)));
}

/// Settles what needs no message, or not yet; returns the others.
fn admit(item: Item, traits: &Traits, memory: &Memory, plan: &mut Plan) -> Option<Item> {
    let id = &item.alert.id;
    match item.kind {
        // Nothing to change: what grew is told again, or at the end.
        Kind::Update if !traits.takes_updates || item.remembered.is_none() => {
            settle(&item, &Settlement::Sent { remember: None }, plan);
            return None;
        }
        Kind::Update => {
            if let Some(at) = names(&item).filter_map(|name| memory.updated.get(name)).max() {
                later(&item, at.plus(UPDATE_EVERY), "was updated just now", plan);
                return None;
            }
        }
        Kind::Resolved if !traits.for_people => {
            if let Some(until) = memory.held.get(id).copied() {
                later(&item, until, "is to be seen firing first", plan);
                return None;
            }
        }
        _ => {}
    }
    Some(item)
}

fn settle(item: &Item, settlement: &Settlement, plan: &mut Plan) {
    plan.settled.extend(item.seqs.iter().map(|seq| (*seq, settlement.clone())));
}

fn later(item: &Item, not_before: Timestamp, reason: &str, plan: &mut Plan) {
    settle(item, &Settlement::Retry { not_before, reason: held_back(reason) }, plan);
}

/// Messages of alerts that belong together, the worst first, as many as there are tokens; the last one is a digest of
/// whatever else is new. Changes of earlier messages come last, and wait when there are no tokens left.
fn for_people(items: Vec<Item>, traits: &Traits, tokens: usize, now: Timestamp, plan: &mut Plan) {
    let (follow_ups, new): (Vec<Item>, Vec<Item>) =
        items.into_iter().partition(|item| item.remembered.is_some() && item.kind != Kind::Firing);
    let mut groups =
        grouped(new, |item| (item.kind == Kind::Resolved, item.alert.rule.id.clone(), item.alert.cluster.clone()));
    for group in &mut groups {
        group.sort_by_key(|item| item.seqs[0]);
    }
    groups.sort_by_key(|group| {
        let worst = group.iter().map(|item| item.alert.rule.level).max();
        (group[0].kind == Kind::Resolved, Reverse(worst), group[0].seqs[0])
    });
    let mut messages: Vec<Vec<Item>> =
        groups.into_iter().flat_map(|group| chunks(group, traits.batch_max.max(1))).collect();
    if messages.len() > tokens {
        let over = messages.split_off(tokens.saturating_sub(1));
        if tokens == 0 {
            plan.waits = true;
        } else {
            plan.messages.extend(messages.into_iter().map(Message::of));
            plan.messages.push(digest(over.into_iter().flatten().collect()));
        }
    } else {
        plan.messages.extend(messages.into_iter().map(Message::of));
    }
    let mut left = tokens.saturating_sub(plan.messages.len());
    for items in grouped(follow_ups, |item| (Reverse(item.kind), item.remembered.clone())) {
        if left == 0 {
            // Out of the way, so that what is new is seen among what is due.
            items.iter().for_each(|item| later(item, now.plus(RATE_WAIT), "waits for the rate", plan));
        } else {
            left -= 1;
            plan.messages.push(Message::of(items));
        }
    }
}

/// One message that tells of many alerts in short.
pub(super) fn digest(items: Vec<Item>) -> Message {
    let mut rules: Vec<&str> = items.iter().map(|item| item.alert.rule.id.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    let digest = Digest { alerts: items.len(), rules: rules.len() };
    Message { digest: Some(digest), ..Message::of(items) }
}

fn grouped<K: Ord>(items: Vec<Item>, key: impl Fn(&Item) -> K) -> Vec<Vec<Item>> {
    let mut groups: BTreeMap<K, Vec<Item>> = BTreeMap::new();
    for item in items {
        groups.entry(key(&item)).or_default().push(item);
    }
    groups.into_values().collect()
}

/// Lists of at most `max` items. Each has its own memory: one that is cut off the list of all would keep room for all.
fn chunks(items: Vec<Item>, max: usize) -> Vec<Vec<Item>> {
    let mut items = items.into_iter().peekable();
    let mut chunks = Vec::new();
    while items.peek().is_some() {
        chunks.push(items.by_ref().take(max).collect());
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Level;
    use crate::sink::Rate;
    use crate::sink::samples::alert;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn due(seq: i64, kind: Kind, id: &str, rule: &str, level: Level) -> Delivery {
        Delivery { seq, kind, alert: alert(id, rule, level), attempts: 0, remembered: None }
    }

    fn remembered(mut delivery: Delivery, place: &str) -> Delivery {
        delivery.remembered = Some(place.to_owned());
        delivery
    }

    fn chat() -> Traits {
        let rate = Some(Rate { every: Duration::from_secs(1), burst: 10 });
        Traits { takes_updates: true, for_people: true, batch_max: 100, resend: None, rate, watchdog: None }
    }

    fn machine() -> Traits {
        Traits { batch_max: 2, ..Traits::default() }
    }

    fn seqs(plan: &Plan) -> Vec<Vec<i64>> {
        let all = |message: &Message| message.items.iter().flat_map(|item| item.seqs.clone()).collect();
        plan.messages.iter().map(all).collect()
    }

    #[test]
    fn machines_get_everything_in_order_and_no_updates() {
        let kinds = [Kind::Firing, Kind::Resolved, Kind::Update, Kind::Firing];
        let all = kinds.into_iter().zip(1..).map(|(kind, seq)| due(seq, kind, "a", "r", Level::Low)).collect();
        let plan = plan(all, &machine(), usize::MAX, &mut Memory::default(), NOW);
        assert_eq!(seqs(&plan), [vec![1, 2], vec![4]]);
        assert!(matches!(plan.settled[..], [(3, Settlement::Sent { .. })]));
        let status: Vec<_> = plan.messages[0].items.iter().map(|item| item.alert.status).collect();
        assert_eq!(status, [Status::Firing, Status::Resolved]);
    }

    #[test]
    fn the_end_waits_until_alertmanager_has_seen_the_beginning() {
        let traits = Traits { resend: Some(Duration::from_secs(60)), ..machine() };
        let mut memory = Memory::default();
        let mut both = vec![due(1, Kind::Firing, "a", "r", Level::Low), due(2, Kind::Resolved, "a", "r", Level::Low)];
        // The store hands out the alert as it is now: ended.
        both.iter_mut().for_each(|delivery| delivery.alert.status = Status::Resolved);
        let first = plan(both, &traits, usize::MAX, &mut memory, NOW);
        assert_eq!(seqs(&first), [[1]]);
        let after = NOW.plus(Duration::from_secs(240));
        assert!(matches!(first.settled[..], [(2, Settlement::Retry { not_before, .. })] if not_before == after));
        assert!(memory.holds("a", NOW) && !memory.holds("a", after));
        let end = vec![due(2, Kind::Resolved, "a", "r", Level::Low)];
        assert_eq!(seqs(&plan(end, &traits, usize::MAX, &mut memory, after)), [[2]]);
    }

    #[test]
    fn people_get_one_message_per_rule_the_worst_first() {
        let all = vec![
            due(1, Kind::Firing, "a", "low", Level::Low),
            due(2, Kind::Firing, "b", "high", Level::High),
            due(3, Kind::Firing, "c", "low", Level::Low),
            due(4, Kind::Resolved, "d", "high", Level::High),
        ];
        assert_eq!(seqs(&plan(all, &chat(), 10, &mut Memory::default(), NOW)), [vec![2], vec![1, 3], vec![4]]);
    }

    #[test]
    fn what_began_and_ended_unheard_is_told_once() {
        let all = vec![
            due(1, Kind::Firing, "a", "r", Level::Low),
            due(2, Kind::Update, "a", "r", Level::Low),
            due(3, Kind::Resolved, "a", "r", Level::Low),
        ];
        let plan = plan(all, &chat(), 10, &mut Memory::default(), NOW);
        assert_eq!(seqs(&plan), [[1, 2, 3]]);
        let item = &plan.messages[0].items[0];
        assert_eq!((item.kind, item.alert.status), (Kind::Firing, Status::Resolved));
    }

    #[test]
    fn over_the_rate_the_rest_is_one_digest_and_nothing_is_dropped() {
        let firing = |n: i64| due(n, Kind::Firing, &format!("a{n}"), &format!("r{n}"), Level::Low);
        let all = || (0..40).map(firing).collect::<Vec<_>>();
        let plan_with = |tokens| plan(all(), &chat(), tokens, &mut Memory::default(), NOW);
        for tokens in 1..=41 {
            let plan = plan_with(tokens);
            assert!(plan.messages.len() <= tokens);
            let mut told: Vec<_> = seqs(&plan).concat();
            told.sort_unstable();
            assert_eq!(told, (0..40).collect::<Vec<_>>());
            let digests: Vec<_> = plan.messages.iter().filter_map(|message| message.digest).collect();
            let over = 40_usize.saturating_sub(tokens - 1);
            assert_eq!(digests, if tokens < 40 { vec![Digest { alerts: over, rules: over }] } else { vec![] });
        }
        let none = plan_with(0);
        assert!(none.waits && none.messages.is_empty() && none.settled.is_empty());
    }

    #[test]
    fn changes_of_earlier_messages_come_last_and_make_room() {
        let all = vec![
            remembered(due(1, Kind::Resolved, "a", "r", Level::Low), "C 1"),
            remembered(due(2, Kind::Update, "b", "r", Level::Low), "C 2"),
            due(3, Kind::Firing, "c", "r", Level::Low),
        ];
        let plan = plan(all, &chat(), 2, &mut Memory::default(), NOW);
        assert_eq!(seqs(&plan), [[3], [1]]);
        assert!(matches!(plan.settled[..], [(2, Settlement::Retry { .. })]));
    }

    #[test]
    fn a_message_of_many_alerts_changes_no_oftener_than_one_of_one() {
        let mut memory = Memory::default();
        let update = |seq, id| vec![remembered(due(seq, Kind::Update, id, "r", Level::Low), "C 1 group")];
        let both = [update(1, "a"), update(2, "b")].concat();
        assert_eq!(seqs(&plan(both, &chat(), 10, &mut memory, NOW)), [vec![1, 2]]);
        let next = plan(update(3, "c"), &chat(), 10, &mut memory, NOW.plus(Duration::from_secs(1)));
        assert!(next.messages.is_empty() && matches!(next.settled[..], [(3, Settlement::Retry { .. })]));
        let later = plan(update(3, "c"), &chat(), 10, &mut memory, NOW.plus(UPDATE_EVERY));
        assert_eq!(seqs(&later), [[3]]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_back() {
        let mut memory = Memory::default();
        let update = || vec![remembered(due(1, Kind::Update, "a", "r", Level::Low), "C 1")];
        assert_eq!(plan(update(), &chat(), 10, &mut memory, NOW).messages.len(), 1);
        let earlier = NOW.minus(Duration::from_secs(86_400));
        assert_eq!(plan(update(), &chat(), 10, &mut memory, earlier).messages.len(), 1);

        let traits = Traits { resend: Some(Duration::from_secs(60)), ..machine() };
        let mut late = due(1, Kind::Firing, "a", "r", Level::Low);
        late.alert.status = Status::Resolved;
        assert_eq!(seqs(&plan(vec![late], &traits, usize::MAX, &mut memory, NOW)), [[1]]);
        assert!(memory.holds("a", NOW));
        assert!(plan(Vec::new(), &traits, usize::MAX, &mut memory, earlier).messages.is_empty());
        assert!(!memory.holds("a", earlier));
    }

    #[test]
    fn an_alert_that_grows_all_the_time_is_updated_now_and_then() {
        let mut memory = Memory::default();
        let mut sent = 0;
        for second in 0..60 {
            let update = vec![remembered(due(second, Kind::Update, "a", "r", Level::Low), "C 1")];
            let now = NOW.plus(Duration::from_secs(u64::try_from(second).unwrap()));
            sent += plan(update, &chat(), 10, &mut memory, now).messages.len();
        }
        assert_eq!(sent, 4);
    }
}
