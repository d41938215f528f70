//! The worker in front of each sink: what is due → plan → send → settle.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::group::{Memory, digest, plan};
use super::retry::{Breaker, Bucket, jitter, wait};
use super::watchdog::Watchdog;
use crate::alert::{Alert, EventExcerpt, Level, RuleInfo, Status};
use crate::clock::{self, Timestamp};
use crate::metrics::{DeliveryLabels, Metrics, SinkLabel};
use crate::pipeline::pulse::Pulse;
use crate::sink::{Item, Message, SendError, Sent, Sink, Traits};
use crate::store::{Kind, Settlement, Store, StoreError};

/// Deliveries taken from the outbox at once.
const DUE_MAX: usize = 1_000;
/// A retry that has become due is seen within this time.
const POLL: Duration = Duration::from_secs(1);
/// The outbox gauges are at most this old.
const GAUGES: Duration = Duration::from_secs(5);
/// A sink has its own timeouts per request; this bounds a message of several requests.
const SEND_MAX: Duration = Duration::from_secs(60);
/// What is being sent when the daemon stops gets this long.
const STOP_MAX: Duration = Duration::from_secs(5);
/// An ended alert is told again this long to sinks that must be told again.
const RESOLVED_FOR: Duration = Duration::from_secs(15 * 60);
/// Before a worker that panicked is started again.
const PANIC_PAUSE: Duration = Duration::from_secs(10);
/// From this failure in a row on, a few minutes in, somebody has to look.
const FAILURES_LOUD: u32 = 8;

/// Starts one worker per sink. They end when `cancel` is cancelled, or the store is closed; one that panics is started
/// again, so that a mistake with one sink takes nothing from the others.
pub fn spawn(
    sinks: Vec<(String, Sink)>,
    store: &Store,
    metrics: &Arc<Metrics>,
    pulse: &Arc<Pulse>,
    cancel: &CancellationToken,
) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    for (name, sink) in sinks {
        let (sink, store, metrics, cancelled) = (Arc::new(sink), store.clone(), Arc::clone(metrics), cancel.clone());
        let pulse = Arc::clone(pulse);
        let run = {
            let name = name.clone();
            move || {
                let (sink, metrics, watchdog) = (Arc::clone(&sink), Arc::clone(&metrics), Watchdog::new(&pulse));
                Worker::new(name.clone(), sink, store.clone(), metrics, watchdog, cancelled.clone()).run()
            }
        };
        workers.spawn(supervise(name, run, cancel.clone()));
    }
    workers
}

/// Runs a worker, again and again as long as it panics.
async fn supervise<F: Future<Output = ()> + Send + 'static>(
    name: String,
    run: impl Fn() -> F,
    cancel: CancellationToken,
) {
    // Cut off with its supervisor: a handle that is only dropped would leave it running.
    while let Err(panic) = AbortOnDropHandle::new(tokio::spawn(run())).await {
        tracing::error!(sink = %name, %panic, wait = ?PANIC_PAUSE,
            "the sink's worker broke down, which is a bug; it is started again, what waited is sent then");
        if cancel.run_until_cancelled(sleep(PANIC_PAUSE)).await.is_none() {
            return;
        }
    }
}

/// Sends one clearly marked alert through a sink, past outbox and retry. The error is for people, without secrets.
pub async fn send_test(sink: &Sink, name: &str, now: Timestamp) -> Result<(), String> {
    let message = Message::of(vec![Item::of(test_alert(name, now))]);
    match timeout(SEND_MAX, sink.send(&message, now)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", SEND_MAX.as_secs())),
    }
}

fn test_alert(sink: &str, now: Timestamp) -> Alert {
    let id = blake3::hash(format!("kubesiren test {sink} {now}").as_bytes()).to_hex()[..32].to_owned();
    let rule = RuleInfo {
        id: "kubesiren-test".to_owned(),
        title: "TEST: Kubesiren reaches this sink".to_owned(),
        level: Level::Informational,
        tags: vec!["kubesiren.test".to_owned()],
        references: Vec::new(),
        runbook: Some("Nothing to do: somebody ran `kubesiren sinks test`.".to_owned()),
    };
    Alert {
        id,
        status: Status::Firing,
        time: now,
        cluster: "test".to_owned(),
        rule: Arc::new(rule),
        summary: format!("This is a test of the sink {sink}. Nothing happened in any cluster."),
        count: 1,
        first_seen: now,
        last_seen: now,
        group: std::collections::BTreeMap::new(),
        event: EventExcerpt {
            stage: "ResponseComplete".to_owned(),
            verb: "test".to_owned(),
            stage_timestamp: now.to_string(),
            ..EventExcerpt::default()
        },
        matched: std::collections::BTreeMap::new(),
        audit_ids: Vec::new(),
        timeline: Vec::new(),
    }
}

struct Worker {
    name: String,
    sink: Arc<Sink>,
    traits: Traits,
    store: Store,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    breaker: Breaker,
    bucket: Bucket,
    memory: Memory,
    /// Settlements that the store could not write yet. Nothing is sent before they are: it would be sent twice.
    owed: Vec<(i64, Settlement)>,
    /// When firing alerts are to be told again.
    resend_at: Timestamp,
    /// Dead letters of an outbox that was full, when the gauges were read last.
    crowded_out: Option<u64>,
    watchdog: Watchdog,
    /// When the gauges are to be read again.
    gauges_at: Timestamp,
}

/// Why a round ended.
enum Round {
    /// There may be more to do at once.
    Again,
    /// Until something is queued, or for a while.
    Idle,
    /// The store is closed.
    Over,
}

impl Worker {
    fn new(
        name: String,
        sink: Arc<Sink>,
        store: Store,
        metrics: Arc<Metrics>,
        watchdog: Watchdog,
        cancel: CancellationToken,
    ) -> Self {
        let traits = sink.traits();
        let worker = Self {
            bucket: Bucket::new(traits.rate),
            breaker: Breaker::default(),
            memory: Memory::default(),
            owed: Vec::new(),
            resend_at: Timestamp::MIN,
            crowded_out: None,
            watchdog,
            gauges_at: Timestamp::MIN,
            name,
            sink,
            traits,
            store,
            metrics,
            cancel,
        };
        for result in ["ok", "retry", "dead"] {
            worker.count(result, 0);
        }
        drop(worker.metrics.delivery_seconds.get_or_create(&worker.label()));
        drop(worker.metrics.outbox_records.get_or_create(&worker.label()));
        drop(worker.metrics.outbox_dead.get_or_create(&worker.label()));
        drop(worker.metrics.outbox_oldest.get_or_create(&worker.label()));
        if traits.watchdog.is_some() {
            drop(worker.metrics.watchdog_sent.get_or_create(&worker.label()));
        }
        worker
    }

    async fn run(mut self) {
        while !self.cancel.is_cancelled() {
            let round = match self.round(clock::now()).await {
                Ok(round) => round,
                Err(StoreError::Closed) => Round::Over,
                Err(error) => {
                    tracing::warn!(sink = %self.name, %error, "cannot read or write the outbox; trying again");
                    Round::Idle
                }
            };
            match round {
                Round::Again => {}
                Round::Idle => self.idle(clock::now()).await,
                Round::Over => return,
            }
        }
    }

    /// Waits for work. While the breaker is open nothing can be done, whatever is queued.
    async fn idle(&self, now: Timestamp) {
        let cancelled = self.cancel.cancelled();
        match self.breaker.open_for(now) {
            Some(left) => tokio::select! { () = cancelled => {}, () = sleep(left.min(POLL)) => {} },
            // The store may answer at once as long as something waits; the bucket then says how long to rest.
            None if self.bucket.tokens(now) == 0 || !self.owed.is_empty() => {
                tokio::select! { () = cancelled => {}, () = sleep(POLL / 4) => {} }
            }
            None => tokio::select! { () = cancelled => {}, () = self.store.queued(&self.name, POLL) => {} },
        }
    }

    /// Does everything that is to be done at `now`.
    async fn round(&mut self, now: Timestamp) -> Result<Round, StoreError> {
        self.pay().await?;
        if reached(self.gauges_at, GAUGES, now) {
            self.read_gauges(now).await?;
        }
        if self.breaker.open_for(now).is_some() {
            return Ok(Round::Idle);
        }
        if let Some(every) = self.traits.watchdog.filter(|every| self.watchdog.due(*every, now)) {
            self.bark(every, now).await;
        }
        if self.breaker.open_for(now).is_some() {
            return Ok(Round::Idle);
        }
        if self.traits.resend.is_some_and(|every| reached(self.resend_at, every, now)) {
            self.tell_again(now).await?;
        }
        if self.breaker.open_for(now).is_some() || self.cancel.is_cancelled() {
            return Ok(Round::Idle);
        }
        let releases = self.store.releases();
        let due = self.store.due(&self.name, now, DUE_MAX).await?;
        if due.is_empty() {
            return Ok(Round::Idle);
        }
        let full = due.len() >= DUE_MAX;
        let plan = plan(due, &self.traits, self.bucket.tokens(now), &mut self.memory, now);
        self.owed.extend(plan.settled);
        self.pay().await?;
        for message in plan.messages {
            let given_away = self.store.releases() != releases;
            if self.cancel.is_cancelled() || self.breaker.open_for(clock::now()).is_some() || given_away {
                break; // What is left is due again, here or elsewhere.
            }
            self.deliver(message).await?;
        }
        self.read_gauges(clock::now()).await?;
        Ok(if full && !plan.waits { Round::Again } else { Round::Idle })
    }

    /// Sends one message and settles it. Where it is refused, one of its alerts may be why: each half is tried.
    async fn deliver(&mut self, message: Message) -> Result<(), StoreError> {
        let mut parts = vec![message];
        while let Some(mut message) = parts.pop() {
            if self.breaker.open_for(clock::now()).is_some() {
                break;
            }
            self.gather(&mut message).await?;
            let Some(result) = self.send(&message).await else { break };
            match result {
                Err(SendError::Reject { .. }) if message.items.len() > 1 => parts.extend(halves(message)),
                result => {
                    self.report(&message, &result);
                    self.owed.extend(settlements(&message, &result, clock::now(), jitter()));
                    self.pay().await?;
                }
            }
        }
        Ok(())
    }

    /// Adds what an earlier message told of beside these alerts, where that is to be changed.
    async fn gather(&self, message: &mut Message) -> Result<(), StoreError> {
        let first = message.items.first().filter(|item| self.traits.takes_updates && item.kind != Kind::Firing);
        if let Some((item, place)) = first.and_then(|item| Some((item, item.remembered.as_ref()?))) {
            message.together = self.store.told_together(&self.name, place, &item.alert.rule.id).await?;
        }
        Ok(())
    }

    /// Sends one message, in bounded time; `None` when the daemon stops before there is an answer.
    async fn send(&mut self, message: &Message) -> Option<Result<Sent, SendError>> {
        let started = Instant::now();
        let now = clock::now();
        self.bucket.take(now);
        let stop = async {
            self.cancel.cancelled().await;
            sleep(STOP_MAX).await;
        };
        let result = tokio::select! {
            result = timeout(SEND_MAX, self.sink.send(message, now)) => result.unwrap_or_else(|_| {
                Err(SendError::Retry { after: None, reason: format!("no answer within {} s", SEND_MAX.as_secs()) })
            }),
            () = stop => return None,
        };
        self.metrics.delivery_seconds.get_or_create(&self.label()).observe(started.elapsed().as_secs_f64());
        let now = clock::now();
        match &result {
            Err(SendError::Retry { after, reason }) => {
                self.breaker.fail(*after, now, jitter());
                let wait = self.breaker.open_for(now).unwrap_or_default();
                match self.breaker.failures() {
                    1 => tracing::warn!(sink = %self.name, %reason, ?wait, "the sink did not take alerts; they wait"),
                    FAILURES_LOUD => {
                        tracing::error!(sink = %self.name, %reason, "the sink still takes no alerts; they wait, and somebody has to look");
                    }
                    _ => tracing::debug!(sink = %self.name, %reason, ?wait, "the sink did not take alerts"),
                }
            }
            Ok(_) | Err(SendError::Reject { .. }) => {
                let failures = self.breaker.close();
                if failures > 0 {
                    tracing::info!(sink = %self.name, failures, "the sink answers again");
                }
            }
        }
        Some(result)
    }

    fn report(&self, message: &Message, result: &Result<Sent, SendError>) {
        for (n, item) in message.items.iter().enumerate() {
            let error = refusal(result, n);
            let outcome = match error {
                None => "ok",
                Some(SendError::Retry { .. }) => "retry",
                Some(SendError::Reject { .. }) => "dead",
            };
            self.count(outcome, item.seqs.len() as u64);
            if let Some(SendError::Reject { reason }) = error {
                let alert = item.alert.id.as_str();
                tracing::error!(sink = %self.name, %alert, %reason, "the sink refused an alert for good; it is kept as a dead letter");
            }
        }
    }

    /// Tells the sink what fires, and what ended of late. Nothing is settled: what fails is told the next time.
    async fn tell_again(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let told = self.store.told(&self.name, now.minus(RESOLVED_FOR)).await?;
        self.resend_at = now.plus(self.traits.resend.unwrap_or(POLL));
        let items: Vec<Item> = told.into_iter().map(|alert| again(alert, &self.memory, now)).collect();
        for items in items.chunks(self.traits.batch_max.max(1)) {
            let message = Message::of(items.to_vec());
            match self.send(&message).await {
                None | Some(Err(SendError::Retry { .. })) => {
                    self.resend_at = now; // As soon as the breaker closes.
                    break;
                }
                Some(Err(SendError::Reject { reason })) => {
                    tracing::warn!(sink = %self.name, %reason, "the sink refused alerts that are told again");
                }
                Some(Ok(_)) => {}
            }
        }
        Ok(())
    }

    /// Sends the alert that says that all is well, if it is. It is in no outbox: what is late says nothing.
    async fn bark(&mut self, every: Duration, now: Timestamp) {
        let Some(alert) = self.watchdog.alert(every, &self.name, now) else { return };
        match self.send(&Message::of(vec![Item::of(alert)])).await {
            Some(Ok(_)) => {
                self.metrics.watchdog_sent.get_or_create(&self.label()).set(now.as_seconds());
            }
            Some(Err(SendError::Reject { reason })) => {
                tracing::warn!(sink = %self.name, %reason, "the sink refused the watchdog");
            }
            Some(Err(SendError::Retry { .. })) => self.watchdog.again(now), // As soon as the breaker closes.
            None => {}
        }
    }

    async fn pay(&mut self) -> Result<(), StoreError> {
        if !self.owed.is_empty() {
            self.store.settle(&self.name, self.owed.clone()).await?;
            self.owed.clear();
        }
        Ok(())
    }

    async fn read_gauges(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let backlog = self.store.backlog(&self.name).await?;
        let records = i64::try_from(backlog.records).unwrap_or(i64::MAX);
        let oldest = backlog.oldest.map_or(0.0, |time| now.since(time).as_secs_f64());
        self.metrics.outbox_records.get_or_create(&self.label()).set(records);
        self.metrics.outbox_oldest.get_or_create(&self.label()).set(oldest);
        let dead = i64::try_from(backlog.dead).unwrap_or(i64::MAX);
        self.metrics.outbox_dead.get_or_create(&self.label()).set(dead);
        if self.crowded_out.is_some_and(|known| backlog.crowded_out > known) {
            tracing::error!(sink = %self.name, alerts = backlog.crowded_out,
                "the sink's outbox is full; the least bad alerts became dead letters: `kubesiren outbox retry` once it is well");
        }
        self.crowded_out = Some(backlog.crowded_out);
        self.gauges_at = now.plus(GAUGES);
        Ok(())
    }

    fn count(&self, result: &str, n: u64) {
        let labels = DeliveryLabels { sink: self.name.clone(), result: result.to_owned() };
        self.metrics.deliveries.get_or_create(&labels).inc_by(n);
    }

    fn label(&self) -> SinkLabel {
        SinkLabel { sink: self.name.clone() }
    }
}

/// Whether it is time for what comes every so often. A time further away than that was noted before the clock was set
/// back.
pub(super) fn reached(at: Timestamp, every: Duration, now: Timestamp) -> bool {
    now >= at || at.since(now) > every
}

fn again(mut alert: Alert, memory: &Memory, now: Timestamp) -> Item {
    if memory.holds(&alert.id, now) {
        alert.status = Status::Firing;
    }
    let kind = if alert.status == Status::Firing { Kind::Firing } else { Kind::Resolved };
    Item { seqs: Vec::new(), kind, alert, attempts: 0, remembered: None }
}

/// Two halves of a message, the first one last, since the last one is sent first.
fn halves(mut message: Message) -> [Message; 2] {
    let second = message.items.split_off(message.items.len() / 2);
    let make = |items| if message.digest.is_some() { digest(items) } else { Message::of(items) };
    [make(second), make(message.items)]
}

/// What becomes of the deliveries of a message that was sent.
fn settlements(
    message: &Message,
    result: &Result<Sent, SendError>,
    now: Timestamp,
    jitter: f64,
) -> Vec<(i64, Settlement)> {
    let of = |n: usize, item: &Item| match refusal(result, n) {
        None => {
            let remember = result.iter().flat_map(|sent| &sent.remember).find(|(id, _)| *id == item.alert.id);
            Settlement::Sent { remember: remember.map(|(_, text)| text.clone()) }
        }
        // By its own failures, so that an alert that breaks its receiver gets out of the way of the others.
        Some(SendError::Retry { after, reason }) => {
            let not_before = now.plus(wait(*after, item.attempts.saturating_add(1), jitter));
            Settlement::Retry { not_before, reason: reason.clone() }
        }
        Some(SendError::Reject { reason }) => Settlement::Dead { reason: reason.clone() },
    };
    let settle = |(n, item): (usize, &Item)| {
        let settlement = of(n, item);
        item.seqs.iter().map(move |seq| (*seq, settlement.clone())).collect::<Vec<_>>()
    };
    message.items.iter().enumerate().flat_map(settle).collect()
}

/// Why one item of a message was not taken, if it was not.
fn refusal(result: &Result<Sent, SendError>, n: usize) -> Option<&SendError> {
    match result {
        Ok(sent) => sent.refused.iter().find(|(at, _)| *at == n).map(|(_, error)| error),
        Err(error) => Some(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fake::{Receiver, Reply};
    use crate::sink::samples::{alert, item, message};
    use crate::sink::{SinkConfig, SinkKind};

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn two() -> Message {
        let mut first = item(Kind::Firing, alert("a", "r", Level::High));
        first.seqs = vec![1, 2];
        first.attempts = 5;
        let mut second = item(Kind::Firing, alert("b", "r", Level::High));
        second.seqs = vec![3];
        message(vec![first, second])
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_panics_is_started_again() {
        let starts = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&starts);
        let run = move || {
            let start = counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move { assert!(start >= 2, "a bug") }
        };
        supervise("s".to_owned(), run, CancellationToken::new()).await;
        assert_eq!(starts.load(std::sync::atomic::Ordering::Relaxed), 3);
    }

    #[test]
    fn what_was_taken_is_settled_with_what_to_remember() {
        let sent = Sent { remember: vec![("a".to_owned(), "C 1".to_owned())], ..Sent::default() };
        let settled = settlements(&two(), &Ok(sent), NOW, 0.5);
        let remembered: Vec<_> = settled
            .iter()
            .map(|(seq, settlement)| match settlement {
                Settlement::Sent { remember } => (*seq, remember.as_deref()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(remembered, [(1, Some("C 1")), (2, Some("C 1")), (3, None)]);
    }

    #[test]
    fn of_a_message_that_was_taken_in_part_each_alert_goes_its_own_way() {
        let busy = SendError::Retry { after: None, reason: "busy".to_owned() };
        let settle = |refused| settlements(&two(), &Ok(Sent { refused, ..Sent::default() }), NOW, 1.0);
        assert!(matches!(
            settle(vec![(0, busy)])[..],
            [(1, Settlement::Retry { .. }), (2, Settlement::Retry { .. }), (3, Settlement::Sent { .. })]
        ));
        let bad = SendError::Reject { reason: "bad".to_owned() };
        let settled = settle(vec![(1, bad)]);
        assert!(matches!(
            settled[..],
            [(1, Settlement::Sent { .. }), (2, Settlement::Sent { .. }), (3, Settlement::Dead { .. })]
        ));
    }

    #[test]
    fn a_retry_waits_by_its_own_failures_or_as_long_as_it_was_told() {
        let waits = |after| {
            let error = SendError::Retry { after, reason: "busy".to_owned() };
            let settled = settlements(&two(), &Err(error), NOW, 1.0);
            let wait = |settlement: &Settlement| match settlement {
                Settlement::Retry { not_before, .. } => not_before.since(NOW).as_secs(),
                other => panic!("{other:?}"),
            };
            settled.iter().map(|(_, settlement)| wait(settlement)).collect::<Vec<_>>()
        };
        assert_eq!(waits(None), [64, 64, 2]);
        assert_eq!(waits(Some(Duration::from_secs(30))), [30, 30, 30]);
    }

    #[test]
    fn what_is_refused_is_a_dead_letter() {
        let settled = settlements(&two(), &Err(SendError::Reject { reason: "no".to_owned() }), NOW, 1.0);
        assert_eq!(settled.len(), 3);
        assert!(
            settled.iter().all(|(_, settlement)| matches!(settlement, Settlement::Dead { reason } if reason == "no"))
        );
    }

    #[test]
    fn what_comes_every_minute_comes_after_the_clock_was_set_back() {
        let (every, later) = (Duration::from_secs(60), NOW.plus(Duration::from_secs(60)));
        assert!(!reached(later, every, NOW));
        assert!(reached(later, every, later));
        assert!(reached(later, every, NOW.minus(Duration::from_secs(1))));
    }

    #[test]
    fn halves_keep_everything_and_the_order() {
        let [second, first] = halves(two());
        assert_eq!((first.items[0].seqs[0], second.items[0].seqs[0]), (1, 3));
    }

    #[tokio::test]
    async fn a_test_alert_says_that_it_is_one() {
        let receiver = Receiver::start(|_| Reply::new(200, "")).await;
        let config = format!(r#"{{"name":"soc","type":"webhook","url":"{}"}}"#, receiver.url("/"));
        let config: SinkConfig = serde_json::from_str(&config).unwrap();
        assert!(matches!(config.kind, SinkKind::Webhook(_)));
        let sink = Sink::build(&config).unwrap();
        send_test(&sink, "soc", NOW).await.unwrap();
        let body = receiver.requests()[0].json();
        assert_eq!(body["rule"]["id"], "kubesiren-test");
        assert!(body["summary"].as_str().unwrap().contains("a test of the sink soc"));
    }
}
