//! `kubesiren demo`: the daemon, fed with a bundled attack through its webhook, on free ports and with state that is thrown
//! away.

mod story;

use std::collections::HashSet;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Map, json};
use tokio::signal::unix::SignalKind;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use self::story::{Scene, Story};
use super::output::{Words, json_line};
use super::replay::webhook::Webhook;
use super::{Failure, Globals, Outcome, logging, out, replay, run, scan};
use crate::alert::{Alert, Level};
use crate::app::{self, Addresses, Origin, StartError};
use crate::clock;
use crate::config::{Config, Depth, LogConfig, LogFormat, LogLevel};
use crate::https;
use crate::text::counted;

/// `kubesiren demo`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kubesiren demo --speed 20")]
pub struct Args {
    /// End when the story does, which is told as fast as it is taken unless --speed is given; for scripts.
    #[arg(long)]
    pub once: bool,
    /// How many times as fast as it happened the story is told; 40 makes it about a minute.
    #[arg(long, value_name = "X", value_parser = replay::positive)]
    pub speed: Option<f64>,
    /// Alerts in words, or one object for each of them and one for the whole.
    #[command(flatten)]
    pub output: Words,
}

/// Nothing that the demo does is to reach anybody else, and what comes late is not waited for.
const CONFIG: &str = "\
cluster: demo
sources: [{type: webhook, listen: '127.0.0.1:0'}]
correlation: {lateness: 2s}
sinks: []
admin: {listen: '127.0.0.1:0'}
";

/// The speed where none is given.
const SPEED: f64 = 40.0;
/// How often it is looked whether there are alerts.
const LOOK: Duration = Duration::from_millis(150);
/// After so long without an alert none comes any more: whatever is decided by time is decided by then.
const QUIET: Duration = Duration::from_millis(2_500);
/// The daemon is ready after this, or never.
const READY: Duration = Duration::from_secs(60);
/// Events in one request.
const BATCH: usize = 400;

/// Tells the story.
pub fn run(args: &Args, globals: Globals) -> Outcome {
    logging::init(LogConfig { format: LogFormat::Text, level: globals.level(LogLevel::Warn) });
    let home = tempfile::Builder::new().prefix("kubesiren-demo-").tempdir();
    let home = home.context("cannot make a folder for the demo's state")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let told = runtime.block_on(play(args, home.path()));
    drop(runtime);
    home.close().context("cannot remove the demo's state")?;
    told
}

/// Runs the daemon for as long as the story and its readers take.
async fn play(args: &Args, home: &Path) -> Outcome {
    let stop = CancellationToken::new();
    // Without a terminal nobody could end it.
    run::stop_on(&[SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()], &stop)?;
    let (origin, config) = configure(home)?;
    let (tell_bound, bound) = oneshot::channel();
    let daemon = app::run_telling(origin, config, stop.clone(), |addresses| {
        let _ = tell_bound.send(addresses);
    });
    let telling = async {
        let told = match bound.await {
            Ok(addresses) => tell(args, &addresses, &stop).await,
            Err(_) => Ok(()), // The daemon did not start, and says why itself.
        };
        stop.cancel();
        told
    };
    let (ended, told) = tokio::join!(daemon, telling);
    match ended {
        Ok(()) => told.map(|()| ExitCode::SUCCESS).map_err(Failure::Other),
        Err(StartError::Findings(findings)) => Err(Failure::Findings(findings)),
        Err(StartError::Other(error)) => Err(Failure::Other(error)),
    }
}

/// Writes the configuration into the demo's folder: a reload would else take that of the machine.
fn configure(home: &Path) -> Result<(Origin, Config), Failure> {
    let path = home.join("config.yaml");
    std::fs::write(&path, format!("state_dir: {}\n{CONFIG}", home.join("state").display()))?;
    let origin = Origin { path: Some(path), environment: Vec::new(), state_dir: None, set_damaged_aside: false };
    let config = crate::config::load(origin.path.as_deref(), &origin.environment, Depth::Files)?;
    Ok((origin, config))
}

/// Sends the story and shows what comes of it, until it is over or somebody stops it.
async fn tell(args: &Args, addresses: &Addresses, stop: &CancellationToken) -> anyhow::Result<()> {
    let webhook = *addresses.webhooks.first().context("the demo has a webhook")?;
    let watcher = &mut Watcher::new(addresses.admin, args.output)?;
    if stop.run_until_cancelled(watcher.ready()).await.transpose()?.is_none() {
        return Ok(());
    }
    writeln!(
        out::stderr(),
        "\x1b[1mKubesiren demo\x1b[0m: an attack, told by audit events. Alerts appear as they are found; press Ctrl-C to end."
    )?;
    writeln!(out::stderr(), "Watch it in a browser too: \x1b[1;4mhttp://{}/?range=1h\x1b[0m", addresses.admin)?;
    let speed = args.speed.or((!args.once).then_some(SPEED));
    let story = Story::read()?;
    let started = Instant::now();
    let events = match stop.run_until_cancelled(send(&story, speed, Webhook::local(webhook)?, watcher)).await {
        Some(sent) => sent?,
        None => return watcher.sum_up(None),
    };
    stop.run_until_cancelled(watcher.settle()).await.transpose()?;
    watcher.sum_up(Some((events, started.elapsed())))?;
    if !args.once {
        writeln!(
            out::stderr(),
            "The page stays at \x1b[1;4mhttp://{}/?range=1h\x1b[0m until you press Ctrl-C.",
            addresses.admin
        )?;
        stop.cancelled().await;
    }
    Ok(())
}

/// Sends everything at its time; the number of events.
async fn send(story: &Story, speed: Option<f64>, mut webhook: Webhook, watcher: &mut Watcher) -> anyhow::Result<usize> {
    let length = story.length();
    let takes = speed.map_or(Duration::ZERO, |speed| length.div_f64(speed));
    // What happens last happens now, whatever the speed.
    let begin = clock::now().plus(takes).minus(length);
    let started = Instant::now();
    let due = |scene: &Scene| speed.map_or(started, |speed| started + scene.after().div_f64(speed));
    let mut waiting = Vec::new();
    let mut sent = 0;
    for scene in story.scenes() {
        let due = due(scene);
        while due > Instant::now() {
            hand(&mut webhook, &mut waiting).await?;
            watcher.look().await?;
            sleep_until(due.min(Instant::now() + LOOK)).await;
        }
        match scene.event(begin) {
            Some(event) => {
                waiting.push(event);
                sent += 1;
            }
            None => {
                hand(&mut webhook, &mut waiting).await?;
                watcher.look().await?;
                writeln!(out::stderr(), "\n\x1b[2m── {}\x1b[0m", scene.words())?;
            }
        }
        if waiting.len() >= BATCH {
            hand(&mut webhook, &mut waiting).await?;
        }
    }
    hand(&mut webhook, &mut waiting).await?;
    Ok(sent)
}

async fn hand(webhook: &mut Webhook, waiting: &mut Vec<Vec<u8>>) -> anyhow::Result<()> {
    if !waiting.is_empty() {
        webhook.send(&std::mem::take(waiting)).await?;
    }
    Ok(())
}

/// Asks for alerts as the page does, and shows those that are new.
struct Watcher {
    client: Client,
    admin: SocketAddr,
    output: Words,
    seen: HashSet<String>,
    levels: [usize; 5],
    /// When the newest of them came.
    newest: Instant,
}

impl Watcher {
    fn new(admin: SocketAddr, output: Words) -> anyhow::Result<Self> {
        let client = https::builder(true).timeout(Duration::from_secs(30)).build().context("cannot set up HTTP")?;
        Ok(Self { client, admin, output, seen: HashSet::new(), levels: [0; 5], newest: Instant::now() })
    }

    /// Waits for the daemon.
    async fn ready(&self) -> anyhow::Result<()> {
        let give_up = Instant::now() + READY;
        loop {
            let answer = self.client.get(format!("http://{}/readyz", self.admin)).send().await;
            match answer {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                _ if Instant::now() > give_up => anyhow::bail!("the daemon did not become ready"),
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Shows what is new, the oldest first.
    async fn look(&mut self) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Page {
            alerts: Vec<Alert>,
        }
        let answer = self.client.get(format!("http://{}/api/v1/alerts?limit=1000", self.admin)).send().await?;
        let page: Page = answer.error_for_status()?.json().await?;
        let mut out = out::stdout();
        for alert in page.alerts.iter().rev().filter(|alert| self.seen.insert(alert.id.clone())) {
            self.newest = Instant::now();
            self.levels[alert.rule.level as usize] += 1;
            if self.output.is_json() {
                json_line(&mut out, alert)?;
            } else {
                scan::row(&mut out, alert)?;
            }
        }
        Ok(out.flush()?)
    }

    /// Looks until nothing new comes any more.
    async fn settle(&mut self) -> anyhow::Result<()> {
        let sent = Instant::now();
        while self.newest.max(sent).elapsed() < QUIET {
            sleep(LOOK).await;
            self.look().await?;
        }
        Ok(())
    }

    /// What was found, of how many events in which time.
    fn sum_up(&self, told: Option<(usize, Duration)>) -> anyhow::Result<()> {
        if self.output.is_json() {
            let levels = Level::ALL.into_iter().map(|level| (level.to_string(), json!(self.levels[level as usize])));
            let (events, seconds) = told.unzip();
            let seconds = seconds.map(|took| took.as_secs_f64());
            let whole = json!({"alerts": self.seen.len(), "events": events, "seconds": seconds, "levels": levels.collect::<Map<_, _>>()});
            return Ok(json_line(&mut out::stdout(), &whole)?);
        }
        let mut err = out::stderr();
        let alerts = counted(self.seen.len(), "alert");
        match told {
            Some((events, took)) => {
                writeln!(err, "\n{alerts} in {}, {:.0} s:", counted(events, "event"), took.as_secs_f64())?;
            }
            None => writeln!(err, "\nStopped; {alerts} so far:")?,
        }
        for level in Level::ALL.into_iter().rev() {
            let (on, off) = scan::colors(level);
            writeln!(err, "  {on}{level:<13}{off} {:>4}", self.levels[level as usize])?;
        }
        writeln!(err, "Your own log next: kubesiren scan audit.log")?;
        Ok(())
    }
}
