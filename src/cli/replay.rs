//! `kubesiren replay`: recorded events sent as kube-apiserver would, or as messages of a topic.

#[cfg(feature = "kafka")]
mod kafka;
pub(super) mod webhook;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep_until};

use super::output::{Words, json_line};
use super::progress::Progress;
use super::{Globals, Outcome, out};
use crate::clock::Timestamp;
use crate::scan;

/// `kubesiren replay`
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  kubesiren replay --kafka kafka-0:9092 --topic k8s-audit --rate 5000 audit.log audit-*.log.gz"
)]
#[command(group = clap::ArgGroup::new("target").args(["webhook", "kafka"]).required(true))]
pub struct Args {
    /// Audit logs: JSON lines, lists or a provider's envelope, plain, gzip or zstd; `-` for standard input.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Post lists of events to this URL, as kube-apiserver does.
    #[arg(long, value_name = "URL")]
    pub webhook: Option<String>,
    /// Send messages to these brokers; several are parted by commas.
    #[arg(long, value_name = "BROKERS", value_delimiter = ',', requires = "topic")]
    pub kafka: Vec<String>,
    /// The topic that messages go to.
    #[arg(long, value_name = "TOPIC", requires = "kafka")]
    pub topic: Option<String>,
    /// A property of librdkafka, or NAME_file=PATH; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", requires = "kafka")]
    pub property: Vec<String>,
    /// A file that holds the webhook's bearer token.
    #[arg(long, value_name = "FILE", requires = "webhook")]
    pub bearer_token_file: Option<PathBuf>,
    /// A file of certificates that the webhook's is to be signed by, instead of the system's.
    #[arg(long, value_name = "FILE", requires = "webhook")]
    pub ca_file: Option<PathBuf>,
    /// The certificate that is shown to a webhook that demands one, in PEM.
    #[arg(long, value_name = "FILE", requires_all = ["webhook", "client_key"])]
    pub client_cert: Option<PathBuf>,
    /// Its key, in PEM.
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// Events in a list; 400 for a webhook. Messages of a topic hold single events unless this is given.
    #[arg(long, value_name = "N")]
    pub batch: Option<NonZeroUsize>,
    /// Events a second; as fast as they are taken if not given.
    #[arg(long, value_name = "N", conflicts_with = "speed", value_parser = positive)]
    pub rate: Option<f64>,
    /// Keep the distances of the recording, this many times as fast.
    #[arg(long, value_name = "X", value_parser = positive)]
    pub speed: Option<f64>,
    /// In words, or one object that counts.
    #[command(flatten)]
    pub output: Words,
}

pub(super) fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number > 0.0)
        .ok_or_else(|| "a number above 0".into())
}

/// Events that wait between reading and sending; a list is a batch more.
const WAITING_MAX: usize = 4_096;

/// Where events go.
enum Target {
    Webhook(webhook::Webhook),
    #[cfg(feature = "kafka")]
    Kafka(kafka::Topic),
}

impl Target {
    fn new(args: &Args) -> anyhow::Result<Self> {
        if let Some(url) = &args.webhook {
            return Ok(Self::Webhook(webhook::Webhook::new(url, args)?));
        }
        #[cfg(feature = "kafka")]
        return Ok(Self::Kafka(kafka::Topic::new(args)?));
        #[cfg(not(feature = "kafka"))]
        anyhow::bail!(crate::kafka::ABSENT)
    }

    /// Sends events; returns when they are taken, or at least on their way.
    async fn send(&mut self, events: Vec<Vec<u8>>) -> anyhow::Result<()> {
        match self {
            Self::Webhook(webhook) => webhook.send(&events).await,
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.send(events).await,
        }
    }

    /// Awaits that everything is taken.
    async fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Webhook(_) => Ok(()),
            #[cfg(feature = "kafka")]
            Self::Kafka(topic) => topic.finish().await,
        }
    }
}

/// Sends everything.
pub fn run(args: &Args, globals: Globals) -> Outcome {
    let progress = Progress::new(&args.files, globals);
    let inputs = progress.watch(super::scan::inputs(&args.files)?);
    let target = Target::new(args)?;
    let (events, coming) = channel(WAITING_MAX);
    let reading = std::thread::spawn(move || read(inputs, &events));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    let sent = runtime.block_on(send(args, target, coming))?;
    let read = reading.join().map_err(|_| anyhow::anyhow!("reading broke down"))?;
    let rejected = read.map_err(|(name, error)| anyhow::anyhow!("{name}: {error}"))?;
    let seconds = started.elapsed().as_secs_f64();
    drop(progress);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = sent as f64 / seconds.max(1e-6);
    if args.output.is_json() {
        let said = json!({"events": sent, "seconds": seconds, "rate": rate.round(), "rejected": rejected});
        json_line(&mut out::stdout(), &said)?;
        return Ok(ExitCode::SUCCESS);
    }
    let refused = if rejected > 0 { format!(", {rejected} pieces were no events") } else { String::new() };
    writeln!(out::stderr(), "{sent} events in {seconds:.2} s, {rate:.0} a second{refused}")?;
    Ok(ExitCode::SUCCESS)
}

fn read(inputs: Vec<scan::Input>, events: &Sender<Vec<u8>>) -> Result<u64, (String, String)> {
    // An error means that nobody sends any more, who has said why.
    scan::each_event(inputs, &mut |event| events.blocking_send(event.to_vec()).is_ok())
}

/// Sends lists as soon as they are full, or would have to wait for an event that is not due.
async fn send(args: &Args, mut target: Target, mut coming: Receiver<Vec<u8>>) -> anyhow::Result<u64> {
    let usual = if args.webhook.is_some() { 400 } else { 256 };
    let batch = args.batch.map_or(usual, NonZeroUsize::get);
    let (mut pace, mut waiting, mut sent) = (Pace::new(args.rate, args.speed), Vec::new(), 0);
    while let Some(event) = coming.recv().await {
        let due = pace.due(&event);
        if let Some(due) = due.filter(|due| *due > Instant::now()) {
            sent += hand(&mut target, &mut waiting).await?;
            sleep_until(due).await;
        }
        waiting.push(event);
        if waiting.len() >= batch {
            sent += hand(&mut target, &mut waiting).await?;
        }
    }
    sent += hand(&mut target, &mut waiting).await?;
    target.finish().await?;
    Ok(sent)
}

async fn hand(target: &mut Target, waiting: &mut Vec<Vec<u8>>) -> anyhow::Result<u64> {
    let count = waiting.len() as u64;
    if count > 0 {
        target.send(std::mem::take(waiting)).await?;
    }
    Ok(count)
}

/// When events are due.
struct Pace {
    rate: Option<f64>,
    speed: Option<f64>,
    started: Instant,
    count: u64,
    /// The time of the first event.
    first: Option<Timestamp>,
}

impl Pace {
    fn new(rate: Option<f64>, speed: Option<f64>) -> Self {
        Self { rate, speed, started: Instant::now(), count: 0, first: None }
    }

    /// When the next event is to be sent; `None` is now.
    fn due(&mut self, event: &[u8]) -> Option<Instant> {
        #[derive(Deserialize)]
        struct Timed<'e> {
            #[serde(rename = "stageTimestamp", borrow)]
            time: std::borrow::Cow<'e, str>,
        }
        let after = if let Some(rate) = self.rate {
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 events")]
            let seconds = self.count as f64 / rate;
            Duration::from_secs_f64(seconds)
        } else {
            let speed = self.speed?;
            let time = Timestamp::parse(&serde_json::from_slice::<Timed<'_>>(event).ok()?.time)?;
            time.since(*self.first.get_or_insert(time)).div_f64(speed)
        };
        self.count += 1;
        Some(self.started + after)
    }
}

/// Events as kube-apiserver sends them.
fn event_list(events: &[Vec<u8>]) -> Vec<u8> {
    let size: usize = events.iter().map(|event| event.len() + 1).sum();
    let mut list = Vec::with_capacity(size + 100);
    list.extend_from_slice(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            list.push(b',');
        }
        list.extend_from_slice(event);
    }
    list.extend_from_slice(b"]}");
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_its_events() {
        assert_eq!(
            event_list(&[b"{}".to_vec(), b"{\"a\":1}".to_vec()])
                .strip_prefix(event_list(&[]).strip_suffix(b"]}").unwrap())
                .unwrap(),
            b"{},{\"a\":1}]}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn events_are_due_by_rate_or_by_their_times() {
        let event = |time: &str| format!(r#"{{"stageTimestamp":"2026-11-21T04:00:{time}Z"}}"#).into_bytes();
        let mut by_rate = Pace::new(Some(4.0), None);
        let due: Vec<_> = (0..3).map(|_| by_rate.due(b"{}").unwrap() - by_rate.started).collect();
        assert_eq!(due, [0, 250, 500].map(Duration::from_millis));
        let mut by_time = Pace::new(None, Some(10.0));
        let due: Vec<_> =
            ["01", "03", "02"].iter().map(|time| by_time.due(&event(time)).unwrap() - by_time.started).collect();
        assert_eq!(due, [0, 200, 100].map(Duration::from_millis));
        assert!(by_time.due(b"{}").is_none());
        assert!(Pace::new(None, None).due(b"{}").is_none());
    }
}
