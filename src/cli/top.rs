//! `kubesiren top`: a running daemon at a glance, again every second.

mod figures;
mod frame;
mod sample;
mod screen;

use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::figures::Figures;
use self::frame::Size;
use self::sample::{Sample, Titles};
use self::screen::{Heard, Screen};
use super::client::{Client, Connection, Problem, block_on};
use super::output::{Format, Output, json_line};
use super::{Outcome, out};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// Rates are means over so many looks: kube-apiserver sends batches, not single events.
const WINDOW: usize = 10;
/// Where nobody says how wide it may be.
const WIDTH: usize = 100;

/// `kubesiren top`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kubesiren top\n  kubesiren top --once --output json | jq .events")]
pub struct Args {
    /// Look for a second, print what was seen, and exit.
    #[arg(long)]
    pub once: bool,
    /// How.
    #[command(flatten)]
    pub output: Output,
    /// Whose.
    #[command(flatten)]
    pub connection: Connection,
}

/// Shows the daemon until `q` or Ctrl-C.
pub fn run(args: &Args) -> Outcome {
    block_on(async {
        let mut watch = Watch::new(Client::new(&args.connection)?);
        // The first look fails where the daemon is not there: then there is nothing to wait for.
        watch.look().await?;
        let format = args.output.format();
        match format {
            _ if args.once => once(&mut watch, format).await,
            Format::Json => lines(&mut watch).await,
            // Without a terminal there is nothing to draw again.
            Format::Table if !std::io::stdout().is_terminal() => once(&mut watch, format).await,
            Format::Table => draw(&mut watch).await,
        }
    })
}

async fn once(watch: &mut Watch, format: Format) -> Outcome {
    sleep(EVERY).await;
    watch.look().await?;
    let figures = watch.figures();
    let mut out = out::stdout();
    match format {
        Format::Json => json_line(&mut out, &figures)?,
        Format::Table => {
            let size = Size { columns: out::columns().unwrap_or(WIDTH), rows: None };
            for line in frame::lines(&figures, size, None) {
                writeln!(out, "{}", line.trim_end())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of JSON each second. Where the daemon does not answer, that is an error: a script wants to know.
async fn lines(watch: &mut Watch) -> Outcome {
    loop {
        sleep(EVERY).await;
        watch.look().await?;
        let mut out = out::stdout();
        json_line(&mut out, &watch.figures())?;
        out.flush()?;
    }
}

async fn draw(watch: &mut Watch) -> Outcome {
    let mut screen = Screen::open()?;
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut problem: Option<Problem> = None;
    loop {
        let away = problem.as_ref().map(|problem| (problem.to_string(), watch.age()));
        screen.draw(&frame::lines(&watch.figures(), screen::size(), away.as_ref()))?;
        let heard = tokio::select! {
            heard = screen.hear() => heard,
            _ = ticks.tick() => Heard::Nothing,
        };
        if heard == Heard::Quit {
            return Ok(ExitCode::SUCCESS);
        }
        if heard == Heard::Nothing {
            // Whoever wants to leave need not wait for a daemon that does not answer.
            let looked = tokio::select! {
                heard = screen.hear() => match heard {
                    Heard::Quit => return Ok(ExitCode::SUCCESS),
                    Heard::Nothing | Heard::Resized => continue,
                },
                looked = watch.look() => looked,
            };
            problem = match looked {
                Err(refused) if !refused.may_pass() => return Err(refused.into()),
                looked => looked.err(),
            };
        }
    }
}

/// What was seen within the last seconds.
struct Watch {
    client: Client,
    samples: VecDeque<Sample>,
    titles: Titles,
}

impl Watch {
    fn new(client: Client) -> Self {
        Self { client, samples: VecDeque::new(), titles: Titles::default() }
    }

    async fn look(&mut self) -> Result<(), Problem> {
        let sample = Sample::take(&self.client).await?;
        if self.samples.back().is_some_and(|last| last.is_of_another_start(&sample)) {
            // A daemon that was started anew counts from nothing.
            self.samples.clear();
        }
        self.titles.learn(&self.client, &sample).await?;
        self.samples.push_back(sample);
        while self.samples.len() > WINDOW + 1 {
            self.samples.pop_front();
        }
        Ok(())
    }

    fn figures(&self) -> Figures {
        let newest = self.samples.back().cloned().unwrap_or_default();
        Figures::new(self.samples.front().unwrap_or(&newest), &newest, &self.titles)
    }

    /// How old the newest look is.
    fn age(&self) -> Duration {
        self.samples.back().and_then(|sample| sample.at).map_or(Duration::ZERO, |at| Instant::now() - at)
    }
}
