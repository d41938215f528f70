//! `kubesiren tail`: alerts as they are found, or events as they come in.
//!
//! The daemon's stream says only that something has changed; what it is, is asked for in the order of arrival, from the
//! place where the last answer ended. So nothing is missed or shown twice when the connection breaks or the daemon starts anew,
//! and an alert whose event came late is as new as any other.

use std::io::Write;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::sleep;

use super::alerts::{self, Filter, Page};
use super::client::{Client, Connection, Problem, block_on};
use super::output::{Format, Output};
use super::{Failure, Globals, Outcome, out};
use crate::text::visible_json;

mod events;

/// Alerts of one answer.
const PAGE: usize = 200;
/// A line of the stream is an event without bodies at most.
const LINE_MAX: usize = 1 << 20;
/// Pauses between attempts to reach a daemon that has gone: longer and longer, up to the last.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];

/// `kubesiren tail`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kubesiren tail --level high --namespace payments")]
pub struct Args {
    /// How.
    #[command(flatten)]
    pub output: Output,
    /// Show first what there is since this time, or a span before now.
    #[arg(long, value_name = "TIME", value_parser = super::alerts::time, help_heading = "Which alerts")]
    pub since: Option<String>,
    /// Which.
    #[command(flatten)]
    pub filter: Filter,
    /// Which events.
    #[command(flatten)]
    pub wanted: events::Wanted,
    /// Whose.
    #[command(flatten)]
    pub connection: Connection,
}

/// Shows alerts until it is interrupted.
pub fn run(args: &Args, globals: Globals) -> Outcome {
    block_on(follow(args, globals))
}

async fn follow(args: &Args, globals: Globals) -> Outcome {
    let client = Client::new(&args.connection)?;
    let mut query = args.filter.query(&client).await?;
    query.extend(args.since.clone().map(|since| ("since", since)));
    query.extend(args.wanted.items.iter().map(|item| ("where", item.clone())));
    let what = match args.wanted.events {
        true => What::Events,
        false => What::Alerts { place: args.since.is_some().then_some(0) },
    };
    let mut tail = Tail { client, query, format: args.output.format(), what, globals };
    let (mut lost, mut been) = (0, false);
    loop {
        let ended = tail.listen(|| {
            let back = lost > 0;
            (lost, been) = (0, true);
            let waiting = if args.wanted.events { "events" } else { "alerts" };
            let words =
                if back { "the daemon is back".to_owned() } else { format!("waiting for {waiting}; Ctrl-C ends") };
            say(globals, &words)
        });
        match ended.await {
            Err(Failed::Asking(problem)) if problem.may_pass() && (been || is_full(&problem)) => {
                if lost == 0 {
                    say(globals, &format!("{problem}\ntrying again until it is back"))?;
                }
                sleep(PAUSES[lost.min(PAUSES.len() - 1)]).await;
                lost += 1;
            }
            Err(Failed::Asking(problem)) => return Err(problem.into()),
            Err(Failed::Telling(failure)) => return Err(failure),
            Ok(never) => match never {},
        }
    }
}

/// Whether the daemon tells so many live already that it tells no more.
fn is_full(problem: &Problem) -> bool {
    matches!(problem, Problem::Refused { status, .. } if status.as_u16() == 503)
}

fn say(globals: Globals, words: &str) -> Result<(), Failure> {
    if globals.quiet == 0 {
        writeln!(out::stderr(), "\x1b[2m{words}\x1b[0m")?;
    }
    Ok(())
}

/// Why nothing more is shown for now.
enum Failed {
    /// The daemon is not reached, or says no.
    Asking(Problem),
    /// We cannot write any more.
    Telling(Failure),
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Asking(problem)
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Telling(failure)
    }
}

struct Tail {
    client: Client,
    query: Vec<(&'static str, String)>,
    format: Format,
    what: What,
    globals: Globals,
}

/// What is shown.
enum What {
    Alerts {
        /// Up to where everything was shown; `None` before the daemon has said where it stands.
        place: Option<i64>,
    },
    Events,
}

impl Tail {
    /// Shows what comes for as long as the stream lasts.
    async fn listen(
        &mut self,
        mut connected: impl FnMut() -> Result<(), Failure>,
    ) -> Result<std::convert::Infallible, Failed> {
        let mut stream = match self.what {
            What::Alerts { .. } => self.client.stream("/api/v1/stream", &[]).await?,
            What::Events => self.client.stream("/api/v1/events", &self.query).await?,
        };
        let mut events = Events::default();
        loop {
            let piece = stream.chunk().await.map_err(|error| self.client.broken(error))?;
            let Some(piece) = piece else {
                return Err(Problem::Unreachable(format!("{} has ended the stream", self.client.name())).into());
            };
            for event in events.take(&piece)? {
                if event.name == "ready" {
                    connected()?;
                    self.start(&event.data);
                }
                match (&self.what, event.name.as_str()) {
                    (What::Alerts { .. }, _) => self.catch_up().await?,
                    (What::Events, "event") => events::show(&event.data, self.format)?,
                    (What::Events, "missed") => events::missed(&event.data, self.globals)?,
                    (What::Events, _) => {}
                }
            }
        }
    }

    /// Begins where the daemon stands. Who has been away goes on from where it was.
    fn start(&mut self, data: &str) {
        #[derive(Deserialize)]
        struct Ready {
            place: i64,
        }
        let What::Alerts { place } = &mut self.what else { return };
        // A daemon of before knows no places: with 0 everything it has would be new, so that nothing is lost.
        place.get_or_insert(serde_json::from_str::<Ready>(data).map_or(0, |ready| ready.place));
    }

    /// Shows what has arrived since the last time.
    async fn catch_up(&mut self) -> Result<(), Failed> {
        loop {
            let What::Alerts { place: Some(place) } = self.what else { return Ok(()) };
            let mut query = self.query.clone();
            query.push(("after", place.to_string()));
            let page = alerts::listing(&self.client, &query, PAGE, None).await?;
            self.show(&page)?;
            self.what = What::Alerts { place: page.place.or(Some(place)) };
            if page.alerts.len() < PAGE {
                return Ok(());
            }
        }
    }

    fn show(&self, page: &Page) -> Result<(), Failure> {
        let mut out = out::stdout();
        for text in &page.alerts {
            match self.format {
                Format::Json => writeln!(out, "{}", visible_json(alerts::line(text)))?,
                Format::Table => alerts::row(&mut out, &alerts::read(text)?)?,
            }
        }
        Ok(out.flush()?)
    }
}

/// An event of the stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

/// Server-sent events, from the pieces in which they come.
#[derive(Default)]
struct Events {
    /// What came of a line that has not ended.
    line: Vec<u8>,
    event: Event,
}

impl Events {
    /// The events that end within the piece. Comments and what is not needed are passed over.
    fn take(&mut self, piece: &[u8]) -> Result<Vec<Event>, Problem> {
        let mut ended = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.event.data.len() > LINE_MAX {
                return Err(Problem::Strange("the stream has a line without end; is this Kubesiren?".to_owned()));
            }
            if self.line.pop_if(|last| *last == b'\n').is_none() {
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).into_owned();
            self.line.clear();
            ended.extend(self.read(line.trim_end_matches('\r')));
        }
        Ok(ended)
    }

    fn read(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return Some(std::mem::take(&mut self.event)).filter(|event| !event.name.is_empty());
        }
        let (name, value) = line.split_once(':')?;
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event.name),
            "data" => self.event.data.push_str(value),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text =
            "retry: 2000\nevent: ready\ndata: {\"place\":7}\n\n: still there\n\nevent: alerts\r\ndata: {}\r\n\r\n";
        let event = |name: &str, data: &str| Event { name: name.to_owned(), data: data.to_owned() };
        let expected = [event("ready", "{\"place\":7}"), event("alerts", "{}")];
        for size in 1..text.len() {
            let mut events = Events::default();
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                found.extend(events.take(piece).expect("short lines"));
            }
            assert_eq!(found, expected, "{size}");
        }
        assert!(Events::default().take(&vec![b'x'; LINE_MAX + 1]).is_err());
    }
}
