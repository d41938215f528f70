//! The picture, as lines that fit the terminal.

use std::time::Duration;

use super::figures::{Figures, Flow, Rule, Sink};
use crate::alert::Level;
use crate::cli::alerts::span;
use crate::cli::out::fitted;
use crate::cli::scan;

/// Fewer columns cannot hold it.
const COLUMNS_MIN: usize = 40;
/// Rules where there is no end of lines.
const RULES_SHOWN: usize = 20;
/// A source is silent after so many seconds, as on the page.
const OLD: u64 = 600;
/// A sink does not take alerts if one waits for so many seconds.
const LATE: u64 = 60;
/// Sinks of which it says why they take nothing.
const REASONS_SHOWN: usize = 3;

const BAD: &str = "\x1b[1;31m";
const GOOD: &str = "\x1b[32m";
const HEAD: &str = "\x1b[2m";
const OFF: &str = "\x1b[0m";

/// The room there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) columns: usize,
    /// `None`: as many as it takes.
    pub(super) rows: Option<usize>,
}

/// A cell: its text, and how it is colored.
type Cell = (String, &'static str);

/// A column: its head, how wide it is, and on which side its texts stand. The first one takes what is left.
struct Column(&'static str, usize, Side);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}
use Side::{Left, Right};

/// The whole picture; `away` says why there is no newer one, and how old this one is.
pub(super) fn lines(figures: &Figures, size: Size, away: Option<&(String, Duration)>) -> Vec<String> {
    let columns = size.columns.max(COLUMNS_MIN);
    let mut lines = head(figures, columns, away);
    let rows = size.rows.map_or(usize::MAX, |rows| rows.saturating_sub(lines.len()));
    let sinks: Vec<Vec<Cell>> = figures.sinks.iter().map(sink).collect();
    let flows: Vec<Vec<Cell>> = figures.events.iter().map(flow).collect();
    let rules: Vec<Vec<Cell>> = figures.rules.iter().map(rule).collect();
    // A third for each; what one does not need is the next one's, and the rules come last.
    let of_flows = room(flows.len(), rows / 3);
    let of_sinks = room(sinks.len(), rows.saturating_sub(of_flows) / 2);
    let of_rules = rows.saturating_sub(of_flows).saturating_sub(of_sinks).min(RULES_SHOWN + 2);
    let heads = [
        Column("SOURCE", 0, Left),
        Column("CLUSTER", columns / 4, Left),
        Column("EVENTS/S", 10, Right),
        Column("EVENTS", 13, Right),
        Column("NEWEST EVENT", 14, Right),
    ];
    table(&mut lines, &heads, &flows, columns, of_flows, "no event has come since the start");
    let heads = [
        Column("SINK", 0, Left),
        Column("WAITING", 9, Right),
        Column("OLDEST", 8, Right),
        Column("GIVEN UP", 9, Right),
        Column("SENT", 9, Right),
        Column("FAILED", 9, Right),
        Column("STATE", 15, Left),
    ];
    table(&mut lines, &heads, &sinks, columns, of_sinks, "no sink is configured: nobody is told of alerts");
    let heads = [
        Column("RULE", 0, Left),
        Column("LEVEL", 13, Left),
        Column("ALERTS", 9, Right),
        Column("MATCHES", 11, Right),
        Column("/S", 8, Right),
    ];
    table(&mut lines, &heads, &rules, columns, of_rules, "no rule was true of anything since the start");
    lines.truncate(size.rows.unwrap_or(usize::MAX));
    lines
}

/// Lines of a table with a blank one in front and its head, within what there is.
fn room(len: usize, most: usize) -> usize {
    (len.max(1) + 2).min(most.max(3))
}

fn head(figures: &Figures, columns: usize, away: Option<&(String, Duration)>) -> Vec<String> {
    let state = if figures.ready { format!("{GOOD}ready{OFF}") } else { format!("{BAD}not ready{OFF}") };
    let first = [
        format!("\x1b[1mkubesiren {}{OFF} {state}", fitted(&figures.version, figures.version.chars().count().min(20))),
        format!("up {}", span(figures.uptime_seconds)),
        format!("memory {}", bytes(figures.memory_bytes)),
        figures.cpu_percent.map_or_else(String::new, |percent| format!("cpu {percent:.0} %")),
        format!("files {:.0}", figures.open_files),
    ];
    let rate = |rate: Option<f64>, what: &str| {
        rate.map(|rate| format!("{} {what}", per_second(Some(rate)))).unwrap_or_default()
    };
    let lag: f64 = figures.kafka_lag_messages.values().sum();
    let second = [
        rate(figures.events_per_second, "events/s"),
        figures.bytes_per_second.map_or_else(String::new, |rate| format!("{}/s", bytes(rate))),
        rate(figures.matches_per_second, "matches/s"),
        count_of(figures.journal_records, "to correlate"),
        if figures.kafka_lag_messages.is_empty() { String::new() } else { format!("lag {}", number(lag)) },
        count_of(figures.rejected, "refused"),
    ];
    let firing = Level::ALL.into_iter().rev().map(|level| {
        let count = figures.firing.get(level.as_str()).copied().unwrap_or(0.0);
        let (on, off) = if count > 0.0 { scan::colors(level) } else { (HEAD, OFF) };
        format!("{on}{} {level}{off}", number(count))
    });
    let mut firing: Vec<String> = firing.collect();
    firing[0].insert_str(0, "firing: ");
    let mut lines = joined(&first, columns);
    lines.extend(joined(&second, columns));
    lines.extend(joined(&firing, columns));
    for reason in &figures.reasons {
        lines.push(format!("{BAD}{}{OFF}", fitted(reason, columns).trim_end()));
    }
    for sink in figures.sinks.iter().filter(|sink| is_late(sink) || sink.dead > 0).take(REASONS_SHOWN) {
        if let Some(reason) = &sink.reason {
            let words = format!("{}: {reason}", sink.sink);
            lines.push(format!("{BAD}{}{OFF}", fitted(&words, columns).trim_end()));
        }
    }
    if let Some((words, age)) = away {
        let words = format!("as of {} ago: {words}", span(age.as_secs()));
        lines.push(format!("{BAD}{}{OFF}", fitted(&words, columns).trim_end()));
    }
    lines
}

fn count_of(count: f64, what: &str) -> String {
    format!("{} {what}", number(count))
}

/// The parts side by side, in as many lines as they take. They hold colors, so what is seen of them is counted.
fn joined(parts: &[String], columns: usize) -> Vec<String> {
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let wide = anstream::adapter::strip_str(part).to_string().chars().count();
        if used > 0 && used + 3 + wide > columns {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push_str("   ");
            used += 3;
        }
        line.push_str(part);
        used += wide;
    }
    lines.push(line);
    lines
}

fn table(
    lines: &mut Vec<String>,
    heads: &[Column],
    rows: &[Vec<Cell>],
    columns: usize,
    room: usize,
    nothing: &'static str,
) {
    // Columns that do not fit are left out, the last ones first.
    let mut shown = heads.len();
    let wide = |shown: usize| heads[1..shown].iter().map(|Column(_, width, _)| width + 1).sum::<usize>();
    while shown > 1 && wide(shown) + 14 > columns {
        shown -= 1;
    }
    let first = columns - wide(shown);
    let width = |at: usize| if at == 0 { first } else { heads[at].1 };
    let side = |text: &str, at: usize| {
        let cell = fitted(text, width(at));
        if heads[at].2 == Left {
            cell
        } else {
            let end = cell.trim_end();
            format!("{}{end}", &" ".repeat(cell.len() - end.len()))
        }
    };
    lines.push(String::new());
    let head: Vec<String> = (0..shown).map(|at| side(heads[at].0, at)).collect();
    lines.push(format!("{HEAD}{}{OFF}", head.join(" ").trim_end()));
    if rows.is_empty() {
        lines.push(fitted(nothing, columns).trim_end().to_owned());
    }
    let room = room.saturating_sub(2);
    let fits = if rows.len() > room { room.saturating_sub(1) } else { rows.len() };
    for row in &rows[..fits] {
        let cells = row.iter().take(shown).enumerate();
        let cells = cells.map(|(at, (text, on))| {
            let cell = side(text, at);
            if on.is_empty() { cell } else { format!("{on}{cell}{OFF}") }
        });
        lines.push(cells.collect::<Vec<_>>().join(" "));
    }
    if fits < rows.len() && room > 0 {
        lines.push(format!("{HEAD}… and {} more{OFF}", rows.len() - fits));
    }
}

fn flow(flow: &Flow) -> Vec<Cell> {
    let age = flow.age_seconds;
    let (age, on) = match age {
        Some(age) if age >= OLD => (format!("{} ago", span(age)), BAD),
        Some(age) => (format!("{} ago", span(age)), ""),
        None => ("–".to_owned(), ""),
    };
    vec![
        (flow.source.clone(), ""),
        (flow.cluster.clone(), ""),
        (per_second(flow.per_second), ""),
        (number(flow.total), ""),
        (age, on),
    ]
}

/// Whether it does not take alerts.
fn is_late(sink: &Sink) -> bool {
    sink.waiting > 0 && sink.oldest_seconds.is_some_and(|seconds| seconds >= LATE)
}

fn sink(sink: &Sink) -> Vec<Cell> {
    let oldest = sink.oldest_seconds.filter(|_| sink.waiting > 0);
    let late = is_late(sink);
    let state = match (late, sink.dead > 0) {
        (true, _) => ("takes nothing", BAD),
        (_, true) => ("gave some up", BAD),
        _ => ("fine", GOOD),
    };
    vec![
        (sink.sink.clone(), ""),
        (sink.waiting.to_string(), ""),
        (oldest.map_or_else(|| "–".to_owned(), span), if late { BAD } else { "" }),
        (sink.dead.to_string(), if sink.dead > 0 { BAD } else { "" }),
        (number(sink.sent), ""),
        (number(sink.failed), ""),
        (state.0.to_owned(), state.1),
    ]
}

fn rule(rule: &Rule) -> Vec<Cell> {
    vec![
        (rule.title.clone(), ""),
        (rule.level.to_string(), scan::colors(rule.level).0),
        (number(rule.alerts), ""),
        (number(rule.matches), ""),
        (per_second(rule.matches_per_second), ""),
    ]
}

/// `1 234 567`; what is written of larger ones is `12.3 M`.
fn number(value: f64) -> String {
    if value >= 1e9 {
        return format!("{:.1} G", value / 1e9);
    }
    if value >= 1e7 {
        return format!("{:.1} M", value / 1e6);
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn per_second(rate: Option<f64>) -> String {
    match rate {
        None => "–".to_owned(),
        Some(rate) if rate >= 100.0 || rate == 0.0 => number(rate),
        Some(rate) => format!("{rate:.1}"),
    }
}

fn bytes(value: f64) -> String {
    let units = [(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1_024.0, "KiB")];
    match units.into_iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", value / size),
        None => format!("{value:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    fn busy() -> Figures {
        let flow = |n: usize| Flow {
            source: "webhook".to_owned(),
            cluster: format!("東京-prod-{n}\u{1b}[2J"),
            per_second: Some(1234.5),
            total: 12_345_678.0,
            age_seconds: Some(700),
            newest: None,
        };
        let rule = |n: usize| Rule {
            id: n.to_string(),
            title: format!("A rule with quite a long title that does not fit into eighty columns, number {n}"),
            level: Level::Critical,
            alerts: 1.0,
            matches: 2.0,
            matches_per_second: Some(0.25),
        };
        let reason = Some("answered 503: \x1b[2J\u{202e} busy".repeat(9));
        let sink = Sink { sink: "oncall".to_owned(), waiting: 3, oldest_seconds: Some(90), reason, ..Sink::default() };
        Figures {
            version: "0.1.0".to_owned(),
            reasons: vec!["starting".to_owned()],
            events_per_second: Some(99.0),
            events: (0..40).map(flow).collect(),
            rules: (0..40).map(rule).collect(),
            sinks: vec![sink; 30],
            ..Figures::default()
        }
    }

    #[test]
    fn every_picture_fits_its_terminal_and_shows_no_control_characters_of_others() {
        let away = ("gone".to_owned(), Duration::from_secs(9));
        for figures in [busy(), Figures::default()] {
            for columns in [40, 60, 80, 140, 300] {
                for rows in [3, 10, 24, 50] {
                    let lines = lines(&figures, Size { columns, rows: Some(rows) }, Some(&away));
                    assert!(lines.len() <= rows, "{columns}×{rows}");
                    for line in &lines {
                        let seen = anstream::adapter::strip_str(line).to_string();
                        assert!(seen.width() <= columns, "{columns}×{rows}: {} {seen}", seen.width());
                        assert!(!line.contains("\x1b[2J"));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_left_out_is_counted_and_empty_tables_say_why() {
        let all = |figures: &Figures, rows| lines(figures, Size { columns: 100, rows }, None).join("\n");
        let short = all(&busy(), Some(30));
        assert_eq!(short.matches("more").count(), 3, "{short}");
        let whole = all(&busy(), None);
        assert!(
            whole.contains("prod-39") && whole.contains("takes nothing") && whole.contains("12 min ago")
                || whole.contains("11 min ago"),
            "{whole}"
        );
        let empty = all(&Figures::default(), None);
        for words in ["no event has come", "no sink is configured", "no rule was true"] {
            assert!(empty.contains(words), "{words} in {empty}");
        }
    }

    #[test]
    fn a_sink_that_takes_nothing_says_why() {
        let whole = lines(&busy(), Size { columns: 100, rows: None }, None).join("\n");
        assert_eq!(whole.matches("oncall: answered 503: ").count(), REASONS_SHOWN, "{whole}");
        let mut fine = busy();
        fine.sinks.iter_mut().for_each(|sink| sink.waiting = 0);
        assert!(!lines(&fine, Size { columns: 100, rows: None }, None).join("\n").contains("503"));
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 999.0, 1_000.0, 1_234_567.0, 12_345_678.0, 2e9].map(number);
        assert_eq!(shown, ["0", "999", "1 000", "1 234 567", "12.3 M", "2.0 G"]);
        assert_eq!([Some(0.0), Some(0.25), Some(250.0), None].map(per_second), ["0", "0.2", "250", "–"]);
        assert_eq!([0.0, 2048.0, 3.5e9].map(bytes), ["0 B", "2.0 KiB", "3.3 GiB"]);
    }
}
