//! `kubesiren rules`: look at rules, check them, test them, ask why.

mod check;
mod coverage;
mod explain;
mod list;
mod test;
mod tune;

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Subcommand;

pub use super::output::Format;
use super::output::{Output, Words};
use super::{Failure, Globals, Outcome};
use crate::alert::{Level, RuleInfo};
use crate::diagnose::closest;
use crate::rule::lists::{self, Change};
use crate::rule::sigma::Placeholders;
use crate::rule::{self, Profile, Rules};

/// `kubesiren rules …`
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    pub command: RulesCommand,
}

/// The commands below `rules`.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List rules: level, id, title.
    #[command(after_help = "Example:\n  kubesiren rules list --min-level high")]
    List(ListArgs),
    /// Show one rule as it is written.
    #[command(after_help = "Example:\n  kubesiren rules show \"Cluster-admin granted\"")]
    Show(ShowArgs),
    /// List every mistake in rule files.
    #[command(after_help = "Example:\n  kubesiren rules check detections/")]
    Check(CheckArgs),
    /// Run the *.test.yml beside the rules.
    #[command(after_help = "Example:\n  kubesiren rules test detections/\n  kubesiren rules test --mutate detections/")]
    Test(TestArgs),
    /// Propose filters that take false alerts away, and prove that the rules still fire.
    ///
    /// Takes the alerts that somebody has found to be false, as `scan`, a sink or the API writes them, and writes the
    /// narrowest sensible Sigma filter for each rule. Exits with 1 where a filter would silence a case in which the rule
    /// must fire, or where the alerts have nothing in common that could not be anybody's.
    #[command(after_help = "Example:\n  kubesiren rules tune --alerts false.jsonl > filters/known.yml")]
    Tune(TuneArgs),
    /// Say for each rule and predicate why an event did or did not match.
    #[command(after_help = "Example:\n  kubesiren rules explain --event event.json --rule c1bb3a91")]
    Explain(ExplainArgs),
    /// Show which techniques of ATT&CK and other frameworks the rules find, and which none finds.
    #[command(
        after_help = "Example:\n  kubesiren rules coverage --framework attack\n  kubesiren rules coverage --format navigator > layer.json"
    )]
    Coverage(CoverageArgs),
}

/// Which rules a command is about.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Selection {
    /// Also use the rules, Sigma or Falco, in this file or folder; may be given several times.
    #[arg(long, value_name = "PATH")]
    pub rules: Vec<PathBuf>,
    /// Leave the built-in detections out.
    #[arg(long)]
    pub no_builtin: bool,
    /// What stands for the placeholders in them.
    #[command(flatten)]
    pub placeholders: PlaceholderArgs,
}

impl Selection {
    /// What to load.
    fn options(&self) -> Result<rule::Options, Failure> {
        let builtin = !self.no_builtin;
        let mut options = rule::Options { builtin, paths: self.rules.clone(), ..rule::Options::default() };
        self.placeholders.apply(&mut options)?;
        Ok(options)
    }
}

/// What `%placeholders%` and named lists in rules stand for.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PlaceholderArgs {
    /// What `%NAME%` stands for in rules that say `expand`; may be given several times.
    #[arg(long = "placeholder", value_name = "NAME=VALUE[,VALUE…]")]
    pub placeholders: Vec<String>,
    /// Add to a named list of the detections, or replace it with NAME:=VALUE; may be given several times.
    ///
    /// `kubesiren rules list --lists` shows them.
    #[arg(long = "list", value_name = "NAME=VALUE[,VALUE…]")]
    pub lists: Vec<String>,
}

impl PlaceholderArgs {
    /// Puts them on top of what the options have; values of a name that is given twice are put together.
    pub fn apply(&self, options: &mut rule::Options) -> Result<(), Failure> {
        let mut values = Placeholders::new();
        for written in &self.placeholders {
            let Some((name, list)) =
                written.split_once('=').filter(|(name, list)| !name.is_empty() && !list.is_empty())
            else {
                return Err(anyhow!("`--placeholder {written}` must read NAME=VALUE[,VALUE…]").into());
            };
            values.entry(name.to_owned()).or_default().extend(list.split(',').map(str::to_owned));
        }
        if let Some((_, message)) = lists::taken(&values).next() {
            return Err(
                anyhow!("--placeholder: {}", message.replace("under `detections.lists`", "with `--list`")).into()
            );
        }
        options.placeholders.extend(values);
        for written in &self.lists {
            let Some((name, list)) = written.split_once('=').filter(|(name, _)| !name.is_empty()) else {
                return Err(anyhow!("`--list {written}` must read NAME=VALUE[,VALUE…] or NAME:=VALUE[,VALUE…]").into());
            };
            let change = options.lists.entry(name.trim_end_matches(':').to_owned()).or_default();
            if name.ends_with(':') {
                *change = Change { replace: true, values: Vec::new() };
            }
            change.values.extend(list.split(',').filter(|value| !value.is_empty()).map(str::to_owned));
        }
        match lists::unknown(&options.lists).first() {
            Some((_, message)) => Err(anyhow!("--list: {message}").into()),
            None => Ok(()),
        }
    }

    /// What all placeholders stand for, for those that load rules by themselves.
    pub fn values(&self) -> Result<Placeholders, Failure> {
        let mut options = rule::Options::default();
        self.apply(&mut options)?;
        Ok(lists::values(&options.lists, &options.placeholders))
    }
}

/// `kubesiren rules list`
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Which rules.
    #[command(flatten)]
    pub selection: Selection,
    /// Rules of this level and above only.
    #[arg(long, value_name = "LEVEL")]
    pub min_level: Option<Level>,
    /// Only what this profile runs: minimal, default or paranoid.
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<Profile>,
    /// List the named lists that rules use instead, with what is in them and where it comes from.
    #[arg(long = "lists", conflicts_with_all = ["min_level", "profile"])]
    pub show_lists: bool,
    /// Ids and titles alone, for shells that complete them.
    #[arg(long, hide = true, conflicts_with = "show_lists")]
    pub ids: bool,
    /// How.
    #[command(flatten)]
    pub output: Output,
}

/// `kubesiren rules show RULE`
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The rule's id, or the first characters of it, or its title.
    #[arg(id = "RULE", value_name = "RULE")]
    pub id: String,
    /// Which rules.
    #[command(flatten)]
    pub selection: Selection,
    /// As it is written, or with what is known of it.
    #[command(flatten)]
    pub output: Words,
}

/// `kubesiren rules test PATH…`
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// Change each part of each rule, and list those changes that no case notices.
    #[arg(long)]
    pub mutate: bool,
    /// Which rules.
    #[command(flatten)]
    pub paths: PathsArgs,
    /// In words, or one object for each file and one for the whole.
    #[command(flatten)]
    pub output: Words,
}

/// `kubesiren rules check PATH…`
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Which rules.
    #[command(flatten)]
    pub paths: PathsArgs,
    /// Drawn where they are, or one object for each mistake.
    #[command(flatten)]
    pub output: Words,
}

/// Rules by their files.
#[derive(Debug, clap::Args)]
pub struct PathsArgs {
    /// Files and folders of rules.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// What stands for the placeholders in them.
    #[command(flatten)]
    pub placeholders: PlaceholderArgs,
}

/// `kubesiren rules tune`
#[derive(Debug, clap::Args)]
pub struct TuneArgs {
    /// False alerts as JSON; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub alerts: PathBuf,
    /// Only those of this rule: id, first characters of it, or title.
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// Take the rules, filters and lists of this configuration of the daemon.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which rules.
    #[command(flatten)]
    pub selection: Selection,
    /// As files to keep, or with the proof.
    #[command(flatten)]
    pub output: Words,
}

/// `kubesiren rules explain`
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// A file with one audit event; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub event: PathBuf,
    /// Only this rule: id, first characters of it, or title.
    #[arg(long, value_name = "RULE")]
    pub rule: Option<String>,
    /// Which rules.
    #[command(flatten)]
    pub selection: Selection,
    /// In words, or one object for each event.
    #[command(flatten)]
    pub output: Words,
}

/// `kubesiren rules coverage`
#[derive(Debug, clap::Args)]
pub struct CoverageArgs {
    /// This framework only.
    #[arg(long, value_enum, value_name = "NAME")]
    pub framework: Option<Framework>,
    /// A table on a terminal, JSON lines otherwise; or a layer for the ATT&CK Navigator.
    #[arg(long = "output", short = 'o', visible_alias = "format", value_enum, value_name = "FORMAT")]
    pub format: Option<CoverageFormat>,
    /// Which rules.
    #[command(flatten)]
    pub selection: Selection,
}

/// A framework, by the name of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Framework {
    /// MITRE ATT&CK for Containers.
    Attack,
    /// Microsoft's threat matrix for Kubernetes.
    Microsoft,
    /// The OWASP Kubernetes Top Ten.
    Owasp,
    /// The CIS Kubernetes Benchmark.
    Cis,
}

/// How coverage is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CoverageFormat {
    /// For people.
    Table,
    /// One object a line.
    Json,
    /// A layer for the ATT&CK Navigator, format 4.5.
    Navigator,
}

/// Does what was asked.
pub fn run(args: &Args, globals: &Globals) -> Outcome {
    match &args.command {
        RulesCommand::List(args) => list::list(args),
        RulesCommand::Show(args) => list::show(args),
        RulesCommand::Check(args) => check::run(args, globals),
        RulesCommand::Test(args) => test::run(args),
        RulesCommand::Tune(args) => tune::run(args),
        RulesCommand::Explain(args) => explain::run(args),
        RulesCommand::Coverage(args) => coverage::run(args, globals),
    }
}

/// The selected rules; mistakes in them are the failure.
fn load(selection: &Selection) -> Result<Rules, Failure> {
    load_with(&selection.options()?)
}

fn load_with(options: &rule::Options) -> Result<Rules, Failure> {
    let loaded = rule::load(options);
    if loaded.has_errors() { Err(loaded.findings.into()) } else { Ok(loaded.rules) }
}

/// What rules and correlations say of themselves, the former first.
fn infos(rules: &Rules) -> impl Iterator<Item = &RuleInfo> {
    let correlations = rules.correlations.iter().map(|correlation| &*correlation.info);
    rules.rules.iter().map(|rule| &*rule.info).chain(correlations)
}

/// The rule that a user means: by id or title, or by the first characters of the id.
fn find<'r>(rules: &'r Rules, wanted: &str) -> Result<&'r RuleInfo, Failure> {
    let exact = |info: &&RuleInfo| info.id == wanted || info.title.eq_ignore_ascii_case(wanted);
    if let Some(info) = infos(rules).find(exact) {
        return Ok(info);
    }
    let candidates: Vec<&RuleInfo> = infos(rules).filter(|info| info.id.starts_with(wanted)).collect();
    match candidates.as_slice() {
        [info] => Ok(info),
        [] => {
            let names = infos(rules).flat_map(|info| [info.id.as_str(), info.title.as_str()]);
            let near = closest(wanted, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            Err(anyhow!("no rule has the id or title `{wanted}`{near}").into())
        }
        several => {
            let lines: Vec<String> = several.iter().map(|info| format!("\n  {}  {}", info.id, info.title)).collect();
            Err(anyhow!("`{wanted}` begins several ids:{}", lines.concat()).into())
        }
    }
}
