//! `kubesiren alerts`: what a running daemon found, and what people did about it.

mod ask;
mod filter;
mod show;

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Subcommand;
use serde_json::json;
use serde_json::value::RawValue;

pub use self::ask::{Handled, Page, listing, one, rule_id, rules};
pub(super) use self::ask::{line, read};
pub(super) use self::filter::time;
pub use self::filter::{About, Filter, Times};
pub use self::show::row;
pub(super) use self::show::{deed, groups, person, result, span, when};
use super::client::{Client, Connection, block_on};
use super::output::{Format, Output};
use super::{Failure, Globals, Outcome, out};
use crate::text::{counted, visible, visible_json};

/// `kubesiren alerts …`
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    pub command: AlertsCommand,
}

/// The commands below `alerts`.
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// List alerts, the newest first.
    #[command(after_help = "Example:\n  kubesiren alerts list --since 24h --level high --user alice")]
    List(ListArgs),
    /// Show one alert: who did what, where and when, why it is told, and what to do.
    #[command(after_help = "Example:\n  kubesiren alerts show e71f3c2a")]
    Show(ShowArgs),
    /// Say that somebody looks after alerts.
    #[command(after_help = "Example:\n  kubesiren alerts ack e71f3c2a --note \"asking alice\"")]
    Ack(HandleArgs),
    /// Write something down about an alert, and change nothing else about it.
    #[command(after_help = "Example:\n  kubesiren alerts note e71f3c2a \"alice is on leave\"")]
    Note(NoteArgs),
    /// Say that alerts are done with.
    #[command(after_help = "Example:\n  kubesiren alerts close e71f3c2a --note \"alice's maintenance, ticket 4711\"")]
    Close(HandleArgs),
    /// Take an acknowledgement or a closing back.
    #[command(after_help = "Example:\n  kubesiren alerts reopen e71f3c2a --note \"it was not alice\"")]
    Reopen(HandleArgs),
}

/// `kubesiren alerts list`
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// How.
    #[command(flatten)]
    pub output: Output,
    /// When.
    #[command(flatten)]
    pub times: Times,
    /// Which.
    #[command(flatten)]
    pub filter: Filter,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    /// Whose.
    #[command(flatten)]
    pub connection: Connection,
}

/// `kubesiren alerts show ID`
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The alert's id, or the first characters of it.
    #[arg(value_name = "ID")]
    pub id: String,
    /// How.
    #[command(flatten)]
    pub output: Output,
    /// Whose.
    #[command(flatten)]
    pub connection: Connection,
}

/// `kubesiren alerts ack|close|reopen ID…`
#[derive(Debug, clap::Args)]
pub struct HandleArgs {
    /// The alerts' ids, or the first characters of them.
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// What the others should know.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub note: String,
    /// How.
    #[command(flatten)]
    pub output: Output,
    /// Whose.
    #[command(flatten)]
    pub connection: Connection,
}

/// `kubesiren alerts note ID TEXT`
#[derive(Debug, clap::Args)]
pub struct NoteArgs {
    /// The alert's id, or the first characters of it.
    #[arg(value_name = "ID")]
    pub id: String,
    /// What the others should know.
    #[arg(value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub text: String,
    /// How.
    #[command(flatten)]
    pub output: Output,
    /// Whose.
    #[command(flatten)]
    pub connection: Connection,
}

/// Does what was asked.
pub fn run(args: &Args, globals: Globals) -> Outcome {
    match &args.command {
        AlertsCommand::List(args) => block_on(list(args, globals)),
        AlertsCommand::Show(args) => block_on(show(args)),
        AlertsCommand::Ack(args) => block_on(handle(args, "acknowledge", globals)),
        AlertsCommand::Note(args) => block_on(note(args, globals)),
        AlertsCommand::Close(args) => block_on(handle(args, "close", globals)),
        AlertsCommand::Reopen(args) => block_on(handle(args, "reopen", globals)),
    }
}

async fn list(args: &ListArgs, globals: Globals) -> Outcome {
    let client = Client::new(&args.connection)?;
    let mut query = args.filter.query(&client).await?;
    args.times.add(&mut query);
    let format = args.output.format();
    let (mut out, mut left, mut count) = (out::stdout(), args.limit, 0);
    let mut cursor = None;
    let more = loop {
        let page = listing(&client, &query, left, cursor.take()).await?;
        // A daemon that gives more than was asked for is not trusted with our memory, nor with the reader's patience.
        for text in page.alerts.iter().take(left) {
            match format {
                Format::Json => writeln!(out, "{}", visible_json(line(text)))?,
                Format::Table => row(&mut out, &read(text)?)?,
            }
            count += 1;
        }
        left = left.saturating_sub(page.alerts.len());
        match page.next_cursor {
            Some(next) if left > 0 && !page.alerts.is_empty() => cursor = Some(next),
            next => break next.is_some(),
        }
    };
    out.flush()?;
    if globals.quiet == 0 && more {
        writeln!(out::stderr(), "… these are the newest {count}; --limit shows more")?;
    }
    if globals.quiet == 0 && count == 0 {
        writeln!(out::stderr(), "no alert {}", args.filter.words(&args.times))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(args: &ShowArgs) -> Outcome {
    let client = Client::new(&args.connection)?;
    let text = one(&client, &args.id).await?;
    let mut out = out::stdout();
    match args.output.format() {
        Format::Json => writeln!(out, "{}", visible_json(line(&text)))?,
        Format::Table => show::whole(&mut out, &read(&text)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn note(args: &NoteArgs, globals: Globals) -> Outcome {
    let client = Client::new(&args.connection)?;
    let id = read(&one(&client, &args.id).await?)?.alert.id;
    let body = json!({"action": "note", "note": args.text});
    let changed: Box<RawValue> = client.post(&ask::path(&id, "/handling")?, &body).await?;
    done(&changed, Some("noted"), args.output, globals)
}

/// Says what has become of an alert.
fn done(changed: &RawValue, word: Option<&str>, output: Output, globals: Globals) -> Outcome {
    let Handled { alert, handling, .. } = read(changed)?;
    let state = word.unwrap_or_else(|| handling.map_or("open", |handling| handling.as_str()));
    let short = &alert.id[..8.min(alert.id.len())];
    match output.format() {
        Format::Json => writeln!(out::stdout(), "{}", visible_json(line(changed)))?,
        Format::Table if globals.quiet == 0 => {
            writeln!(out::stderr(), "\x1b[32m{state}\x1b[0m  {short}  {}", visible(&alert.rule.title))?;
        }
        Format::Table => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// All ids are looked up before anything is changed: a slip in one of them changes nothing.
async fn handle(args: &HandleArgs, action: &str, globals: Globals) -> Outcome {
    let client = Client::new(&args.connection)?;
    let mut ids = Vec::new();
    for id in &args.ids {
        let alert = read(&one(&client, id).await?)?;
        if !ids.contains(&alert.alert.id) {
            ids.push(alert.alert.id);
        }
    }
    let body = json!({"action": action, "note": args.note});
    for (before, id) in ids.iter().enumerate() {
        let changed: Box<RawValue> = client.post(&ask::path(id, "/handling")?, &body).await.map_err(|problem| {
            let words =
                if before == 0 { String::new() } else { format!(" ({} done before)", counted(before, "alert")) };
            Failure::from(anyhow!("{id}: {problem}{words}"))
        })?;
        done(&changed, None, args.output, globals)?;
    }
    Ok(ExitCode::SUCCESS)
}
