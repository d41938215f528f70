//! What serde cannot know: names that must exist or differ, values that fit together.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::read::{Item, Parts, head};
use super::tree::{Tree, each_entry};
use super::{CanaryConfig, Config, JournalConfig};
use crate::diagnose::{Span, closest};
use crate::rule::lists;
use crate::sink::{self, SinkKind};
use crate::source::SourceConfig;
use crate::source::webhook::WebhookConfig;
use crate::units;
use crate::yaml::{Node, Value};

/// Reports every mistake that is left once all values have the right types.
pub(super) fn check(parts: &Parts, tree: &mut Tree) {
    sources(parts, tree);
    listeners(parts, tree);
    sinks(parts, tree);
    routes(parts, tree);
    rest(parts, tree);
    lists(parts, tree);
    canary(parts, tree);
    if let Some(admin) = parts.root.get("admin") {
        urls(admin, tree);
    }
    proxy(parts, tree);
    for node in item_nodes(parts) {
        secrets_given_twice(node, tree);
    }
}

/// The nodes that may hold secrets and files: all sources and sinks, and the admin listener.
pub(super) fn item_nodes(parts: &Parts) -> impl Iterator<Item = &Node> {
    let sources = parts.sources.iter().flatten().map(|item| &item.node);
    sources.chain(parts.sinks.iter().flatten().map(|item| &item.node)).chain(parts.root.get("admin"))
}

/// Where a key's value is written, or the mapping's head.
pub(super) fn place(node: &Node, key: &str) -> Span {
    node.get(key).map_or_else(|| head(node), |value| value.span)
}

fn sources(parts: &Parts, tree: &mut Tree) {
    let Some(sources) = &parts.sources else { return };
    if sources.is_empty() {
        let span = Span::default();
        tree.report(span, "`sources` is empty: nothing would be watched", Some("leave it out for a webhook".into()));
    }
    let mut names = HashSet::new();
    for Item { node, value } in sources {
        let Some(source) = value else { continue };
        let key = match source {
            SourceConfig::Webhook(webhook) => {
                if webhook.max_body.0 == 0 {
                    tree.report(place(node, "max_body"), "`max_body` is 0: no event would fit", None);
                }
                "listen"
            }
            SourceConfig::File(_) => "path",
            SourceConfig::Kafka(kafka) => {
                super::kafka::source(node, kafka, tree);
                "brokers"
            }
        };
        let name = source.name();
        if !names.insert(name) {
            let span = node.get("name").map_or_else(|| place(node, key), |name| name.span);
            let message = format!("two sources are named `{name}`");
            tree.report(span, message, Some("give each a `name` of its own: metrics tell them apart by it".into()));
        }
    }
}

/// One address that the daemon listens on.
struct Listener {
    address: SocketAddr,
    name: &'static str,
    span: Span,
    /// TLS is on, or plain HTTP is wanted.
    safe: bool,
}

fn listeners(parts: &Parts, tree: &mut Tree) {
    let mut all = Vec::new();
    for Item { node, value } in parts.sources.iter().flatten() {
        if let Some(SourceConfig::Webhook(webhook)) = value {
            let safe = webhook.tls.is_some() || webhook.insecure;
            all.push(Listener { address: webhook.listen, name: "webhook", span: place(node, "listen"), safe });
        }
    }
    if parts.sources.is_none() {
        let address = crate::source::webhook::WebhookConfig::default().listen;
        all.push(Listener { address, name: "webhook", span: Span::default(), safe: true });
    }
    if let Some(Config { admin, .. }) = &parts.rest {
        let span = parts.root.get("admin").map_or_else(Span::default, |node| place(node, "listen"));
        all.push(Listener { address: admin.listen, name: "admin", span, safe: admin.insecure });
    }
    for (at, listener) in all.iter().enumerate() {
        if !listener.safe && !listener.address.ip().is_loopback() {
            let help = match listener.name {
                "admin" => "listen on 127.0.0.1, or say `insecure: true` if the network may see it",
                _ => "give it `tls`, listen on 127.0.0.1, or say `insecure: true` if the network may see it",
            };
            let message = format!("{} would be served without TLS to the network", listener.address);
            tree.report(listener.span, message, Some(help.to_owned()));
        }
        if let Some(other) = all[..at].iter().find(|other| clash(other.address, listener.address)) {
            // The place that is written down is the one that can be changed.
            let span = if listener.span == Span::default() { other.span } else { listener.span };
            let message = format!("{} is taken by another listener ({})", listener.address, other.name);
            tree.report(span, message, None);
        }
    }
}

/// Whether two addresses cannot both be bound.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn sinks(parts: &Parts, tree: &mut Tree) {
    let mut names = HashMap::new();
    for Item { node, value } in parts.sinks.iter().flatten() {
        if let Some(name) = node.get("name").and_then(Node::as_str)
            && names.insert(name.to_owned(), ()).is_some()
        {
            tree.report(place(node, "name"), format!("two sinks are named `{name}`"), None);
        }
        if let Some(sink) = value {
            sink_kind(node, &sink.kind, tree);
        }
        urls(node, tree);
    }
}

fn sink_kind(node: &Node, kind: &SinkKind, tree: &mut Tree) {
    match kind {
        SinkKind::Slack(slack) => {
            let hook = slack.webhook_url.is_some() || slack.webhook_url_file.is_some();
            let token = slack.token.is_some() || slack.token_file.is_some();
            let ways = "either `webhook_url_file`, or `token_file` and `channel`";
            if hook && token {
                let message = "both a webhook URL and a token are given: only one can be used";
                tree.report(head(node), message, Some(format!("give {ways}")));
            } else if !hook && !token {
                let message = "this Slack sink has neither a webhook URL nor a token";
                tree.report(head(node), message, Some(format!("give {ways}")));
            } else if token && slack.channel.is_none() {
                tree.report(head(node), "a Slack token needs a `channel`", None);
            }
        }
        SinkKind::Alertmanager(alertmanager) => {
            if alertmanager.urls.is_empty() {
                tree.report(place(node, "urls"), "`urls` is empty: name every Alertmanager of the set", None);
            }
            zero(tree, alertmanager.resend, place(node, "resend"), "resend");
        }
        SinkKind::Kafka(kafka) => super::kafka::sink(node, kafka, tree),
        SinkKind::Webhook(webhook) => template(node, webhook, tree),
        SinkKind::PagerDuty(_) => needs(node, "routing_key", tree),
        SinkKind::Splunk(_) => needs(node, "token", tree),
        SinkKind::Teams(_) => needs(node, "webhook_url", tree),
        SinkKind::Opsgenie(_) => needs(node, "api_key", tree),
        SinkKind::Stdout(_)
        | SinkKind::Elasticsearch(_)
        | SinkKind::Loki(_)
        | SinkKind::Falcosidekick(_)
        | SinkKind::Syslog(_)
        | SinkKind::Email(_) => {}
    }
}

/// A sink without its secret.
fn needs(node: &Node, key: &str, tree: &mut Tree) {
    let file = format!("{key}_file");
    if node.get(key).is_none() && node.get(&file).is_none() {
        tree.report(
            head(node),
            format!("`{key}` is missing here"),
            Some(format!("name the file that holds it: `{file}`")),
        );
    }
}

/// A template that stands in the configuration.
fn template(node: &Node, webhook: &sink::webhook::WebhookConfig, tree: &mut Tree) {
    if let Some(source) = &webhook.template
        && let Err(mistake) = webhook.check_template(source)
    {
        let line = mistake.line.map(|line| format!(", line {line}")).unwrap_or_default();
        tree.report(place(node, "template"), format!("`template`{line}: {}", mistake.message), None);
    }
}

/// The texts under keys that hold URLs, with their places.
pub(super) fn url_nodes(node: &Node) -> Vec<(&str, &Node)> {
    let mut found = Vec::new();
    each_entry(node, &mut |_, key, value| {
        if matches!(key.text.as_str(), "url" | "urls" | "webhook_url" | "api_url") {
            match &value.value {
                Value::Seq(items) => found.extend(items.iter().map(|item| (key.text.as_str(), item))),
                _ => found.push((key.text.as_str(), value)),
            }
        }
    });
    found
}

fn urls(node: &Node, tree: &mut Tree) {
    for (key, value) in url_nodes(node) {
        let Some(text) = value.as_str() else { continue };
        let wrong = match reqwest::Url::parse(text) {
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                Some("it must start with http:// or https://".into())
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(wrong) = wrong {
            tree.report(value.span, format!("`{key}` holds no URL: {wrong}"), None);
        }
    }
}

fn routes(parts: &Parts, tree: &mut Tree) {
    let Some(config) = &parts.rest else { return };
    let known = sink_names(parts);
    let Some(Value::Seq(nodes)) = parts.root.get("routes").map(|routes| &routes.value) else { return };
    for (route, node) in config.routes.iter().zip(nodes) {
        if route.sinks.is_empty() {
            tree.report(place(node, "sinks"), "this route names no `sinks`", None);
        }
        let Some(Value::Seq(names)) = node.get("sinks").map(|sinks| &sinks.value) else { continue };
        for (name, at) in route.sinks.iter().zip(names).filter(|(name, _)| !known.contains(&name.as_str())) {
            let help = match closest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the sinks are: {}", known.join(", ")),
            };
            tree.report(at.span, format!("there is no sink named `{name}`"), Some(help));
        }
    }
}

fn rest(parts: &Parts, tree: &mut Tree) {
    let Some(config) = &parts.rest else { return };
    let at = |section: &str, key: &str| parts.root.get(section).map_or_else(Span::default, |node| place(node, key));
    zero(tree, config.correlation.repeat_after, at("correlation", "repeat_after"), "repeat_after");
    if config.correlation.max_keys == 0 {
        tree.report(at("correlation", "max_keys"), "`max_keys` is 0: no rule could keep a window", None);
    }
    if config.cluster.trim().is_empty() {
        let span = parts.root.get("cluster").map(|node| node.span).unwrap_or_default();
        tree.report(span, "`cluster` is empty: alerts must name a cluster", None);
    }
    if config.state_dir.as_os_str().is_empty() {
        let span = parts.root.get("state_dir").map(|node| node.span).unwrap_or_default();
        tree.report(span, "there is no state directory: set `state_dir`, --state-dir, $XDG_STATE_HOME or $HOME", None);
    }
    let span = |key| parts.journal_node().map_or_else(Span::default, |node| place(node, key));
    if let (Some(JournalConfig::Kafka(journal)), Some(node)) = (parts.journal(), parts.journal_node()) {
        super::kafka::journal(node, journal, tree);
        zero(tree, journal.keep_alerts, span("keep_alerts"), "keep_alerts");
        zero(tree, journal.keep_matches, span("keep_matches"), "keep_matches");
        if journal.max_outbox == 0 {
            tree.report(span("max_outbox"), "`max_outbox` is 0: no alert could be sent", None);
        }
    }
    if let Some(JournalConfig::Embedded(journal)) = parts.journal() {
        zero(tree, journal.keep_alerts, span("keep_alerts"), "keep_alerts");
        if journal.max_pending == 0 {
            tree.report(span("max_pending"), "`max_pending` is 0: no match could be kept", None);
        }
        if journal.max_outbox == 0 {
            tree.report(span("max_outbox"), "`max_outbox` is 0: no alert could be sent", None);
        }
    }
}

/// A list with a slip in its name would leave the detections as they were, and nobody would notice.
fn lists(parts: &Parts, tree: &mut Tree) {
    let Some(config) = &parts.rest else { return };
    let options = config.detections.options();
    let entries = |key: &str| parts.root.get("detections").and_then(|node| node.get(key)?.as_map());
    let place = |key: &str, name: &str| {
        let found = entries(key).into_iter().flatten().find(|(key, _)| key.text == name);
        found.map_or_else(Span::default, |(key, _)| key.span)
    };
    for (name, message) in lists::unknown(&options.lists) {
        tree.report(place("lists", &name), message, None);
    }
    for (name, message) in lists::taken(&options.placeholders) {
        tree.report(place("placeholders", &name), message, None);
    }
}

/// Whom the admin listener believes.
fn proxy(parts: &Parts, tree: &mut Tree) {
    let Some(proxy) = parts.rest.as_ref().and_then(|config| config.admin.proxy.as_ref()) else { return };
    let node = parts.root.get("admin").and_then(|admin| admin.get("proxy"));
    let at = |key: &str| node.map_or_else(Span::default, |node| place(node, key));
    for (key, header) in [("user_header", &proxy.user_header), ("groups_header", &proxy.groups_header)] {
        if header.parse::<HeaderName>().is_err() {
            tree.report(at(key), format!("`{header}` is no name of a header"), None);
        }
    }
    for net in proxy.from.iter().filter(|net| net.parse::<IpNet>().is_err() && net.parse::<IpAddr>().is_err()) {
        tree.report(at("from"), format!("`{net}` is neither an address nor a range like 10.0.0.0/8"), None);
    }
    if proxy.from.is_empty() {
        tree.report(at("from"), "`from` is empty: nobody could come through the proxy", None);
    }
}

fn canary(parts: &Parts, tree: &mut Tree) {
    let Some(canary) = parts.rest.as_ref().and_then(|config| config.canary.as_ref()) else { return };
    let node = parts.root.get("canary");
    let at = |key: &str| node.map_or_else(Span::default, |node| place(node, key));
    if canary.every.0 < CanaryConfig::EVERY_MIN {
        tree.report(at("every"), "`every` must be at least 1s", None);
    }
    if canary.timeout.0 < Duration::from_secs(1) {
        tree.report(at("timeout"), "`timeout` must be at least 1s", None);
    }
    if canary.client_cert.is_some() != canary.client_key.is_some() {
        tree.report(at("client_cert"), "`client_cert` and `client_key` go together: give both", None);
    }
    if let Some(sink) = &canary.sink
        && !sink_names(parts).contains(&sink.as_str())
    {
        tree.report(at("sink"), format!("there is no sink named `{sink}`"), None);
    }
    canary_sources(parts, canary, &at, tree);
}

/// The canary goes in where events come in over HTTP. A file is written by others: nothing may be put into it.
fn canary_sources(parts: &Parts, canary: &CanaryConfig, at: &dyn Fn(&str) -> Span, tree: &mut Tree) {
    let written = parts.sources.iter().flatten().filter_map(|item| item.value.as_ref());
    let default = SourceConfig::Webhook(WebhookConfig::default());
    let sources = written.chain(parts.sources.is_none().then_some(&default));
    let webhooks: Vec<&WebhookConfig> = sources.filter_map(SourceConfig::webhook).collect();
    for name in canary.sources.iter().filter(|name| webhooks.iter().all(|webhook| webhook.name != **name)) {
        let message = format!("there is no webhook source named `{name}`");
        tree.report(
            at("sources"),
            message,
            Some("the canary cannot go through a file or a topic: others write them".into()),
        );
    }
    if webhooks.is_empty() && canary.sources.is_empty() {
        let help =
            "add one, or leave `canary` out; what files and topics bring is shown by last_event_timestamp_seconds";
        let message = "the canary goes through a webhook source, and there is none";
        tree.report(at(""), message, Some(help.to_owned()));
    }
    let demanding = webhooks
        .iter()
        .filter(|webhook| canary.goes_through(&webhook.name))
        .find(|webhook| webhook.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()));
    if let (Some(webhook), None) = (demanding, &canary.client_cert) {
        let message = format!(
            "the source `{}` demands a client certificate (`client_ca`), and the canary has none",
            webhook.name
        );
        let help = "give `client_cert` and `client_key`, signed by one of that bundle, for the canary alone";
        tree.report(at("client_cert"), message, Some(help.to_owned()));
    }
}

fn sink_names(parts: &Parts) -> Vec<&str> {
    match &parts.sinks {
        Some(sinks) => sinks.iter().filter_map(|item| item.node.get("name")?.as_str()).collect(),
        None => vec!["console"],
    }
}

fn zero(tree: &mut Tree, value: units::Span, place: Span, key: &str) {
    if value.0.is_zero() {
        tree.report(place, format!("`{key}` must be longer than nothing"), None);
    }
}

/// `token` beside `token_file` leaves open which one counts.
fn secrets_given_twice(node: &Node, tree: &mut Tree) {
    let mut twice = Vec::new();
    each_entry(node, &mut |parent, key, _| {
        if let Some(inline) = key.text.strip_suffix("_file").filter(|inline| parent.get(inline).is_some()) {
            twice.push((key.span, format!("both `{inline}` and `{}` are given: keep one", key.text)));
        }
    });
    for (span, message) in twice {
        tree.report(span, message, None);
    }
}
