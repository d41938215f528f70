//! Every fenced block of the documentation is run, or checked as far as that can be done without a cluster, a cloud, a
//! broker or minutes of compiling. What a block is, its fence says: the language, and a word or two beside it that no reader
//! sees. A fence that says nothing known here fails. `.ci/docs` prints what was done with each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::deploy::{parsed, read, root};
use super::support::{Daemon, attack, installed, kubesiren, scan};

/// What a block of shell may need that is not here: `sh cluster` and so on. Such a block is parsed, and the arguments of
/// every `kubesiren` in it are looked at.
const NEEDS: [(&str, &str); 5] = [
    ("cluster", "a cluster"),
    ("cloud", "a cloud"),
    ("broker", "a broker"),
    ("build", "a compiler and minutes"),
    ("root", "root"),
];

/// A fenced block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    page: String,
    line: usize,
    /// The words behind the fence: the language, and what the block is.
    pub(crate) info: String,
    pub(crate) text: String,
}

impl Block {
    fn place(&self) -> String {
        format!("{}:{}", self.page, self.line)
    }

    /// The name that the first line says, where it does.
    fn name(&self) -> Option<&str> {
        self.text.lines().next().and_then(|line| line.strip_prefix("# ")).filter(|name| !name.contains(' '))
    }
}

/// The blocks of a page.
pub(crate) fn blocks_of(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    let mut indent = 0; // A block of a list's item stands further in.
    for (line, text) in read(page).lines().enumerate() {
        let inside = text.trim_start();
        if inside.starts_with("```") && open.is_none() {
            indent = text.len() - inside.len();
        }
        let text = text.get(indent.min(text.len() - inside.len())..).unwrap_or_default();
        match (inside.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                open =
                    Some(Block { page: page.to_owned(), line: line + 1, info: info.to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(block)) => {
                let _ = writeln!(block.text, "{text}"); // Writing to a string cannot fail.
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{page}: a block does not end: {open:?}");
    found
}

fn pages_below(folder: &Path, found: &mut Vec<String>) {
    for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() && !path.is_symlink() {
            pages_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path.strip_prefix(root()).expect("below it").display().to_string());
        }
    }
}

/// Everything that people read.
pub(crate) fn pages() -> Vec<String> {
    let mut found: Vec<String> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(str::to_owned).into();
    for folder in ["benches", "deploy", "detections", "docs", "samples"] {
        pages_below(&root().join(folder), &mut found);
    }
    found.sort();
    found
}

/// What was done with a block.
enum Done {
    Run,
    Checked,
    Parsed(&'static str),
}

/// A folder for what a page says, with all that its commands are about, and the program first in the path.
struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new(blocks: &[Block]) -> Self {
        let scratch = Self { folder: tempfile::tempdir().expect("a folder") };
        for name in ["samples", "deploy", "detections"] {
            symlink(root().join(name), scratch.path(name)).expect("a link");
        }
        for folder in ["bin", "rules", "filters", "home"] {
            fs::create_dir(scratch.path(folder)).expect("a folder");
        }
        let events = attack();
        scratch.write("audit.log", &events.join("\n"));
        scratch.write("event.json", &events[0]);
        scratch.write("config.yaml", kubesiren::config::DEFAULT_YAML);
        for file in ["ca.crt", "client.crt", "client.key"] {
            scratch.write(file, file);
        }
        scratch.write("home/.curlrc", "fail-with-body\nsilent\nshow-error\n");
        // On a terminal these print a table; `FORMAT` makes them do it here.
        scratch.program(
            "kubesiren",
            "#!/bin/sh\ncase \"$1 $2\" in scan*|\"policy check\") exec \"$KUBESIREN\" \"$@\" $FORMAT;; esac\nexec \"$KUBESIREN\" \"$@\"\n",
        );
        // `cargo run -- …` runs what is compiled already.
        scratch.program(
            "cargo",
            "#!/bin/sh\n[ \"$1\" = run ] || exit 1\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec kubesiren \"$@\"\n",
        );
        // Stands for what Falco ships.
        scratch.write(
            "k8s_audit_rules.yaml",
            "- rule: Any Secret\n  desc: d\n  condition: ka.target.resource = secrets\n  output: o\n  priority: INFO\n  source: k8s_audit\n",
        );
        for block in blocks.iter().filter(|block| block.info.starts_with("yaml ")) {
            let Some(name) = block.name() else { continue };
            scratch.write(name, &block.text);
            if block.info == "yaml rules" {
                scratch.write(&format!("rules/{name}"), &block.text);
            }
        }
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn program(&self, name: &str, text: &str) {
        let file = self.path("bin").join(name);
        fs::write(&file, text).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its own file");
    }

    fn shell(&self, path: &str, text: &str) -> Command {
        let mut shell = Command::new("bash");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KUBESIREN_")) {
            shell.env_remove(name);
        }
        shell.args(["-c", text]).current_dir(self.folder.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        shell.env("PATH", path).env("HOME", self.path("home")).env("XDG_STATE_HOME", self.path("home"));
        shell.env("KUBESIREN", env!("CARGO_BIN_EXE_kubesiren"));
        shell
    }

    /// Runs a block as somebody would who copies it into a shell.
    fn run(&self, text: &str, environment: &[(&str, &str)]) -> Output {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = self.shell(&path, &format!("set -euo pipefail\n{text}"));
        shell.envs(environment.iter().copied()).output().expect("bash can be started")
    }

    /// The arguments of every `kubesiren` in a block: bash reads it, with nothing else in its path.
    fn arguments(&self, text: &str) -> Result<Vec<Vec<String>>, String> {
        let list = self.path("arguments");
        fs::write(&list, "").expect("written");
        // What is not in the path does nothing, but for what starts `kubesiren` in turn.
        let shell = format!(
            "PATH=/nowhere\n\
             kubesiren() {{ printf '%s\\0' \"$@\" >> '{list}'; printf '\\n\\0' >> '{list}'; }}\n\
             cargo() {{ [ \"$1\" = run ] || return 0; for word; do [[ $word == --example ]] && return; done\n\
             while (($#)) && [[ $1 != -- ]]; do shift; done; shift; kubesiren \"$@\"; }}\n\
             find() {{ while (($#)) && [[ $1 != -exec ]]; do shift; done; shift; \"$@\"; }}\n\
             command_not_found_handle() {{ return 0; }}\n{text}",
            list = list.display()
        );
        let path = std::env::var("PATH").unwrap_or_default();
        let output = self.shell(&path, &shell).output().expect("bash can be started");
        let err = String::from_utf8_lossy(&output.stderr);
        if err.contains("syntax error") || err.contains("unexpected EOF") {
            return Err(err.into_owned());
        }
        let text = fs::read_to_string(&list).expect("the list");
        let commands = text.split_terminator("\n\0");
        Ok(commands.map(|command| command.split_terminator('\0').map(str::to_owned).collect()).collect())
    }

    /// Whether the program takes the arguments that a block gives to it.
    fn parses(&self, text: &str) -> Result<usize, String> {
        let commands = self.arguments(text)?;
        for arguments in &commands {
            let words = std::iter::once("kubesiren").chain(arguments.iter().map(String::as_str));
            match kubesiren::cli::command().try_get_matches_from(words) {
                Err(error) if error.use_stderr() => return Err(error.to_string()),
                _ => {}
            }
        }
        Ok(commands.len())
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn well(output: &Output) -> Result<String, String> {
    let said = said(output);
    if output.status.success() { Ok(said) } else { Err(format!("{}: {said}", output.status)) }
}

/// Whether what is shown was said, line by line; `…` stands for lines that are left out.
fn shows(shown: &str, said: &str) -> Result<(), String> {
    let mut rest = said;
    for line in shown.lines().filter(|line| line.trim() != "…") {
        // How long it took differs.
        let line = line.rsplit_once(", ").filter(|(_, time)| time.ends_with(" s")).map_or(line, |(line, _)| line);
        let at = rest.find(line).ok_or_else(|| format!("`{line}` is not next in:\n{said}"))?;
        rest = &rest[at + line.len()..];
    }
    Ok(())
}

/// One page, block by block.
struct Page {
    scratch: Scratch,
    /// What the block before has said.
    said: Option<String>,
}

impl Page {
    async fn look(&mut self, block: &Block, next: Option<&Block>) -> Result<Done, String> {
        let before = self.said.take();
        if let Some((_, needs)) = NEEDS.iter().find(|(marker, _)| block.info == format!("sh {marker}")) {
            return self.scratch.parses(&block.text).map(|_| Done::Parsed(needs));
        }
        match block.info.as_str() {
            "sh" => {
                self.scratch.parses(&block.text)?;
                let table = next.is_some_and(|next| next.info == "text output");
                let environment = if table { "--format table" } else { "" };
                self.said = Some(well(&self.scratch.run(&block.text, &[("FORMAT", environment)]))?);
                Ok(Done::Run)
            }
            "sh daemon" => self.with_daemon(block).await,
            "text output" => {
                let said = before.ok_or("there is no block of shell before it")?;
                shows(&block.text, &said).map(|()| Done::Run)
            }
            "yaml config" => self.program(block, &["config", "check", "--offline"]),
            "yaml rules" => self.rules(),
            "yaml values" => {
                parsed(&block.place(), block.text.clone());
                super::helm::values_are_taken(&block.text); // Says that it skips where there is no Helm.
                Ok(if installed("helm") { Done::Checked } else { Done::Parsed("helm") })
            }
            "yaml alertmanager" => self.alertmanager(block),
            "yaml manifest" => {
                parsed(&block.place(), block.text.clone());
                Ok(Done::Parsed("another program"))
            }
            "json alert" => alert(&block.text),
            "json" => {
                serde_json::from_str::<Value>(&block.text).map(|_| Done::Checked).map_err(|error| error.to_string())
            }
            "python" => self.python(block),
            "yaml shape" => {
                parsed(&block.place(), block.text.clone());
                Ok(Done::Parsed("a rule beside it"))
            }
            "mermaid" if block.text.starts_with("flowchart ") => Ok(Done::Parsed("somebody who looks at it")),
            "text flags" if block.text.lines().all(|line| line.starts_with("--audit-")) => {
                Ok(Done::Parsed("a cluster"))
            }
            _ => Err("no check is known for what its fence says: CONTRIBUTING.md lists what it can say".to_owned()),
        }
    }

    fn program(&self, block: &Block, arguments: &[&str]) -> Result<Done, String> {
        let file = self.scratch.path("block.yaml");
        fs::write(&file, &block.text).expect("written");
        well(&kubesiren().args(arguments).arg(&file).output().expect("the program can be started"))
            .map(|_| Done::Checked)
    }

    /// All rules of the page together: they name each other.
    fn rules(&self) -> Result<Done, String> {
        let folder = self.scratch.path("rules");
        let on = |what: &str| kubesiren().args(["rules", what]).arg(&folder).output().expect("it can be started");
        let checked = well(&on("check"))?;
        if !checked.trim_end().ends_with("no mistakes") {
            return Err(checked);
        }
        let cases = fs::read_dir(&folder).expect("the rules").filter_map(Result::ok);
        if cases.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".test.yml")) {
            well(&on("test"))?;
        }
        Ok(Done::Run)
    }

    fn alertmanager(&self, block: &Block) -> Result<Done, String> {
        if !installed("amtool") {
            return Ok(Done::Parsed("amtool"));
        }
        // The page shows what is to be added; Alertmanager wants a receiver for everything else.
        let whole = block.text.replacen("route:\n", "route:\n  receiver: others\n", 1).replacen(
            "receivers:\n",
            "receivers:\n  - name: others\n",
            1,
        );
        let file = self.scratch.path("alertmanager.yml");
        fs::write(&file, whole).expect("written");
        well(&Command::new("amtool").arg("check-config").arg(&file).output().expect("started")).map(|_| Done::Checked)
    }

    fn python(&self, block: &Block) -> Result<Done, String> {
        if !installed("python3") {
            return Ok(Done::Parsed("python3"));
        }
        let compile = "import sys; compile(sys.stdin.read(), 'block', 'exec')";
        let mut python = Command::new("python3");
        python.args(["-c", compile]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = python.spawn().expect("python can be started");
        child.stdin.take().expect("piped").write_all(block.text.as_bytes()).expect("python reads");
        well(&child.wait_with_output().expect("it ends")).map(|_| Done::Checked)
    }

    /// Runs the block beside a daemon that was told of an attack, whose addresses stand where the page has the usual ones.
    async fn with_daemon(&self, block: &Block) -> Result<Done, String> {
        self.scratch.parses(&block.text)?;
        if !installed("curl") {
            return Ok(Done::Parsed("curl"));
        }
        let home = tempfile::tempdir().expect("a folder");
        let nobody = "http://127.0.0.1:1/"; // A port that nothing listens on.
        let sink = format!("sinks: [{{name: oncall, type: webhook, url: '{nobody}'}}]\n");
        let daemon = Daemon::start(home.path(), &format!("{}{sink}", super::support::WEBHOOK)).await;
        daemon.feed(&attack(), 10).await;
        let text = block.text.replace("127.0.0.1:9765", &daemon.webhook.to_string());
        let text = text.replace("127.0.0.1:9766", &daemon.admin.to_string());
        let config = home.path().join("config.yaml");
        well(&self.scratch.run(&text, &[("KUBESIREN_CONFIG", config.to_str().expect("UTF-8"))]))?;
        daemon.stop().await;
        Ok(Done::Run)
    }
}

/// An alert as it is shown has the members of an alert as it is.
fn alert(text: &str) -> Result<Done, String> {
    let members = |value: &Value| -> BTreeSet<String> {
        value.as_object().map(|members| members.keys().cloned().collect()).unwrap_or_default()
    };
    let shown: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let (alerts, _) = scan(&["samples/attack.jsonl"], b"");
    let real = alerts.iter().find(|alert| alert["rule"]["title"] == shown["rule"]["title"]).ok_or("no such alert")?;
    for part in ["", "/rule", "/event", "/group"] {
        let (shown, real) = (
            members(&shown.pointer(part).cloned().unwrap_or_default()),
            members(&real.pointer(part).cloned().unwrap_or_default()),
        );
        if shown != real {
            return Err(format!("{part}: shown are {shown:?}, there are {real:?}"));
        }
    }
    Ok(Done::Run)
}

#[tokio::test]
async fn every_block_is_run_or_checked() {
    let (mut wrong, mut list) = (String::new(), String::new());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for page in pages() {
        let blocks = blocks_of(&page);
        let mut looked = Page { scratch: Scratch::new(&blocks), said: None };
        for (n, block) in blocks.iter().enumerate() {
            let (what, count) = match looked.look(block, blocks.get(n + 1)).await {
                Ok(Done::Run) => ("run".to_owned(), "run"),
                Ok(Done::Checked) => ("checked".to_owned(), "checked"),
                Ok(Done::Parsed(needs)) => (format!("parsed only: needs {needs}"), "parsed only"),
                Err(error) => {
                    let _ = writeln!(wrong, "{} ```{}\n{}{error}\n", block.place(), block.info, block.text);
                    continue;
                }
            };
            *counts.entry(count).or_default() += 1;
            let _ = writeln!(list, "{:<28} {:<18} {what}", block.place(), block.info);
        }
    }
    println!("{list}{counts:?}");
    assert!(wrong.is_empty(), "{wrong}");
    let done = |what| counts.get(what).copied().unwrap_or_default();
    assert!(done("run") >= 30 && done("checked") >= 10, "{counts:?}");
}

/// What is wrong is told, and told of the right block.
#[tokio::test]
async fn a_block_that_does_not_do_what_it_shows_fails() {
    let block = |info: &str, text: &str| Block {
        page: "page.md".to_owned(),
        line: 7,
        info: info.to_owned(),
        text: format!("{text}\n"),
    };
    for (info, text, words) in [
        ("sh", "kubesiren scan --no-such-option audit.log", "--no-such-option"),
        ("sh", "kubesiren rules check no-such-folder", "no-such-folder"),
        ("sh", "false | true", "exit status: 1"),
        ("sh cloud", "aws logs tail | kubesiren scan --clutser a -", "--clutser"),
        ("sh cloud", "find . -exec kubesiren scna {} +", "scna"),
        ("sh cloud", "if true; then", "syntax error"),
        ("sh build", "cargo run --release -- scan --fast", "--fast"),
        ("sh someday", "true", "no check is known"),
        ("sh daemon", "curl http://127.0.0.1:9766/api/v1/nothing", "404"),
        ("", "anything", "no check is known"),
        ("yaml", "a: 1", "no check is known"),
        ("yaml config", "clutser: a", "clutser"),
        ("json", "{", "EOF"),
        ("json alert", r#"{"rule": {"title": "Privileged container"}}"#, "shown are"),
        ("python", "def f(:", "SyntaxError"),
        ("mermaid", "flow", "no check is known"),
    ] {
        let bad = block(info, text);
        let mut page = Page { scratch: Scratch::new(&[]), said: None };
        match page.look(&bad, None).await {
            Err(error) => assert!(error.contains(words), "{info} {text}: {error}"),
            Ok(Done::Parsed(needs)) => assert!(["python3", "curl"].contains(&needs), "{info} {text}"),
            Ok(_) => panic!("{info} {text} passes"),
        }
    }
    let rules = block("yaml rules", "# a.yml\ntitle: A\nlogsource: {product: kubernetes, service: audit}");
    let mut page = Page { scratch: Scratch::new(std::slice::from_ref(&rules)), said: None };
    assert!(page.look(&rules, None).await.is_err(), "a rule without a detection");
    let mut page = Page { scratch: Scratch::new(&[]), said: Some("one\ntwo\nthree\n".to_owned()) };
    assert!(page.look(&block("text output", "one\n…\nthree"), None).await.is_ok());
    page.said = Some("one\ntwo\n".to_owned());
    assert!(page.look(&block("text output", "two\none"), None).await.is_err(), "in another order");
    assert!(page.look(&block("text output", "one"), None).await.is_err(), "of nothing");
}

/// Commands within sentences have arguments that the program takes too; those with words left out are passed over.
#[test]
fn commands_in_sentences_are_right() {
    let scratch = Scratch::new(&[]);
    let span = regex::Regex::new("`(kubesiren [^`]+)`").expect("a pattern");
    let mut seen = 0;
    for page in pages() {
        let text = read(&page);
        let prose: String = text.split("```").step_by(2).collect();
        for found in span
            .captures_iter(&prose)
            .filter(|found| !found[1].contains(['…', '|', '[', '\n']) && !found[1].contains("SHELL"))
        {
            // A command is named with or without all that it needs.
            match scratch.parses(&found[1]) {
                // One that needs a subcommand shows its help.
                Err(error) if error.contains("required") || !error.starts_with("error") => {}
                Err(error) => panic!("{page}: `{}`: {error}", &found[1]),
                Ok(n) => seen += n,
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

/// What a heading is called in an address.
fn anchor(heading: &str) -> String {
    let plain = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = plain.chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let link = regex::Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
    let mut followed = 0;
    for page in pages() {
        let text = read(&page);
        let prose: String = text.split("```").step_by(2).collect();
        for found in link.captures_iter(&prose).filter(|found| !found[1].contains("://")) {
            let (path, heading) = found[1].split_once('#').unwrap_or((&found[1], ""));
            let here = root().join(&page);
            let file = if path.is_empty() { here } else { here.parent().expect("a folder").join(path) };
            assert!(file.exists(), "{page}: {} leads nowhere", &found[1]);
            if !heading.is_empty() {
                let there = fs::read_to_string(&file).expect("a page");
                let mut headings = there.lines().filter(|line| line.starts_with('#'));
                assert!(headings.any(|line| anchor(line) == heading), "{page}: {} leads to no heading", &found[1]);
            }
            followed += 1;
        }
    }
    assert!(followed > 100, "{followed}");
}

/// Every page of the documentation is found from its beginning.
#[test]
fn the_index_names_every_page() {
    let index = read("docs/README.md");
    for page in pages().iter().filter_map(|page| page.strip_prefix("docs/")).filter(|page| *page != "README.md") {
        assert!(index.contains(&format!("]({page})")), "docs/README.md does not name {page}");
    }
}
