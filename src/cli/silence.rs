//! `kubesiren silence`: what is kept from the sinks for a while, though it is stored and shown like any other alert.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};

use super::alerts::{self, About, rule_id, rules};
use super::client::{Client, Connection, block_on};
use super::output::{Format, Output, json_line};
use super::{Failure, Globals, Outcome, out};
use crate::alert::{Level, RuleName};
use crate::clock::{self, Timestamp};
use crate::store::{Conditions, Figures, Silence};
use crate::text::{counted, visible};
use crate::units::Span;

/// What the preview looks back at.
const BEFORE: &str = "7d";
/// Alerts that it shows.
const SHOWN: usize = 5;
/// What alerts have to have in common with the one that is named, if nothing else is said.
const USUAL: [Field; 3] = [Field::Rule, Field::User, Field::Namespace];

/// `kubesiren silence …`
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    pub command: SilenceCommand,
}

/// The commands below `silence`.
#[derive(Debug, Subcommand)]
pub enum SilenceCommand {
    /// Keep new alerts from the sinks for a while; they are stored and shown all the same.
    ///
    /// Says first what it would have hidden in the last week, and on a terminal asks whether that is meant. What is to be
    /// quiet for good belongs in a filter of the rules: see `kubesiren rules tune`.
    #[command(
        after_help = "Example:\n  kubesiren silence add --from e71f3c2a --for 2h --reason \"maintenance, ticket 4711\""
    )]
    Add(Box<AddArgs>),
    /// List silences, those in force first.
    #[command(after_help = "Example:\n  kubesiren silence list --all")]
    List(ListArgs),
    /// End silences before their time.
    #[command(visible_alias = "end", after_help = "Example:\n  kubesiren silence rm 3")]
    Rm(RmArgs),
}

/// `kubesiren silence add`
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// Alerts like this one: id, or first characters of it.
    #[arg(long, value_name = "ALERT")]
    pub from: Option<String>,
    /// What they have in common with it; rule,user,namespace if not given.
    #[arg(long, value_enum, value_name = "FIELD[,FIELD…]", value_delimiter = ',', requires = "from")]
    pub by: Vec<Field>,
    /// What about.
    #[command(flatten)]
    pub about: About,
    /// How long: 30m, 2h, 7d; at most 90d.
    #[arg(long = "for", value_name = "SPAN")]
    pub lasts: Span,
    /// Why, for the others; on a terminal it is asked for.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// How.
    #[command(flatten)]
    pub output: Output,
    /// Whose.
    #[command(flatten)]
    pub connection: Connection,
}

/// What a silence can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Field {
    /// The rule.
    Rule,
    /// The cluster.
    Cluster,
    /// Who did it.
    User,
    /// The object's namespace.
    Namespace,
    /// The verb.
    Verb,
    /// The object.
    Object,
}

/// `kubesiren silence list`
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Those that are over, too.
    #[arg(long, short)]
    pub all: bool,
    /// How.
    #[command(flatten)]
    pub output: Output,
    /// Whose.
    #[command(flatten)]
    pub connection: Connection,
}

/// `kubesiren silence rm NUMBER…`
#[derive(Debug, clap::Args)]
pub struct RmArgs {
    /// Their numbers.
    #[arg(value_name = "NUMBER", required = true)]
    pub ids: Vec<i64>,
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
        SilenceCommand::Add(args) => block_on(add(args, globals)),
        SilenceCommand::List(args) => block_on(list(args, globals)),
        SilenceCommand::Rm(args) => block_on(rm(args, globals)),
    }
}

async fn add(args: &AddArgs, globals: Globals) -> Outcome {
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let client = Client::new(&args.connection)?;
    let conditions = conditions(args, &client).await?;
    if conditions.set().next().is_none() {
        let words =
            "say what is to be silenced: --from ALERT, or --rule, --cluster, --user, --namespace, --verb, --object";
        return Err(anyhow!(words).into());
    }
    if globals.quiet == 0 {
        preview(&client, &conditions).await?;
    }
    if !args.yes && !asks {
        return Err(anyhow!("this would be silenced for {}; say --yes", args.lasts).into());
    }
    let reason = match &args.reason {
        Some(reason) => reason.clone(),
        None if asks && !args.yes => ask("Why, for the others: ")?,
        None => return Err(anyhow!("say why, somebody else will wonder: --reason TEXT").into()),
    };
    if !args.yes && !ask(&format!("Silence this for {}? [y/N] ", args.lasts))?.to_ascii_lowercase().starts_with('y') {
        writeln!(out::stderr(), "nothing is silenced")?;
        return Ok(ExitCode::from(1));
    }
    #[derive(Deserialize)]
    struct Made {
        id: i64,
        expires: Timestamp,
    }
    let body = json!({"conditions": conditions, "reason": reason, "lasts": args.lasts});
    let made: Made = client.post("/api/v1/silences", &body).await?;
    match args.output.format() {
        Format::Json => json_line(&mut out::stdout(), &json!({"id": made.id, "expires": made.expires}))?,
        Format::Table => {
            let until = out::moment(made.expires);
            writeln!(
                out::stdout(),
                "silence {} until {until} UTC; `kubesiren silence rm {}` ends it",
                made.id,
                made.id
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A line from the person at the terminal.
fn ask(question: &str) -> Result<String, Failure> {
    let mut err = out::stderr();
    write!(err, "{question}")?;
    err.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// What was said, over what the alert has.
async fn conditions(args: &AddArgs, client: &Client) -> Result<Conditions, Failure> {
    let mut conditions = Conditions::default();
    if let Some(id) = &args.from {
        let alert = alerts::read(&alerts::one(client, id).await?)?.alert;
        let by = if args.by.is_empty() { &USUAL[..] } else { &args.by };
        let object = alert.event.object_ref.unwrap_or_default();
        let named = object.resource.zip(object.name).map(|(resource, name)| format!("{resource}/{name}"));
        for field in by {
            let (place, value) = match field {
                Field::Rule => (&mut conditions.rule, Some(alert.rule.id.clone())),
                Field::Cluster => (&mut conditions.cluster, Some(alert.cluster.clone())),
                Field::User => (&mut conditions.user, alert.event.user.username.clone()),
                Field::Namespace => (&mut conditions.namespace, object.namespace.clone()),
                Field::Verb => (&mut conditions.verb, Some(alert.event.verb.clone())),
                Field::Object => (&mut conditions.object, named.clone()),
            };
            if value.is_none() && !args.by.is_empty() {
                let name = format!("{field:?}").to_lowercase();
                return Err(anyhow!("the alert has no {name}; leave it out of --by").into());
            }
            *place = value;
        }
    }
    if let Some(rule) = &args.about.rule {
        conditions.rule = Some(rule_id(client, rule).await?);
    }
    let given = [
        (&mut conditions.cluster, &args.about.cluster),
        (&mut conditions.user, &args.about.user),
        (&mut conditions.namespace, &args.about.namespace),
        (&mut conditions.verb, &args.about.verb),
        (&mut conditions.object, &args.about.object),
    ];
    for (place, value) in given {
        if value.is_some() {
            place.clone_from(value);
        }
    }
    Ok(conditions)
}

/// Says what the conditions would have hidden in the last week.
async fn preview(client: &Client, conditions: &Conditions) -> Result<(), Failure> {
    let mut query: Vec<(&'static str, String)> = conditions.set().map(|(name, text)| (name, text.to_owned())).collect();
    query.push(("since", BEFORE.to_owned()));
    let figures: Figures = client.get("/api/v1/figures", &[&query[..], &[("bars", "1".to_owned())]].concat()).await?;
    let page = alerts::listing(client, &query, SHOWN, None).await?;
    // Where they are not known, ids are shown.
    let rules = rules(client).await.unwrap_or_default();
    let mut err = out::stderr();
    writeln!(err, "Alerts for which all of this holds:")?;
    about(&mut err, conditions, &rules)?;
    let worst = Level::ALL.into_iter().zip(figures.levels).rev().find(|(_, count)| *count > 0).map(|(level, _)| level);
    let bad = worst.filter(|level| *level >= Level::High);
    let bad = bad.map(|level| format!(", \x1b[1;31msome of them {level}\x1b[0m")).unwrap_or_default();
    writeln!(err, "In the last week this would have hidden {}{bad}.", counted(figures.total, "alert"))?;
    for text in page.alerts.iter().take(SHOWN) {
        alerts::row(&mut err, &alerts::read(text)?)?;
    }
    if figures.total > SHOWN as u64 {
        writeln!(err, "… and {} more", figures.total - SHOWN as u64)?;
    }
    Ok(())
}

fn about(out: &mut impl Write, conditions: &Conditions, rules: &[RuleName]) -> std::io::Result<()> {
    for (name, text) in conditions.set() {
        let title = rules.iter().find(|rule| name == "rule" && rule.id == *text).map(|rule| rule.title.as_str());
        out::indented(out, &format!("    {name}"), 15, title.unwrap_or(text))?;
    }
    Ok(())
}

async fn list(args: &ListArgs, globals: Globals) -> Outcome {
    #[derive(Deserialize)]
    struct Listed {
        silences: Vec<Silence>,
    }
    let client = Client::new(&args.connection)?;
    let Listed { mut silences } = client.get("/api/v1/silences", &[]).await?;
    silences.retain(|silence| args.all || silence.lasts);
    let mut out = out::stdout();
    match args.output.format() {
        Format::Json => silences.iter().try_for_each(|silence| json_line(&mut out, silence))?,
        Format::Table => {
            let rules = rules(&client).await.unwrap_or_default();
            silences.iter().try_for_each(|silence| row(&mut out, silence, &rules))?;
        }
    }
    if silences.is_empty() && globals.quiet == 0 {
        let over = if args.all { "" } else { "; --all shows those that are over" };
        writeln!(out::stderr(), "nothing is silenced{over}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Its number, until when, how much it hid; then what, why and who.
fn row(out: &mut impl Write, one: &Silence, rules: &[RuleName]) -> std::io::Result<()> {
    let silence = &one.silence;
    let left = || alerts::span(silence.expires.since(clock::now()).as_secs());
    let until = match (&one.ended, one.lasts) {
        (_, true) => format!("\x1b[33muntil {} UTC\x1b[0m, {} left", out::moment(silence.expires), left()),
        (Some(ended), false) => {
            let by = one.ended_by.as_deref().map(visible).unwrap_or_default();
            format!("\x1b[2mended {} UTC by {by}\x1b[0m", out::moment(*ended))
        }
        (None, false) => format!("\x1b[2mran out {} UTC\x1b[0m", out::moment(silence.expires)),
    };
    writeln!(out, "{:>3}  {until}, {} hidden", one.id, counted(one.hidden, "alert"))?;
    about(out, &silence.conditions, rules)?;
    let said = format!("{} ({}, {})", silence.reason, silence.who, out::moment(silence.created));
    out::indented(out, "    why", 15, &said)
}

async fn rm(args: &RmArgs, globals: Globals) -> Outcome {
    let client = Client::new(&args.connection)?;
    for id in &args.ids {
        let ended = client.post::<Value>(&format!("/api/v1/silences/{id}/end"), &json!({})).await;
        let ended = ended.map_err(|problem| {
            let remedy = if problem.is_not_found() { "; `kubesiren silence list` shows those that are" } else { "" };
            Failure::from(anyhow!("{id}: {problem}{remedy}"))
        })?;
        match args.output.format() {
            Format::Json => json_line(&mut out::stdout(), &ended)?,
            Format::Table if globals.quiet == 0 => writeln!(out::stderr(), "silence {id} has ended")?,
            Format::Table => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}
