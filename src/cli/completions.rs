//! `kubesiren completions`: generated from the command line's own definition, and taught which rules there are.
//!
//! Where a rule is named, the shell asks `kubesiren rules list --ids`. Every such argument is called `RULE`, and by that name the
//! places are found in what is generated.

use std::io::Write;
use std::process::ExitCode;

use clap_complete::Shell;

use super::{Outcome, out};

/// What arguments that name a rule are called.
pub const RULE: &str = "RULE";

/// `kubesiren completions SHELL`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kubesiren completions bash > /etc/bash_completion.d/kubesiren")]
pub struct Args {
    /// For which shell.
    pub shell: Shell,
}

const BASH: &str = r#"_kubesiren_rules() {
    kubesiren rules list --ids 2>/dev/null | cut -f 1
}

"#;

const ZSH: &str = r#"(( $+functions[_kubesiren_rules] )) ||
_kubesiren_rules() {
    local -a rules
    rules=(${(f)"$(kubesiren rules list --ids 2>/dev/null)"})
    rules=(${rules//:/\\:})
    rules=(${rules/$'\t'/:})
    _describe -t rules 'rule' rules
}

"#;

const FISH: &str = "function __kubesiren_rules
    kubesiren rules list --ids 2>/dev/null
end

";

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    // Into memory first: the generator panics when its output is closed.
    let mut text = Vec::new();
    let mut command = super::command();
    clap_complete::generate(args.shell, &mut command, "kubesiren", &mut text);
    let text = String::from_utf8_lossy(&text);
    out::stdout().write_all(with_rules(&text, args.shell, &command).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The script with the rules where they are asked for; as it is for shells of which we do not know how.
fn with_rules(script: &str, shell: Shell, command: &clap::Command) -> String {
    let mut places = Vec::new();
    find(command, &mut Vec::new(), &mut places);
    match shell {
        Shell::Bash => bash(script, &places),
        Shell::Zsh => zsh(script),
        Shell::Fish => fish(script, &places),
        _ => script.to_owned(),
    }
}

/// An argument that names a rule: its command, and its option if it is one.
struct Place {
    command: Vec<String>,
    option: Option<String>,
}

impl Place {
    /// What the script for bash calls the command.
    fn case(&self) -> String {
        format!("kubesiren__subcmd__{}", self.command.join("__subcmd__"))
    }
}

fn find(command: &clap::Command, path: &mut Vec<String>, places: &mut Vec<Place>) {
    let named = |arg: &&clap::Arg| arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == RULE));
    for arg in command.get_arguments().filter(named) {
        places.push(Place { command: path.clone(), option: arg.get_long().map(|long| format!("--{long}")) });
    }
    for below in command.get_subcommands() {
        path.push(below.get_name().to_owned());
        find(below, path, places);
        path.pop();
    }
}

fn bash(script: &str, places: &[Place]) -> String {
    let mut out = String::from(BASH);
    // The case that a line stands in: of an option, or of a command.
    let mut case = "";
    for line in script.lines() {
        let option = places.iter().any(|place| place.option.as_deref() == Some(case));
        let command = || places.iter().any(|place| place.option.is_none() && place.case() == case);
        let line_with_rules = if option {
            line.replace("compgen -f \"${cur}\"", "compgen -W \"$(_kubesiren_rules)\" -- \"${cur}\"")
        } else if line.trim_start().starts_with("opts=") && command() {
            format!("{} $(_kubesiren_rules)\"", line.trim_end_matches('"'))
        } else {
            line.to_owned()
        };
        case = line.trim().strip_suffix(')').unwrap_or_default();
        out.push_str(&line_with_rules);
        out.push('\n');
    }
    out
}

fn zsh(script: &str) -> String {
    let mut out = String::new();
    for line in script.lines() {
        if line == "_kubesiren() {" {
            out.push_str(ZSH);
        }
        let names_rule = line.contains(":RULE:") || line.contains(":RULE -- ");
        match line.strip_suffix(":_default' \\").filter(|_| names_rule) {
            Some(begin) => out.push_str(&format!("{begin}:_kubesiren_rules' \\\n")),
            None => out.push_str(&format!("{line}\n")),
        }
    }
    out
}

fn fish(script: &str, places: &[Place]) -> String {
    const RULES: &str = "-f -a \"(__kubesiren_rules)\"";
    let mut out = String::from(FISH);
    let options: Vec<String> = places
        .iter()
        .filter_map(|place| Some(format!(" -l {} ", place.option.as_deref()?.strip_prefix("--")?)))
        .collect();
    for line in script.lines() {
        let names_rule = line.ends_with(" -r") && options.iter().any(|option| line.contains(option.as_str()));
        out.push_str(&if names_rule { format!("{line} {RULES}\n") } else { format!("{line}\n") });
    }
    for place in places.iter().filter(|place| place.option.is_none()) {
        if let [above, below] = place.command.as_slice() {
            let here = format!("__fish_kubesiren_using_subcommand {above}; and __fish_seen_subcommand_from {below}");
            out.push_str(&format!("complete -c kubesiren -n \"{here}\" {RULES}\n"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(shell: Shell) -> String {
        let (mut text, mut command) = (Vec::new(), crate::cli::command());
        clap_complete::generate(shell, &mut command, "kubesiren", &mut text);
        with_rules(&String::from_utf8(text).expect("UTF-8"), shell, &command)
    }

    #[test]
    fn wherever_a_rule_is_named_the_shell_asks_which_there_are() {
        let (mut places, command) = (Vec::new(), crate::cli::command());
        find(&command, &mut Vec::new(), &mut places);
        assert!(places.len() >= 7, "{}", places.len());
        let places = places.len();
        let count = |shell, call: &str| script(shell).matches(call).count();
        assert_eq!(count(Shell::Bash, "$(_kubesiren_rules)"), places);
        assert_eq!(count(Shell::Zsh, ":_kubesiren_rules'"), places);
        assert_eq!(count(Shell::Fish, "(__kubesiren_rules)"), places);
        assert!(!script(Shell::Elvish).contains("_rules"));
    }
}
