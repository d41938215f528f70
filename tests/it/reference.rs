//! The reference is what the code says: keys of the configuration, commands, metrics, the alert. It is written anew with
//! `KUBESIREN_WRITE=1 cargo test --test it reference`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use kubesiren::metrics::{Metrics, PartitionLabels, Series};
use serde_json::Value;

use super::deploy::read;
use super::support::{generated, scan};

fn head(title: &str, words: &str) -> String {
    format!("# {title}\n\n<!-- Written by KUBESIREN_WRITE=1 cargo test --test it reference -->\n\n{words}\n")
}

/// A text as a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

/// What rustdoc links to, named as it is.
fn words(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    cell(&text.replace("[`", "`").replace("`]", "`"))
}

fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let named = schema["$ref"].as_str().and_then(|to| root.pointer(to.trim_start_matches('#')));
    if let Some(named) = named {
        return resolved(root, named);
    }
    // Something that may be left out is that, or null.
    let variants = schema["anyOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    match variants {
        [one, null] if null["type"] == "null" => resolved(root, one),
        _ => schema,
    }
}

/// What may be written, in a word or two.
fn kind(root: &Value, schema: &Value) -> String {
    let schema = resolved(root, schema);
    if let Some(names) = schema["enum"].as_array() {
        return names
            .iter()
            .map(|name| format!("`{}`", name.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(", ");
    }
    let constants: Vec<_> =
        schema["oneOf"].as_array().into_iter().flatten().filter_map(|one| one["const"].as_str()).collect();
    if !constants.is_empty() {
        return constants.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    }
    let of = match &schema["type"] {
        Value::Array(types) => types.iter().find_map(|of| of.as_str().filter(|of| *of != "null")).unwrap_or_default(),
        of => of.as_str().unwrap_or_default(),
    };
    match of {
        "array" => format!("list of {}", kind(root, &schema["items"])),
        "object" if schema["properties"].is_object() => "mapping".to_owned(),
        "object" => format!("mapping of names to {}", kind(root, &schema["additionalProperties"])),
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        "string" if schema["pattern"].as_str().is_some_and(|pattern| pattern.contains("ms|s|m")) => "span".to_owned(),
        "string" if schema["pattern"].as_str().is_some_and(|pattern| pattern.contains("kMG")) => "size".to_owned(),
        "string" => "text".to_owned(),
        "integer" | "number" => "number".to_owned(),
        "boolean" => "yes or no".to_owned(),
        _ => "anything".to_owned(),
    }
}

fn default(schema: &Value) -> String {
    match schema.get("default") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) if text.is_empty() => String::new(),
        Some(Value::String(text)) => format!("`{}`", cell(text)),
        Some(Value::Array(items)) if items.is_empty() => String::new(),
        Some(Value::Object(members)) if members.is_empty() => String::new(),
        // What has members says theirs below.
        Some(Value::Object(_)) => String::new(),
        Some(Value::Array(items)) if items.iter().any(Value::is_object) => String::new(),
        Some(other) => format!("`{}`", cell(&other.to_string())),
    }
}

const TABLE: &str = "\n| key | what is written | default | what it is |\n|---|---|---|---|\n";

/// The keys of a mapping, and those of the mappings in it.
fn keys(page: &mut String, root: &Value, schema: &Value, path: &str) {
    let schema = resolved(root, schema);
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        if member["const"].is_string() {
            continue;
        }
        let needed = required.contains(&name.as_str());
        let (path, inside) = (format!("{path}{name}"), resolved(root, member));
        let said = if words(member).is_empty() { words(inside) } else { words(member) };
        let default = if needed { "must be given".to_owned() } else { default(member) };
        let _ = writeln!(page, "| `{path}` | {} | {default} | {said} |", kind(root, member));
        if inside["properties"].is_object() {
            keys(page, root, inside, &format!("{path}."));
        } else if inside["items"].is_object() && resolved(root, &inside["items"])["properties"].is_object() {
            keys(page, root, &inside["items"], &format!("{path}[]."));
        }
    }
}

/// What differs by `type`, each by itself.
fn variants(page: &mut String, root: &Value, name: &str, schema: &Value) {
    let schema = resolved(root, schema);
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        let of = variant["properties"]["type"]["const"].as_str().expect("a type");
        let _ = writeln!(page, "\n### `{name}`, `type: {of}`\n\n{}", words(variant));
        page.push_str(TABLE);
        // What all of them have stands beside the choice; what one has, behind its reference.
        keys(page, root, schema, "");
        if let Some(to) = variant["$ref"].as_str() {
            keys(page, root, root.pointer(to.trim_start_matches('#')).expect("a definition"), "");
        }
        keys(page, root, &without_reference(variant), "");
    }
}

fn without_reference(variant: &Value) -> Value {
    let mut own = variant.clone();
    own.as_object_mut().expect("a schema").remove("$ref");
    own
}

#[test]
fn the_keys_of_the_configuration() {
    let root = serde_json::to_value(kubesiren::config::schema()).expect("JSON");
    let mut page = head(
        "The configuration's keys",
        "[`kubesiren config default`](../../src/config/default.yaml) prints the same with examples, `kubesiren config schema` the JSON Schema for editors. Spans are written `30s`, `5m`, `1h30m`,\n\
         `7d`; sizes `64MiB`. A key that is not here is an error.",
    );
    let top = root["properties"].as_object().expect("keys");
    let is_plain = |schema: &Value| {
        let inside = resolved(&root, schema);
        inside["properties"].is_null() && inside["oneOf"].is_null() && inside["items"].is_null()
    };
    page.push_str(TABLE);
    for (name, schema) in top.iter().filter(|(_, schema)| is_plain(schema)) {
        let _ = writeln!(page, "| `{name}` | {} | {} | {} |", kind(&root, schema), default(schema), words(schema));
    }
    for (name, schema) in top.iter().filter(|(_, schema)| !is_plain(schema)) {
        let inside = resolved(&root, schema);
        let item = if inside["items"].is_null() { inside } else { resolved(&root, &inside["items"]) };
        let _ = writeln!(page, "\n## `{name}`\n\n{}", words(schema));
        if item["oneOf"].is_array() {
            variants(&mut page, &root, name, item);
        } else {
            page.push_str(TABLE);
            keys(&mut page, &root, item, "");
        }
    }
    generated("docs/reference/configuration.md", &page);
    // Whatever the commented default names is there.
    for line in read("src/config/default.yaml").lines().filter(|line| !line.starts_with('#')) {
        let Some((key, _)) = line.trim().trim_start_matches("- ").split_once(':') else { continue };
        if key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_') && key != "type" {
            assert!(page.contains(&format!("`{key}`")), "{key}");
        }
    }
}

/// Every series that a daemon with one of everything has: name, type and labels.
fn series() -> BTreeMap<String, (String, String, Vec<String>)> {
    let metrics = Metrics::new();
    let one = ["x"];
    metrics.prepare(Series {
        sources: &one,
        listeners: &[("x", true)],
        kafka: &one,
        clusters: &one,
        rules: &[("x", "low")],
        rule_kinds: &one,
        sinks: &one,
    });
    metrics.prepare_canary("x", std::time::Duration::from_secs(1));
    drop(metrics.canary_round_trip.get_or_create(&kubesiren::metrics::Source::default()));
    drop(metrics.watchdog_sent.get_or_create(&kubesiren::metrics::SinkLabel::default()));
    drop(metrics.kafka_lag.get_or_create(&PartitionLabels::default()));
    let text = metrics.encode_plain();
    let mut found: BTreeMap<String, (String, String, Vec<String>)> = BTreeMap::new();
    let mut help = "";
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').expect("a help").1;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            current = name.to_owned();
            found.insert(current.clone(), (kind.to_owned(), help.to_owned(), Vec::new()));
        } else if let Some((_, labels)) = line.split_once('{').filter(|(name, _)| name.starts_with(&current)) {
            let labels = labels.split("=\"").filter_map(|part| part.rsplit(['"', ',']).next());
            let labels = labels.filter(|label| !label.is_empty() && *label != "le" && !label.contains('}'));
            let known = &mut found.get_mut(&current).expect("it was typed").2;
            if known.is_empty() {
                known.extend(labels.map(str::to_owned));
            }
        }
    }
    found
}

#[test]
fn the_metrics() {
    let mut page = head(
        "Metrics",
        "What `/metrics` of the admin listener shows. Labels come from the configuration and the rules, never from events; clusters beyond `correlation.max_clusters` count as `other`.\n\
         Series exist from the start, at 0. [`watching.md`](../watching.md) says which of them to alert on.",
    );
    page.push_str("\n| metric | type | labels | what it tells |\n|---|---|---|---|\n");
    let series = series();
    for (name, (kind, help, labels)) in &series {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {} |", labels.join(", "), cell(help.trim_end_matches('.')));
    }
    generated("docs/reference/metrics.md", &page);
    let code = read("src/metrics.rs");
    let table = code.split("metrics! {").nth(1).and_then(|rest| rest.split("\n}\n").next()).expect("the table");
    for name in table.split(", \"").skip(1).step_by(2).filter_map(|rest| rest.split('"').next()) {
        assert!(series.keys().any(|key| key.trim_end_matches("_total") == format!("kubesiren_{name}")), "{name}");
    }
}

fn commands(page: &mut String, path: &str, command: &clap::Command) {
    let below: Vec<_> = command.get_subcommands().filter(|command| command.get_name() != "help").collect();
    if below.is_empty() {
        one_command(page, path, command);
    }
    for command in below {
        commands(page, &format!("{path} {}", command.get_name()), command);
    }
}

fn one_command(page: &mut String, path: &str, command: &clap::Command) {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = write!(page, "\n## {path}\n\n{about}\n\n`{usage}`\n");
    let own: Vec<_> = command
        .get_arguments()
        .filter(|argument| !argument.is_global_set() && !["help", "version"].contains(&argument.get_id().as_str()))
        .collect();
    if !own.is_empty() {
        page.push_str("\n| argument | default | what it is |\n|---|---|---|\n");
    }
    own.iter().for_each(|argument| one_argument(page, argument));
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let examples: Vec<_> = examples.lines().skip(1).map(|line| format!("`{}`", line.trim())).collect();
    let _ = writeln!(page, "\nFor example {}", examples.join(", "));
}

fn one_argument(page: &mut String, argument: &clap::Arg) {
    let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let takes = argument.get_action().takes_values();
    let value = argument.get_value_names().map(|names| names[0].to_string()).filter(|_| takes).unwrap_or_default();
    let mut name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long} {value}"),
        (None, Some(long)) => format!("--{long} {value}"),
        (Some(short), None) => format!("-{short} {value}"),
        (None, None) => value,
    };
    name.truncate(name.trim_end().len());
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let defaults = if takes && !defaults.is_empty() { format!("`{}`", defaults.join(" ")) } else { String::new() };
    let choices: Vec<_> = argument
        .get_possible_values()
        .iter()
        .filter(|_| takes)
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    let mut help = cell(help.trim_end_matches('.')) + ".";
    if !choices.is_empty() {
        let _ = write!(help, " One of {}.", choices.join(", "));
    }
    if let Some(variable) = argument.get_env() {
        let _ = write!(help, " Also from `{}`.", variable.to_string_lossy());
    }
    let _ = writeln!(page, "| `{}` | {defaults} | {help} |", cell(&name).replace("&lt;", "<"));
}

#[test]
fn the_commands() {
    let mut command = kubesiren::cli::command();
    command.build();
    let mut page = head(
        "Commands",
        "Standard output carries data, standard error everything else. Exit codes: 0 fine, 1 what was checked failed, 2 usage, configuration or rule error. Every command has `--help`.",
    );
    page.push_str("\nEvery command takes these:\n\n| argument | default | what it is |\n|---|---|---|\n");
    let global = command.get_arguments().filter(|argument| argument.is_global_set());
    global.for_each(|argument| one_argument(&mut page, argument));
    commands(&mut page, "kubesiren", &command);
    generated("docs/reference/commands.md", &page);
}

#[test]
fn the_members_of_an_alert() {
    let root = serde_json::to_value(kubesiren::alert::schema()).expect("JSON");
    let mut page = head(
        "An alert's members",
        "The same object everywhere; [`alerts.md`](../alerts.md) shows one and says what its members mean. [`alert.schema.json`](alert.schema.json) is its JSON Schema. Members are added, and readers\n\
         should let those pass that they do not know.",
    );
    page.push_str("\n| member | what it is | always there | what it says |\n|---|---|---|---|\n");
    members(&mut page, &root, &root, "");
    generated("docs/reference/alert.md", &page);
    let schema = serde_json::to_string_pretty(&root).expect("JSON") + "\n";
    generated("docs/reference/alert.schema.json", &schema);
    // What a scan writes has these members and no others.
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/attack.jsonl");
    let (alerts, _) = scan(&[sample.to_str().expect("UTF-8")], b"");
    assert!(alerts.len() > 10);
    alerts.iter().for_each(|alert| fits(&root, &root, alert, "alert"));
}

fn members(page: &mut String, root: &Value, schema: &Value, path: &str) {
    let schema = resolved(root, schema);
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let (inside, path) = (resolved(root, member), format!("{path}{name}"));
        let said = if words(member).is_empty() { words(inside) } else { words(member) };
        let always = if required.contains(&name.as_str()) { "yes" } else { "" };
        let _ = writeln!(page, "| `{path}` | {} | {always} | {said} |", kind(root, member));
        if inside["properties"].is_object() {
            members(page, root, inside, &format!("{path}."));
        } else if inside["items"].is_object() && resolved(root, &inside["items"])["properties"].is_object() {
            members(page, root, &inside["items"], &format!("{path}[]."));
        }
    }
}

/// As much of JSON Schema as an alert needs: members that are there are known, those that must be there are.
fn fits(root: &Value, schema: &Value, value: &Value, path: &str) {
    let schema = resolved(root, schema);
    match value {
        Value::Object(found) if schema["properties"].is_object() => {
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(found.contains_key(name), "{path} lacks {name}");
            }
            for (name, member) in found {
                let known = schema["properties"].get(name).unwrap_or_else(|| panic!("{path}.{name} is not known"));
                fits(root, known, member, &format!("{path}.{name}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fits(root, &schema["items"], item, path)),
        Value::String(text) if kind(root, schema).starts_with('`') => {
            assert!(kind(root, schema).contains(&format!("`{text}`")), "{path} is {text}");
        }
        Value::String(_) => assert!(["text", "time", "anything"].contains(&kind(root, schema).as_str()), "{path}"),
        Value::Number(_) => assert!(["number", "anything"].contains(&kind(root, schema).as_str()), "{path}"),
        _ => {}
    }
}
