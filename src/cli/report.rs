//! `kubesiren scan --report`: what was found as one HTML file, for whoever writes down afterwards what happened.
//!
//! It needs nothing from elsewhere and runs no script; what alerts say was chosen by whoever is watched, and stands in it as text
//! only. Its policy lets a browser take the one style that it brings, and nothing else.

mod chart;
mod html;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use tempfile::NamedTempFile;

use self::html::Html;
use super::alerts::{deed, groups, person, result, when};
use super::out::moment;
use crate::admin;
use crate::alert::{Alert, Level, Status};
use crate::clock::Timestamp;
use crate::scan::Scanned;
use crate::text::{counted, of_value, shorten};

/// Alerts that are told in full, the worst first.
const ALERTS_MAX: usize = 1_000;
/// Bytes after which no further alert is told in full: what browsers and mail still take.
const BYTES_MAX: usize = 8 << 20;
/// Characters of one value.
const VALUE_MAX: usize = 600;
/// Values that matched, of one alert.
const VALUES_MAX: usize = 40;
/// Lines of a list of the most frequent.
const TOP_MAX: usize = 10;
/// Names of inputs that are listed.
const INPUTS_MAX: usize = 50;

/// What the page's style lacks.
const STYLE: &str = include_str!("report/style.css");

/// What a report tells of.
pub(super) struct Report<'r> {
    pub(super) scanned: &'r Scanned,
    /// Names of what was read.
    pub(super) inputs: Vec<String>,
    /// How many rules were looked for.
    pub(super) rules: usize,
    /// Alerts below were left out on purpose.
    pub(super) min_level: Option<Level>,
    /// When it is made, wall clock.
    pub(super) made: Timestamp,
}

/// A file that is to hold a report. It is there, and whole, only when [`Target::write`] has returned.
pub(super) enum Target {
    /// Takes the place of the file when it is written.
    File(PathBuf, NamedTempFile),
    /// A pipe or a device, which no file may take the place of.
    Other(PathBuf),
}

impl Target {
    /// Looks whether it can be written, before a scan that may take long.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("--report: cannot write {}", path.display());
        if path.metadata().is_ok_and(|known| !known.is_file()) {
            anyhow::ensure!(!path.is_dir(), "--report: {} is a folder; name a file in it", path.display());
            return Ok(Self::Other(path.to_owned()));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self::File(path.to_owned(), NamedTempFile::new_in(folder).with_context(cannot)?))
    }

    pub(super) fn write(self, html: &str) -> anyhow::Result<()> {
        match self {
            Self::File(path, mut file) => {
                let cannot = || format!("cannot write {}", path.display());
                file.write_all(html.as_bytes()).with_context(cannot)?;
                file.persist(&path).map_err(|error| error.error).with_context(cannot)?;
                Ok(())
            }
            Self::Other(path) => {
                let file = OpenOptions::new().write(true).open(&path);
                file.and_then(|mut file| file.write_all(html.as_bytes()))
                    .with_context(|| format!("cannot write {}", path.display()))
            }
        }
    }
}

/// The whole document.
pub(super) fn render(report: &Report<'_>) -> String {
    let style = format!("{}{STYLE}", admin::STYLE);
    let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
    let mut html = Html::default();
    html.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.raw(&format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'\">\n"
    ));
    html.raw("<meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"color-scheme\" content=\"light dark\">\n");
    html.raw(
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Kubesiren report</title>\n",
    );
    html.raw(&format!("<style>{style}</style>\n</head>\n<body class=\"report\">\n<main>\n"));
    summary(&mut html, report);
    chart::chart(&mut html, &report.scanned.alerts);
    tops(&mut html, &report.scanned.alerts);
    alerts(&mut html, report);
    refused(&mut html, report.scanned);
    html.raw("</main>\n</body>\n</html>\n");
    html.into_text()
}

fn summary(html: &mut Html, report: &Report<'_>) {
    let Report { scanned, inputs, .. } = report;
    let stats = &scanned.stats;
    html.raw("<h1>Kubesiren report</h1>\n<section class=\"card\">\n");
    let worst = scanned.alerts.iter().map(|alert| alert.rule.level).max();
    let found = match worst {
        None => "No alert".to_owned(),
        Some(worst) => format!("{}, the worst {worst}", counted(stats.alerts, "alert")),
    };
    html.element("p", "lead", &format!("{found}, in {}.", counted(stats.events, "audit event")));
    html.raw("<dl>\n");
    let begin = scanned.alerts.iter().map(|alert| alert.first_seen).min();
    let end = scanned.alerts.iter().map(|alert| alert.last_seen).max();
    if let (Some(begin), Some(end)) = (begin, end) {
        html.pair("Alerts from", &format!("{} to {} UTC", moment(begin), moment(end)));
    }
    let mut clusters: Vec<&str> = scanned.alerts.iter().map(|alert| alert.cluster.as_str()).collect();
    clusters.sort_unstable();
    clusters.dedup();
    html.pair("Clusters", &shorten(&clusters.join(", "), VALUE_MAX));
    let mut named: Vec<String> = inputs.iter().take(INPUTS_MAX).map(|name| shorten(name, VALUE_MAX)).collect();
    if inputs.len() > INPUTS_MAX {
        named.push(format!("and {} more", inputs.len() - INPUTS_MAX));
    }
    html.pair("Read", &named.join(", "));
    let also = [
        (stats.rejected, "rejected"),
        (stats.truncated, "cut off"),
        (stats.duplicates, "of those that matched delivered twice"),
        (stats.skipped, "other records skipped"),
    ];
    let also: Vec<String> =
        also.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    html.pair("Input", &if also.is_empty() { "all of it was read".to_owned() } else { also.join(", ") });
    let left_out = report.min_level.map(|level| format!("; alerts below {level} were left out")).unwrap_or_default();
    html.pair("Looked for", &format!("{}{left_out}", counted(report.rules, "rule")));
    html.pair("Made", &format!("{} UTC by Kubesiren {}", moment(report.made), env!("CARGO_PKG_VERSION")));
    html.raw("</dl>\n</section>\n");
}

/// The most frequent rules, users and namespaces.
fn tops(html: &mut Html, alerts: &[Alert]) {
    if alerts.is_empty() {
        return;
    }
    let namespace = |alert: &Alert| alert.event.object_ref.as_ref()?.namespace.clone();
    html.raw("<section class=\"card tops\">\n");
    top(html, "Rules", alerts, |alert| Some(alert.rule.title.clone()));
    top(html, "Users", alerts, |alert| alert.event.user.username.clone());
    top(html, "Namespaces", alerts, namespace);
    html.raw("</section>\n");
}

fn top(html: &mut Html, title: &str, alerts: &[Alert], of: impl Fn(&Alert) -> Option<String>) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    alerts.iter().filter_map(of).for_each(|name| *counts.entry(name).or_default() += 1);
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    html.raw("<div>");
    html.element("h3", "", title);
    if counts.is_empty() {
        html.element("p", "soft small", "none");
    }
    html.raw("<ol>\n");
    for (name, count) in counts.iter().take(TOP_MAX) {
        let share = 100 * count / alerts.len().max(1);
        html.raw("<li>");
        html.raw(&format!(
            "<svg class=\"share\" viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect width=\"{share}\" height=\"1\"/></svg>"
        ));
        html.element("span", "name", &shorten(name, VALUE_MAX));
        html.element("span", "", &count.to_string());
        html.raw("</li>\n");
    }
    html.raw("</ol>");
    if counts.len() > TOP_MAX {
        html.element("p", "soft small", &format!("and {} more", counts.len() - TOP_MAX));
    }
    html.raw("</div>\n");
}

/// The alerts, the worst first, as far as they fit; the others are counted.
fn alerts(html: &mut Html, report: &Report<'_>) {
    let mut sorted: Vec<&Alert> = report.scanned.alerts.iter().collect();
    sorted.sort_by(|a, b| (b.rule.level, a.time, &a.id).cmp(&(a.rule.level, b.time, &b.id)));
    let (mut told, mut level) = (0, None);
    for alert in &sorted {
        if told >= ALERTS_MAX || html.len() > BYTES_MAX {
            break;
        }
        if level != Some(alert.rule.level) {
            level = Some(alert.rule.level);
            let of_level = sorted.iter().filter(|other| other.rule.level == alert.rule.level).count();
            html.raw(&format!("<h2 class=\"c-{0}\">{0}: {of_level}</h2>\n", alert.rule.level));
        }
        article(html, alert);
        told += 1;
    }
    if told < sorted.len() {
        let words = format!(
            "{} are left out here, so that this file stays readable: the {told} worst are told. They are counted above, and `kubesiren scan --output json` writes them all.",
            counted(sorted.len() - told, "alert")
        );
        html.element("p", "notice wrong", &words);
    }
}

fn article(html: &mut Html, alert: &Alert) {
    html.raw("<article class=\"card\">\n<h3>");
    let level = alert.rule.level;
    html.raw(&format!("<span class=\"level c-{level}\">{level}</span> "));
    html.text(&shorten(&alert.rule.title, VALUE_MAX));
    html.raw("</h3>\n");
    html.element("p", "", &shorten(&alert.summary, VALUE_MAX));
    facts(html, alert);
    steps(html, alert);
    why(html, alert);
    todo(html, alert);
    html.raw("</article>\n");
}

fn facts(html: &mut Html, alert: &Alert) {
    let event = &alert.event;
    let person = |user| shorten(&person(user), VALUE_MAX);
    let namespace = event.object_ref.as_ref().and_then(|object| object.namespace.as_deref());
    let place = namespace.map(|namespace| format!(", namespace {namespace}")).unwrap_or_default();
    let agent = event.user_agent.as_deref().map(|agent| format!(", {agent}")).unwrap_or_default();
    let over = if alert.status == Status::Firing { ", went on when the input ended" } else { "" };
    html.raw("<dl>\n");
    html.pair("Who", &person(&event.user));
    if let Some(acting) = &event.impersonated_user {
        html.pair("Acting as", &person(acting));
    }
    html.pair("What", &shorten(&format!("{} — {}", deed(alert), event.request_uri), VALUE_MAX));
    html.pair("Where", &shorten(&format!("cluster {}{place}", alert.cluster), VALUE_MAX));
    html.pair("When", &format!("{}{over}", when(alert)));
    html.pair("From", &shorten(&format!("{}{agent}", event.source_ips.join(", ")), VALUE_MAX));
    html.pair("Result", &shorten(&result(alert), VALUE_MAX));
    html.pair("Audit IDs", &shorten(&alert.audit_ids.join(" "), VALUE_MAX));
    html.pair("Alert", &alert.id);
    html.raw("</dl>\n");
}

fn steps(html: &mut Html, alert: &Alert) {
    if alert.timeline.is_empty() {
        return;
    }
    html.raw("<h4>What happened, in order</h4>\n<ol class=\"steps\">\n");
    for step in &alert.timeline {
        let words = format!("{} {}{}: {}", moment(step.time), step.rule.title, step.times(), step.summary);
        html.element("li", "", &shorten(&words, VALUE_MAX));
    }
    html.raw("</ol>\n");
}

fn why(html: &mut Html, alert: &Alert) {
    html.raw("<h4>Why it fired</h4>\n");
    if alert.matched.is_empty() {
        html.element("p", "soft small", "The rule asks for no values.");
    } else {
        html.raw("<table class=\"why small\"><thead><tr><th scope=\"col\">Field</th><th scope=\"col\">Value</th></tr></thead><tbody>\n");
        for (name, matched) in alert.matched.iter().take(VALUES_MAX) {
            html.raw("<tr>");
            html.element("td", "mono", &shorten(name, VALUE_MAX));
            html.element("td", "mono", &shorten(&of_value(matched), VALUE_MAX));
            html.raw("</tr>\n");
        }
        html.raw("</tbody></table>\n");
    }
    if alert.matched.len() > VALUES_MAX {
        html.element("p", "soft small", &format!("and {} more values", alert.matched.len() - VALUES_MAX));
    }
    if let Some(groups) = groups(alert) {
        html.element("p", "soft small", &shorten(&groups, VALUE_MAX));
    }
    html.element(
        "p",
        "soft small",
        &shorten(&format!("Rule {}; {}", alert.rule.id, alert.rule.tags.join(", ")), VALUE_MAX),
    );
}

fn todo(html: &mut Html, alert: &Alert) {
    let rule = &alert.rule;
    if rule.runbook.is_none() && rule.references.is_empty() {
        return;
    }
    html.raw("<h4>What to do</h4>\n");
    if let Some(runbook) = &rule.runbook {
        html.raw("<p>");
        html.link(runbook);
        html.raw("</p>\n");
    }
    if !rule.references.is_empty() {
        html.raw("<ul class=\"small\">\n");
        for reference in rule.references.iter().take(TOP_MAX) {
            html.raw("<li>");
            html.link(reference);
            html.raw("</li>\n");
        }
        html.raw("</ul>\n");
    }
}

/// What could not be read: an attack may hide there.
fn refused(html: &mut Html, scanned: &Scanned) {
    if scanned.stats.rejected == 0 && scanned.failures.is_empty() {
        return;
    }
    html.raw("<h2>Input that was not read</h2>\n<section class=\"card\">\n<ul class=\"list small\">\n");
    for (name, reason) in scanned.failures.iter().take(INPUTS_MAX) {
        html.element("li", "bad", &shorten(&format!("{name}: {reason}"), VALUE_MAX));
    }
    for (name, reject) in &scanned.rejects {
        html.element("li", "", &shorten(&format!("{name}: {}: {}", reject.place, reject.detail), VALUE_MAX));
    }
    html.raw("</ul>\n");
    let failures = scanned.failures.len().saturating_sub(INPUTS_MAX) as u64;
    let more = scanned.stats.rejected.saturating_sub(scanned.rejects.len() as u64) + failures;
    if more > 0 {
        html.element("p", "soft small", &format!("and {more} more"));
    }
    html.raw("</section>\n");
}
