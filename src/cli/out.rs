//! Writing to the terminal: the one place that knows of colors. Errors of writing are returned, because a closed
//! pipe must end a command quietly.

use std::io::Write;

use crate::cli::Color;
use crate::diagnose::{Diagnostic, Severity};
use crate::text::counted;

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

/// Says on standard error why a command failed.
pub fn error(message: &str) {
    let _ = writeln!(stderr(), "\x1b[1;31merror\x1b[0m: {message}");
}
