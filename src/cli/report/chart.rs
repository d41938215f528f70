//! How many alerts of which level when, as a drawing.

use super::html::Html;
use crate::alert::{Alert, Level};
use crate::cli::out::moment;
use crate::clock::Timestamp;
use crate::text::counted;

/// Bars.
const BARS: usize = 60;
/// The drawing's own units.
const WIDTH: usize = 960;
const HEIGHT: usize = 130;
/// Bars that hold little are still seen.
const LEAST: usize = 3;
/// The least span that a chart tells of, in microseconds: a bar is no shorter than a second.
const SPAN_MIN: i64 = BARS as i64 * 1_000_000;

/// Draws all alerts; nothing where there is none.
pub(super) fn chart(html: &mut Html, alerts: &[Alert]) {
    let times = alerts.iter().map(|alert| alert.time.0);
    let (Some(begin), Some(end)) = (times.clone().min(), times.max()) else { return };
    let span = (end - begin + 1).max(SPAN_MIN);
    let bar = |time: i64| {
        let at = i128::from(time - begin) * BARS as i128 / i128::from(span);
        usize::try_from(at).unwrap_or(0).min(BARS - 1)
    };
    let mut bars = [[0_usize; 5]; BARS];
    for alert in alerts {
        bars[bar(alert.time.0)][alert.rule.level as usize] += 1;
    }
    let most = bars.iter().map(|levels| levels.iter().sum()).max().unwrap_or(0).max(1);
    html.raw("<section class=\"card chart\">\n");
    html.element("h2", "", "When");
    html.raw(&format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"Alerts over time, at most {most} in a bar\">\n"
    ));
    html.raw(&format!("<line class=\"base\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{HEIGHT}\" y2=\"{HEIGHT}\"/>\n"));
    let step = WIDTH / BARS;
    let begins =
        |at: usize| Timestamp(begin + i64::try_from(i128::from(span) * at as i128 / BARS as i128).unwrap_or(0));
    for (at, levels) in bars.iter().enumerate().filter(|(_, levels)| levels.iter().any(|count| *count > 0)) {
        let words = Level::ALL.into_iter().rev().filter(|level| levels[*level as usize] > 0);
        let words: Vec<String> = words.map(|level| format!("{} {level}", levels[level as usize])).collect();
        html.raw("<g>");
        html.element(
            "title",
            "",
            &format!("{} to {}: {}", moment(begins(at)), moment(begins(at + 1)), words.join(", ")),
        );
        let mut top = HEIGHT;
        for (level, count) in Level::ALL.into_iter().zip(levels).filter(|(_, count)| **count > 0) {
            let height = (count * (HEIGHT - 5 * LEAST) / most).max(LEAST);
            top = top.saturating_sub(height);
            html.raw(&format!(
                "<rect class=\"f-{level}\" x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{height}\"/>",
                at * step + 1,
                step - 2
            ));
        }
        html.raw("</g>\n");
    }
    html.raw("</svg>\n<div class=\"axis\">");
    html.element("span", "", &format!("{} UTC", moment(Timestamp(begin))));
    html.element("span", "", &format!("up to {} a bar", counted(most, "alert")));
    html.element("span", "", &format!("{} UTC", moment(Timestamp(begin + span))));
    html.raw("</div>\n<div class=\"legend\">");
    for level in Level::ALL.into_iter().rev() {
        let count = alerts.iter().filter(|alert| alert.rule.level == level).count();
        html.raw(&format!("<span class=\"c-{level}\"><span class=\"swatch\"></span>{level} {count}</span>\n"));
    }
    html.raw("</div>\n</section>\n");
}
