//! Writing to the terminal: the one place that knows of colors. Errors of writing are returned, because a closed
//! pipe must end a command quietly.

use std::io::Write;

use serde_json::json;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::output::json_line;
use crate::cli::Color;
use crate::clock::Timestamp;
use crate::diagnose::{Diagnostic, Severity};
use crate::text::{counted, visible};

/// Standard output, locked, with colors taken out where they are not wanted. Write data here, and only data.
#[must_use]
pub fn stdout() -> anstream::AutoStream<std::io::StdoutLock<'static>> {
    anstream::stdout().lock()
}

/// Standard error, likewise. Writing to it is best effort: there is nowhere to say that it failed.
#[must_use]
pub fn stderr() -> anstream::AutoStream<std::io::StderrLock<'static>> {
    anstream::stderr().lock()
}

/// `2026-11-21 04:44:20`: to the second, UTC.
#[must_use]
pub fn moment(time: Timestamp) -> String {
    let time = time.to_string();
    time.split('.').next().unwrap_or(&time).replace('T', " ")
}

/// Columns of the terminal that standard output is; `None` where it is none.
#[must_use]
pub fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// The text in lines of at most `width` columns, broken between words where they allow it. Hidden characters must have
/// been made visible before.
#[must_use]
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split(' ') {
        let wide = word.width();
        if used > 0 && used + 1 + wide > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        } else if used > 0 {
            line.push(' ');
            used += 1;
        }
        for c in word.chars() {
            let wide = c.width().unwrap_or(0);
            if used + wide > width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += wide;
        }
    }
    lines.push(line);
    lines
}

/// Writes untrusted text behind `indent` columns, of which `first` holds what stands there in the first line. On a terminal
/// lines are broken, so that what belongs together stays below each other.
pub fn indented(out: &mut impl Write, first: &str, indent: usize, text: &str) -> std::io::Result<()> {
    let text = visible(text);
    let lines = match columns() {
        Some(columns) => wrapped(&text, columns.saturating_sub(indent)),
        None => vec![text],
    };
    for (number, line) in lines.iter().enumerate() {
        writeln!(out, "{:indent$}{line}", if number == 0 { first } else { "" })?;
    }
    Ok(())
}

/// The text in exactly `width` columns: cut at its end, or filled up with spaces.
#[must_use]
pub fn fitted(text: &str, width: usize) -> String {
    let text = visible(text);
    let whole = text.width() <= width;
    let room = if whole { width } else { width.saturating_sub(1) };
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if used + wide > room {
            break;
        }
        out.push(c);
        used += wide;
    }
    if !whole && width > 0 {
        out.push('…');
        used += 1;
    }
    out.push_str(&" ".repeat(width.saturating_sub(used)));
    out
}

/// Settles for the whole process when to color.
pub fn set_color(color: Color) {
    match color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// Draws findings on standard error, and says how many there are.
pub fn findings(findings: &[Diagnostic]) {
    let mut err = stderr();
    for finding in findings {
        let _ = writeln!(err, "{}\n", finding.render(true));
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let warnings = findings.len() - errors;
    let line = match (errors, warnings) {
        (0, 0) => return,
        (_, 0) => counted(errors, "error"),
        (0, _) => counted(warnings, "warning"),
        _ => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
    };
    let _ = writeln!(err, "{line}");
}

/// Writes findings on standard output, one object a line.
pub fn json_findings(findings: &[Diagnostic]) -> std::io::Result<()> {
    let mut out = stdout();
    for finding in findings {
        let (line, column) = finding.line_column();
        let severity = if finding.severity == Severity::Error { "error" } else { "warning" };
        let object = json!({
            "severity": severity, "file": finding.source.name, "line": line, "column": column,
            "message": finding.message, "help": finding.help,
        });
        json_line(&mut out, &object)?;
    }
    out.flush()
}

/// Says on standard error why a command failed.
pub fn error(message: &str) {
    let _ = writeln!(stderr(), "\x1b[1;31merror\x1b[0m: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_within_those_that_are_too_long() {
        assert_eq!(wrapped("alice read a secret", 12), ["alice read a", "secret"]);
        assert_eq!(wrapped("0123456789abcdef x", 8), ["01234567", "89abcdef", "x"]);
        assert_eq!(wrapped("東京東京東京", 9), ["東京東京", "東京"]);
        assert_eq!(wrapped("", 9), [""]);
        let text = "one two  three";
        assert_eq!(wrapped(text, 99), [text]);
    }

    #[test]
    fn cells_are_as_wide_as_they_are_said_to_be() {
        for (text, cell) in
            [("abc", "abc  "), ("abcdef", "abcd…"), ("東京", "東京 "), ("東京東", "東京…"), ("a\u{1b}[2J", "a\\u{…")]
        {
            let fitted = fitted(text, 5);
            assert_eq!((fitted.as_str(), fitted.width()), (cell, 5), "{text}");
        }
        assert_eq!(fitted("東京東", 4), "東… ");
        assert_eq!(fitted("x", 0), "");
    }
}
