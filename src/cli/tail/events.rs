//! `kubesiren tail --events`: events as they come in, whether or not a rule is about them.

use std::io::Write;

use serde::Deserialize;
use serde_json::Value;

use super::{Failed, say};
use crate::alert::EventExcerpt;
use crate::cli::client::Problem;
use crate::cli::out::{self, moment};
use crate::cli::output::Format;
use crate::cli::{Failure, Globals};
use crate::clock::Timestamp;
use crate::correlate::sentence;
use crate::text::{visible, visible_json};

/// Those that are wanted.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which events")]
pub struct Wanted {
    /// Show events instead of alerts, as they come in.
    #[arg(long, conflicts_with_all = ["since", "level", "rule", "object", "handling", "silenced"])]
    pub events: bool,
    /// Events of which this item of a detection is true, like 'objectRef.resource: secrets'; all, if given several times.
    #[arg(long = "where", value_name = "FIELD: VALUE", requires = "events")]
    pub items: Vec<String>,
}

/// One of the stream.
#[derive(Deserialize)]
struct Seen {
    cluster: String,
    event: EventExcerpt,
}

/// Shows one.
pub(super) fn show(data: &str, format: Format) -> Result<(), Failed> {
    let mut out = out::stdout();
    match format {
        Format::Json => writeln!(out, "{}", visible_json(data.to_owned())).map_err(Failure::from)?,
        Format::Table => {
            let seen: Seen = serde_json::from_str(data)
                .map_err(|error| Problem::Strange(format!("an event of the stream cannot be read: {error}")))?;
            let time = Timestamp::parse(&seen.event.stage_timestamp).map(moment).unwrap_or_default();
            let (cluster, words) = (visible(&seen.cluster), visible(&sentence(&seen.event)));
            writeln!(out, "\x1b[2m{time}\x1b[0m {cluster}  {words}").map_err(Failure::from)?;
        }
    }
    Ok(out.flush().map_err(Failure::from)?)
}

/// Says how many could not be shown.
pub(super) fn missed(data: &str, globals: Globals) -> Result<(), Failure> {
    let count = serde_json::from_str::<Value>(data).ok().and_then(|data| data["count"].as_u64()).unwrap_or_default();
    say(globals, &format!("{count} events came too fast to be looked at; --where, --user and the like ask for fewer"))
}
