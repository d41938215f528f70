//! Loading: from files and folders to a set of rules, with every mistake found on the way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::correlation::{self, Absent, Names, Unresolved};
use super::falco;
use super::filter::{self, Filter};
use super::ir::Rules;
use super::lists;
use super::profile::Profile;
use super::reader::Reader;
use super::select;
use super::sigma::{self, Placeholders};
use crate::alert::Level;
use crate::diagnose::{Diagnostic, Severity, SourceText, Span};
use crate::yaml::{self, Node, Value};

/// Where the detections that come with the binary say that they are.
pub const BUILTIN: &str = "<built-in>";

/// What the configuration says about rules.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Start with the detections that come with the binary.
    pub builtin: bool,
    /// Rules of the program's own, each with its name.
    pub own: Vec<(String, String)>,
    /// Files and folders of users' rules.
    pub paths: Vec<PathBuf>,
    /// Ids or titles of rules that are left out.
    pub disable: Vec<String>,
    /// Levels that replace those of the rules, by id or title.
    pub levels: BTreeMap<String, Level>,
    /// What the `%placeholders%` of Sigma's modifier `expand` stand for.
    pub placeholders: Placeholders,
    /// What is added to the named lists, or replaces them.
    pub lists: lists::Changes,
    /// How much of the detections that come with the binary runs; everything unless said.
    pub profile: Option<Profile>,
}

/// What loading yields: the good part, and the findings.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The rules without errors.
    pub rules: Rules,
    /// Errors and warnings, in the order of files and places.
    pub findings: Vec<Diagnostic>,
    /// What the options name and nothing is called, for people: most likely a misspelling that leaves a rule as it was.
    pub unknown: Vec<String>,
}

impl Loaded {
    /// Whether anything could not be loaded.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Loads everything that the options name.
#[must_use]
pub fn load(options: &Options) -> Loaded {
    let mut loader = Loader::new(options);
    if options.builtin {
        for (name, text) in super::builtin::FILES {
            loader.text(&Path::new(BUILTIN).join(name), (*text).to_owned());
        }
        loader.builtin = loader.ids.keys().cloned().collect();
    }
    for (name, text) in &options.own {
        loader.text(Path::new(name), text.clone());
    }
    for path in &options.paths {
        loader.path(path, path);
    }
    loader.finish()
}

/// Loads rules from one text; for tests and the rules API.
#[must_use]
pub fn load_text(name: &Path, text: &str) -> Loaded {
    let options = Options::default();
    let mut loader = Loader::new(&options);
    loader.text(name, text.to_owned());
    loader.finish()
}

/// The same with options, for tests; the rules may be taken for those that come with the binary.
#[cfg(test)]
pub(super) fn load_text_with(name: &Path, text: &str, options: &Options, builtin: bool) -> Loaded {
    let mut loader = Loader::new(options);
    loader.text(name, text.to_owned());
    if builtin {
        loader.builtin = loader.ids.keys().cloned().collect();
    }
    loader.finish()
}

/// Rule files under a path, in order; test files are not rules.
pub fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    Ok(yaml_files(path)?.into_iter().filter(|file| !is_test_file(file)).collect())
}

/// YAML files under a folder, rules and their cases, in order.
pub fn yaml_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(path)?.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Mounted ConfigMaps keep their data in folders that begin with two dots.
        if name.starts_with('.') {
            continue;
        }
        if entry.is_dir() {
            found.extend(yaml_files(&entry)?);
        } else if name.ends_with(".yml") || name.ends_with(".yaml") {
            found.push(entry);
        }
    }
    Ok(found)
}

/// Whether a file holds cases, not rules: `*.test.yml`.
#[must_use]
pub fn is_test_file(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(".test.yml") || name.ends_with(".test.yaml")
}

struct Loader<'o> {
    options: &'o Options,
    /// What all placeholders stand for, the named lists among them.
    values: Arc<Placeholders>,
    loaded: Loaded,
    correlations: Vec<(Arc<SourceText>, Unresolved)>,
    filters: Vec<Filter>,
    falco: falco::Collected,
    /// Where each id was first seen.
    ids: HashMap<String, PathBuf>,
    /// Documents that are there and are no rules of ours.
    absent: Absent,
    /// Ids of the detections that come with the binary.
    builtin: HashSet<String>,
}

impl<'o> Loader<'o> {
    fn new(options: &'o Options) -> Self {
        Self {
            options,
            values: Arc::new(lists::values(&options.lists, &options.placeholders)),
            loaded: Loaded::default(),
            correlations: Vec::new(),
            filters: Vec::new(),
            falco: falco::Collected::default(),
            ids: HashMap::new(),
            absent: Absent::default(),
            builtin: HashSet::new(),
        }
    }

    fn path(&mut self, path: &Path, named: &Path) {
        let files = match files(path) {
            Ok(files) => files,
            Err(error) => return self.unreadable(named, &error),
        };
        for file in files {
            match fs::read(&file) {
                Ok(bytes) => match String::from_utf8(bytes) {
                    Ok(text) => self.text(&file, text),
                    Err(_) => self.unreadable(&file, &std::io::Error::other("not valid UTF-8")),
                },
                Err(error) => self.unreadable(&file, &error),
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        let source = SourceText::new(path, String::new());
        self.loaded.findings.push(Diagnostic::error(&source, Span::default(), format!("cannot read it: {error}")));
    }

    fn text(&mut self, file: &Path, text: String) {
        let source = SourceText::new(file, text);
        let (documents, findings) = yaml::parse(&source);
        // A key that is there twice leaves the document readable; broken syntax ends the text.
        self.loaded.findings.extend(findings);
        for document in documents {
            self.document(&source, &document, file);
        }
    }

    fn document(&mut self, source: &Arc<SourceText>, document: &Node, file: &Path) {
        let mut findings = Vec::new();
        let values = Arc::clone(&self.values);
        let mut reader = Reader { source, findings: &mut findings, placeholders: &values, expanded: 0 };
        match &document.value {
            Value::Null => {}
            Value::Map(_) if document.get("correlation").is_some() => {
                let read = correlation::read(&mut reader, document, file);
                match read.filter(|_| no_errors(&findings)) {
                    None => self.absent.broken(document),
                    Some(read) if self.is_new(source, document, read.id(), file) => {
                        self.correlations.push((Arc::clone(source), read));
                    }
                    Some(_) => {}
                }
            }
            Value::Map(_)
                if document.get("logsource").is_some_and(|l| l.as_map().is_some_and(|l| !l.is_empty()))
                    && !sigma::is_for_us(document) =>
            {
                sigma::note_near_miss(&mut reader, document);
                self.absent.skipped(document);
                let title = document.get("title").and_then(Node::as_str).unwrap_or_default().to_owned();
                self.loaded.rules.skipped.push((file.to_owned(), title));
            }
            Value::Map(_) if document.get("filter").is_some() => {
                let read = filter::read(&mut reader, document);
                self.filters.extend(read.filter(|_| no_errors(&findings)));
            }
            Value::Map(_) if document.get("action").is_some() && document.get("detection").is_none() => {
                let span = document.get("action").map_or(document.span, |node| node.span);
                let help = "write every document out, or use YAML's anchors";
                reader.error_with_help(span, "`action` is Sigma v1: each document says all of itself now", help);
            }
            Value::Map(_) => {
                sigma::check_logsource(&mut reader, document);
                let rule = sigma::rule(&mut reader, document, file);
                match rule.filter(|_| no_errors(&findings)) {
                    None => self.absent.broken(document),
                    Some(rule) if self.is_new(source, document, &rule.info.id, file) => {
                        self.loaded.rules.rules.push(rule);
                    }
                    Some(_) => {}
                }
            }
            Value::Seq(items) if items.is_empty() => {}
            Value::Seq(_) if falco::is_falco(document) => self.falco.document(&mut reader, document, file),
            Value::Seq(_) => {
                let start = document.span.start;
                let help = "a list holds Falco's `rule`, `macro` and `list`; Sigma's rules stand one after another with `---` between";
                reader.error_with_help(Span { start, end: start + 1 }, "a rule must be a mapping, not a list", help);
            }
            _ => reader.error(document.span, format!("a rule must be a mapping, not {}", document.kind())),
        }
        self.loaded.findings.extend(findings);
    }

    /// Whether an id is new; an id that is there twice is an error at the second.
    fn is_new(&mut self, source: &Arc<SourceText>, document: &Node, id: &str, file: &Path) -> bool {
        if let Some(first) = self.ids.get(id) {
            let span = document.get("id").or_else(|| document.get("title")).map_or(document.span, |node| node.span);
            let message = format!("the id `{id}` is taken by a rule in {}", first.display());
            self.loaded.findings.push(Diagnostic::error(source, span, message));
            return false;
        }
        self.ids.insert(id.to_owned(), file.to_owned());
        true
    }

    /// Falco's rules, whose ids are their names.
    fn finish_falco(&mut self) {
        let finished = std::mem::take(&mut self.falco).finish(&mut self.loaded.findings);
        self.loaded.rules.skipped.extend(finished.skipped);
        for rule in finished.rules {
            match self.ids.insert(rule.info.id.clone(), rule.file.clone()) {
                None => self.loaded.rules.rules.push(rule),
                Some(first) => {
                    let source = SourceText::new(&rule.file, String::new());
                    let message = format!("the id `{}` is taken by a rule in {}", rule.info.id, first.display());
                    self.loaded.findings.push(Diagnostic::error(&source, Span::default(), message));
                }
            }
        }
    }

    fn finish(mut self) -> Loaded {
        self.finish_falco();
        let names = Names::new(&self.loaded.rules, self.correlations.iter().map(|(_, read)| read), self.absent);
        let (findings, placeholders) = (&mut self.loaded.findings, &self.values);
        let skipped = &mut self.loaded.rules.skipped;
        let correlations = correlation::resolve(self.correlations, &names, findings, placeholders, skipped);
        self.loaded.rules.correlations = correlations;
        filter::apply(&self.filters, &mut self.loaded.rules.rules, &names, &mut self.loaded.findings);
        self.loaded.unknown = select::unknown(&self.loaded.rules, self.options);
        select::configure(&mut self.loaded.rules, self.options, &self.builtin);
        self.loaded
    }
}

fn no_errors(findings: &[Diagnostic]) -> bool {
    findings.iter().all(|finding| finding.severity != Severity::Error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Loaded {
        load_text(Path::new("rule.yml"), text)
    }

    fn errors(text: &str) -> Vec<String> {
        load(text).findings.iter().map(ToString::to_string).collect()
    }

    const HEAD: &str = "title: T\nlogsource: {product: kubernetes, service: audit}\n";

    #[test]
    fn three_mistakes_show_three_places() {
        let text = format!("{HEAD}level: hgih\ndetection:\n  sel:\n    verb|contians: get\n  condition: sle\n");
        assert_eq!(
            errors(&text),
            [
                "rule.yml:3:8: `hgih` is no level; the levels are informational, low, medium, high, critical",
                "rule.yml:6:10: there is no modifier `contians` (did you mean `contains`?)",
                "rule.yml:7:14: the condition names `sle`, which `detection` does not define (did you mean `sel`?)",
                "rule.yml:5:3: `sel` is used by no condition",
            ]
        );
    }

    #[test]
    fn values_are_checked_at_their_places() {
        for (item, message) in [
            ("verb|re: '('", "the regular expression is wrong: unclosed group"),
            ("verb|cidr: nowhere", "`nowhere` is no network (write it like 10.0.0.0/8)"),
            ("verb|gt: high", "a comparison takes a number, not text"),
            ("verb|exists: maybe", "`exists` takes true or false, not text"),
            ("verb|all: get", "`all` needs a list of values (drop `|all`, or give more values)"),
            ("verb|base64: 'g*'", "what is encoded cannot hold wildcards (write `\\*` for the character)"),
            ("verb|utf16: get", "in this encoding it is no text that an event can hold; follow it with `base64offset`"),
            (
                "verb|expand: '%who%'",
                "the placeholder `%who%` has no values (define it under `detections.placeholders`)",
            ),
            ("verb|hour: noon", "`hour` takes a whole number, not text"),
            ("verb|base64|re: get", "the modifiers of `verb|base64|re` contradict each other"),
            ("verb|re|contains: get", "the modifiers of `verb|re|contains` contradict each other"),
            ("verb: [get, null]", "null cannot stand in a list (give it a search identifier of its own)"),
            ("verb: []", "an empty list can match nothing"),
            ("user..name: x", "`user..name` is no field path: a name between the dots is empty"),
        ] {
            let found = errors(&format!("{HEAD}detection:\n  sel:\n    {item}\n  condition: sel\n"));
            assert!(found.len() == 1 && found[0].ends_with(message), "{item}: {found:?}");
            assert!(found[0].starts_with("rule.yml:5:"), "{found:?}");
        }
    }

    #[test]
    fn other_products_are_skipped_with_a_note() {
        let loaded = load("title: W\nlogsource: {product: windows}\ndetection: {sel: {a: b}, condition: sel}\n");
        assert_eq!((loaded.rules.rules.len(), loaded.rules.skipped.len(), loaded.findings.len()), (0, 1, 0));
    }

    #[test]
    fn correlations_find_their_rules_by_name_and_say_when_not() {
        let base = format!("{HEAD}name: base\nid: base-id\ndetection: {{sel: {{verb: get}}, condition: sel}}\n---\n");
        let correlation = "title: C\nid: c\ncorrelation:\n  type: event_count\n  rules: [base]\n  group-by: [user.username]\n  timespan: 5m\n  condition: {gte: 3}\n";
        let loaded = load(&format!("{base}{correlation}"));
        assert!(loaded.findings.is_empty(), "{:?}", loaded.findings);
        assert_eq!(loaded.rules.correlations[0].rules, ["base-id".into()]);
        assert_eq!(loaded.rules.alerting(), BTreeMap::from([("base-id".into(), false), ("c".into(), true)]));
        let wrong =
            correlation.replace("[base]", "[bsae]").replace("gte: 3", "gte: 3, gt: x").replace("5m", "5 minutes");
        let found = errors(&format!("{base}{wrong}"));
        assert_eq!(found.len(), 2, "{found:?}");
        let found = errors(&format!("{base}{}", correlation.replace("[base]", "[bsae]")));
        assert_eq!(found, ["rule.yml:11:11: no rule has the id or name `bsae` (did you mean `base`?)"]);
    }

    #[test]
    fn correlations_are_checked_at_their_places() {
        let base = format!("{HEAD}name: base\nid: base-id\ndetection: {{sel: {{verb: get}}, condition: sel}}\n---\n");
        let head = "title: C\nid: c\nname: c\ncorrelation:\n  rules: [base]\n  timespan: 1h\n";
        for (rest, message) in [
            (
                "  type: event_cuont\n  condition: {gte: 1}\n",
                "13:9: there is no correlation type `event_cuont` (did you mean `event_count`?)",
            ),
            ("  type: event_count\n", "13:9: `event_count` needs a `condition` (such as `condition: {gte: 10}`)"),
            (
                "  type: event_count\n  condition: {gte: 1.5}\n",
                "14:14: a number of things must be a whole number from 0",
            ),
            (
                "  type: event_count\n  condition: {field: verb, gte: 1}\n",
                "14:14: `event_count` does not take this condition",
            ),
            (
                "  type: value_sum\n  condition: {gte: 1}\n",
                "14:14: `value_sum` needs the `field` whose values are counted",
            ),
            ("  type: value_avg\n  condition: {field: [a, b], gte: 1}\n", "14:14: `value_avg` takes one field"),
            ("  type: value_count\n  condition: {field: a}\n", "14:14: the condition has no bound such as `gte: 10`"),
            (
                "  type: value_percentile\n  condition: {field: a, percentile: 101, gte: 1}\n",
                "14:37: a percentile is a number from 0 to 100",
            ),
            (
                "  type: temporal\n  condition: base and othr\n",
                "14:23: the condition names `othr`, which is none of the `rules`",
            ),
            ("  type: temporal\n  condition: base and\n", "14:22: the condition ends where a name should follow"),
            ("  type: temporal\n  condition: 1 of base*\n", "14:19: this condition names rules one by one"),
            (
                "  type: first_seen\n  condition: {gte: 1}\n",
                "14:14: `first_seen` needs the `field` whose values may be new",
            ),
            (
                "  type: first_seen\n  condition: {field: a..b}\n",
                "14:22: `a..b` is no field path: a name between the dots is empty",
            ),
            (
                "  type: spike\n  condition: {lte: 1}\n",
                "14:14: `spike` needs the smallest number that may be one, such as `gte: 20`",
            ),
            ("  type: spike\n  condition: {gte: 9, times: 0.5}\n", "14:14: `spike` takes `gte`, and `times` from 1"),
            (
                "  type: spike\n  condition: {gte: 9}\n  learning: soon\n",
                "15:13: `soon` is no span of time; write it like 30s, 5m, 1h or 7d",
            ),
            ("  type: temporal\n  learning: 1h\n", "14:13: only `first_seen` and `spike` learn"),
        ] {
            let found = errors(&format!("{base}{head}{rest}"));
            assert_eq!(found, [format!("rule.yml:{message}")], "{rest}");
        }
        let itself = head.replace("[base]", "[base, d]") + "  type: temporal\n---\n";
        let other = itself.replace(" C\n", " D\n").replace(": c\n", ": d\n").replace("base, d", "base, c");
        let found = errors(&format!("{base}{itself}{other}"));
        assert_eq!(found, ["rule.yml:11:17: `C` is made of itself", "rule.yml:19:17: `D` is made of itself"]);
    }

    #[test]
    fn conditions_that_can_never_be_or_count_double_are_refused() {
        let base = format!("{HEAD}name: base\nid: base-id\ndetection: {{sel: {{verb: get}}, condition: sel}}\n---\n");
        let never = "13:14: this can never be: a match is the first of its window at least";
        for (kind, rest, message) in [
            ("event_count", "[base]\n  condition: {gte: 20000}", "13:14: a window holds at most 10000 matches"),
            (
                "spike",
                "[base]\n  condition: {gte: 20.5}",
                "13:14: `spike` needs the smallest number that may be one, such as `gte: 20`",
            ),
            ("event_count", "[base]\n  condition: {gte: 5, lt: 3}", never),
            ("event_count", "[base]\n  condition: {eq: 0}", never),
            ("value_count", "[base]\n  condition: {field: a, gt: 1, lt: 2}", never),
            ("temporal_ordered", "[base, base-id]", "12:17: `base-id` is named twice: its matches would count double"),
            ("temporal", "[base]\n  generate: 'yes'", "13:13: `generate` is true or false, not text"),
            (
                "temporal",
                "[base]\n  condition: >\n    base and\n    othr",
                "15:5: the condition names `othr`, which is none of the `rules`",
            ),
        ] {
            let text =
                format!("{base}title: C\nid: c\ncorrelation:\n  timespan: 1h\n  type: {kind}\n  rules: {rest}\n");
            assert_eq!(errors(&text), [format!("rule.yml:{message}")], "{kind} {rest}");
        }
        for condition in ["{lt: 2}", "{neq: 1, neq: 2}", "{gte: 10000}", "{gt: 1, lt: 3}", "{gte: 0}"] {
            let text = format!(
                "{base}title: C\nid: c\ncorrelation:\n  timespan: 1h\n  type: event_count\n  rules: [base]\n  condition: {}\n",
                condition.replace("neq: 1, ", "gte: 1, ")
            );
            assert!(errors(&text).is_empty(), "{condition}: {:?}", errors(&text));
        }
    }

    #[test]
    fn what_is_made_of_rules_for_other_products_is_skipped_with_them() {
        let windows = "title: W\nname: w\nlogsource: {product: windows}\ndetection: {s: {a: b}, condition: s}\n---\n";
        let ours = format!("{HEAD}name: base\nid: base\ndetection: {{sel: {{verb: get}}, condition: sel}}\n---\n");
        let correlation = |rules: &str| {
            format!(
                "{windows}{ours}title: C\nid: c\ncorrelation: {{type: event_count, rules: {rules}, timespan: 5m, condition: {{gte: 3}}}}\n"
            )
        };
        let loaded = load(&correlation("[w]"));
        assert_eq!((loaded.findings.len(), loaded.rules.skipped.len(), loaded.rules.correlations.len()), (0, 2, 0));
        let message = "`w` is for another product: no event here can match it";
        assert!(errors(&correlation("[base, w]")).iter().all(|found| found.ends_with(message)));
        let filter = format!(
            "{windows}{ours}title: F\nlogsource: {{product: kubernetes}}\nfilter: {{rules: [w], s: {{a: b}}, condition: not s}}\n"
        );
        assert!(errors(&filter).is_empty());
        let broken = correlation("[base]").replace("verb: get", "verb|gets: get");
        assert_eq!(errors(&broken).len(), 1, "the mistake is told once, where it is: {:?}", errors(&broken));
    }

    #[test]
    fn a_name_that_several_rules_have_means_none_of_them() {
        let rule =
            |id: &str| format!("{HEAD}name: base\nid: {id}\ndetection: {{sel: {{verb: get}}, condition: sel}}\n---\n");
        let two = format!("{}{}", rule("a"), rule("b"));
        assert!(errors(&two).is_empty(), "as long as nobody uses it");
        for user in [
            "correlation: {type: event_count, rules: [base], timespan: 5m, condition: {gte: 3}}\n",
            "logsource: {product: kubernetes}\nfilter: {rules: [base], s: {a: b}, condition: not s}\n",
        ] {
            let found = errors(&format!("{two}title: C\n{user}"));
            let message = "several rules have the name `base`: name the one that is meant by its id";
            assert!(found.len() == 1 && found[0].ends_with(message), "{found:?}");
        }
    }

    #[test]
    fn a_logsource_that_says_nothing_is_a_mistake_and_one_that_is_misspelled_is_noted() {
        let rule =
            |logsource: &str| format!("title: T\nlogsource: {logsource}\ndetection: {{s: {{a: b}}, condition: s}}\n");
        for (logsource, message) in [
            (
                "kubernetes",
                "`logsource` must be a mapping, not text (write `logsource: {product: kubernetes, service: audit}`)",
            ),
            ("{}", "the `logsource` is empty (write `logsource: {product: kubernetes, service: audit}`)"),
            ("{product: kuberentes}", "this is for another product (`kubernetes` is ours), so it is skipped"),
            (
                "{product: kubernetes, service: Audit}",
                "this is for another product (`audit` is ours), so it is skipped",
            ),
        ] {
            let found = errors(&rule(logsource));
            assert!(found.len() == 1 && found[0].ends_with(message), "{logsource}: {found:?}");
        }
        assert!(errors(&rule("{product: linux, service: auditd}")).is_empty());
        let found = errors("action: global\nlogsource: {product: kubernetes}\n");
        assert!(found.len() == 1 && found[0].contains("`action` is Sigma v1"), "{found:?}");
    }

    #[test]
    fn options_that_name_no_rule_are_said() {
        let dir = tempfile::tempdir().unwrap();
        let rule = format!("{HEAD}id: x\ndetection: {{sel: {{verb: get}}, condition: sel}}\n");
        std::fs::write(dir.path().join("a.yml"), rule).unwrap();
        let loaded = super::load(&Options {
            paths: vec![dir.path().to_owned()],
            disable: vec!["x".to_owned(), "y".to_owned()],
            levels: BTreeMap::from([("x".to_owned(), Level::Low), ("Z".to_owned(), Level::Low)]),
            ..Options::default()
        });
        assert!(loaded.rules.rules.is_empty());
        let expected = [
            "detections.disable: no rule has the id or title `y`",
            "detections.level: no rule has the id or title `Z`",
        ];
        assert_eq!(loaded.unknown, expected);
    }

    #[test]
    fn an_id_may_be_there_once() {
        let rule = format!("{HEAD}id: x\ndetection: {{sel: {{verb: get}}, condition: sel}}\n");
        let found = errors(&format!("{rule}---\n{rule}"));
        assert_eq!(found, ["rule.yml:8:5: the id `x` is taken by a rule in rule.yml"]);
    }
}
