//! `kubesiren policy check`: which rules a policy blinds, and why.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::{CheckArgs, Format, load, volume};
use crate::cli::{Failure, Globals, Outcome, out};
use crate::diagnose::SourceText;
use crate::policy::check::{Checked, Gap, Sight, Why, check};
use crate::policy::model;
use crate::text::{counted, visible};

/// Reasons that are shown of a rule that still sees something, unless more is asked for.
const REASONS_MAX: usize = 2;

/// If all rules are blind, and they are more than these, it is not said of each.
const BLIND_MAX: usize = 20;

/// A policy may be this long.
const FILE_MAX: u64 = 16 << 20;

pub(super) fn run(args: &CheckArgs, globals: Globals) -> Outcome {
    if args.file.as_os_str() == "-" && args.estimate.iter().any(|file| file.as_os_str() == "-") {
        return Err(anyhow::anyhow!("the policy and a recording cannot both come from standard input").into());
    }
    let rules = load(&args.selection)?;
    let (policy, warnings) = model::parse(&SourceText::new(&name_of(&args.file), read(&args.file)?))?;
    out::findings(&warnings);
    let mut checked = check(&policy, &rules);
    checked.sort_by(|a, b| (a.sight, Reverse(a.level), &a.title).cmp(&(b.sight, Reverse(b.level), &b.title)));
    let estimate = if args.estimate.is_empty() { None } else { Some(volume::estimate(&policy, &args.estimate)?) };
    let mut out = out::stdout();
    match args.output.format() {
        Format::Json => {
            for checked in &checked {
                writeln!(out, "{}", serde_json::to_string(checked)?)?;
            }
            if let Some(estimate) = &estimate {
                writeln!(out, "{}", serde_json::json!({"estimate": estimate}))?;
            }
        }
        Format::Table => {
            table(&mut out, &checked, globals.verbose > 0)?;
            if let Some(estimate) = &estimate {
                writeln!(out)?;
                volume::table(&mut out, estimate)?;
            }
        }
    }
    let blind = checked.iter().any(|checked| checked.sight == Sight::Blind);
    Ok(if blind { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn read(path: &Path) -> Result<String, Failure> {
    let name = name_of(path);
    let cannot = || format!("cannot read {}", name.display());
    let from: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).with_context(cannot)?)
    };
    let mut text = String::new();
    from.take(FILE_MAX + 1).read_to_string(&mut text).with_context(cannot)?;
    if text.len() as u64 > FILE_MAX {
        return Err(
            anyhow::anyhow!("{} is no audit policy: it is larger than {} MiB", name.display(), FILE_MAX >> 20).into()
        );
    }
    Ok(text)
}

/// The blind first, each with its reasons; a closing line with the numbers.
fn table(out: &mut impl Write, checked: &[Checked], all: bool) -> Result<(), Failure> {
    let blind = |checked: &Checked| checked.sight == Sight::Blind;
    if checked.len() > BLIND_MAX && checked.iter().all(blind) && !all {
        writeln!(out, "This policy logs nothing that a rule looks for. Is it the whole of it? (-v shows each rule)")?;
    } else {
        sights(out, checked, all)?;
    }
    let number = |sight: Sight| checked.iter().filter(|checked| checked.sight == sight).count();
    let (blind, partly, full) = (number(Sight::Blind), number(Sight::Partly), number(Sight::Full));
    let unknown = match number(Sight::Unknown) {
        0 => String::new(),
        unknown => format!(", {unknown} unknown"),
    };
    let of = counted(checked.len(), "rule");
    writeln!(out, "{of}: {blind} blind, {partly} see part of what they look for, {full} see all of it{unknown}")?;
    Ok(())
}

/// The rules that do not see everything, by what they see.
fn sights(out: &mut impl Write, checked: &[Checked], all: bool) -> Result<(), Failure> {
    for (sight, heading) in [
        (Sight::Blind, "\x1b[1;31mBLIND\x1b[0m  cannot fire under this policy"),
        (Sight::Partly, "\x1b[1;33mPARTLY\x1b[0m  fire, but miss some of what they look for"),
        (Sight::Unknown, "\x1b[1;33mUNKNOWN\x1b[0m  no example could be made of what they look for"),
    ] {
        let mut found = checked.iter().filter(|checked| checked.sight == sight).peekable();
        if found.peek().is_some() {
            writeln!(out, "{heading}\n")?;
        }
        for checked in found {
            rule(out, checked, all || sight == Sight::Blind)?;
        }
    }
    Ok(())
}

fn rule(out: &mut impl Write, checked: &Checked, all: bool) -> Result<(), Failure> {
    writeln!(out, "  {:<13} \x1b[1m{}\x1b[0m", checked.level, visible(&checked.title))?;
    let shown = if all { checked.gaps.len() } else { REASONS_MAX.min(checked.gaps.len()) };
    for gap in &checked.gaps[..shown] {
        reason(out, gap)?;
    }
    if shown < checked.gaps.len() {
        writeln!(
            out,
            "      \x1b[2m… and {} (-v shows all)\x1b[0m",
            counted(checked.gaps.len() - shown, "more reason")
        )?;
    }
    writeln!(out)?;
    Ok(())
}

fn reason(out: &mut impl Write, gap: &Gap) -> Result<(), Failure> {
    let place = gap.line.map_or_else(|| "no rule of the policy matches".to_owned(), |line| format!("line {line}"));
    let fields = gap.fields.join(", ");
    let why = match gap.why {
        Why::NotLogged => format!("not logged ({place})"),
        Why::StageOmitted => format!("never seen: {fields} is omitted ({place})"),
        Why::LevelTooLow => format!("logged at {}, needs {} ({place}): {fields}", gap.has, gap.needs),
        Why::FieldsMissing => format!("logged at {}, in some ways needs {} ({place}): {fields}", gap.has, gap.needs),
        Why::Late => format!("seen only when it ends: {fields} is omitted ({place})"),
    };
    let requests: Vec<String> = gap.requests.iter().map(|request| visible(request)).collect();
    if let Some(of) = &gap.of {
        writeln!(out, "      \x1b[2mof\x1b[0m {}", visible(of))?;
    }
    writeln!(out, "      {}: {why}", requests.join("; "))?;
    match (&gap.add, gap.line) {
        (Some(add), Some(line)) => writeln!(out, "        \x1b[32madd before line {line}\x1b[0m  {}", visible(add))?,
        (Some(add), None) => writeln!(out, "        \x1b[32madd at the end\x1b[0m  {}", visible(add))?,
        (None, _) if matches!(gap.why, Why::StageOmitted | Why::Late) => {
            writeln!(out, "        \x1b[32mtake it out of omitStages\x1b[0m")?;
        }
        (None, Some(line)) => {
            writeln!(out, "        \x1b[32mlet the rule of line {line} name the resources that are noise\x1b[0m")?;
        }
        (None, None) => writeln!(out, "        \x1b[32madd at the end\x1b[0m  - {{level: {}}}", gap.needs)?,
    }
    Ok(())
}

/// The name of an input for people.
fn name_of(path: &Path) -> PathBuf {
    if path.as_os_str() == "-" { PathBuf::from("<stdin>") } else { path.to_owned() }
}
