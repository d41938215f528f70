//! The parameters of questions about alerts.

use std::collections::BTreeSet;

use crate::alert::Level;
use crate::clock::Timestamp;
use crate::rule::wanted::Wanted;
use crate::store::{AlertQuery, Handling, Listed};
use crate::units::Span;

/// Alerts on a page, where `limit` does not say.
const LIMIT_DEFAULT: usize = 100;
/// Alerts on the longest page.
const LIMIT_MAX: usize = 1_000;
/// Bars of a chart, where `bars` does not say.
const BARS_DEFAULT: usize = 60;
/// Bars of the finest chart.
const BARS_MAX: usize = 500;
/// Bytes of a value that is looked for: a longer one is no name of anything.
const VALUE_MAX: usize = 4_096;

/// The parameters of all questions about alerts.
const FILTERS: [&str; 12] =
    ["since", "until", "level", "rule", "cluster", "user", "namespace", "verb", "object", "handling", "silenced", "q"];
/// Those of the listing alone.
const LISTING: [&str; 3] = ["limit", "cursor", "after"];
/// That of the figures alone.
const FIGURES: [&str; 1] = ["bars"];

/// The query string of `/api/v1/alerts`; the error names every mistake.
pub(super) fn listing(query: &str, now: Timestamp) -> Result<AlertQuery, String> {
    let query = parse(query, &LISTING, now)?.query;
    if query.before.is_some() && query.after.is_some() {
        return Err("`cursor` goes back in time, `after` on in the order of arrival: give one of them".to_owned());
    }
    Ok(query)
}

/// The query string of `/api/v1/figures`: which alerts, and in how many bars.
pub(super) fn figures(query: &str, now: Timestamp) -> Result<(AlertQuery, usize), String> {
    let Parsed { query, bars } = parse(query, &FIGURES, now)?;
    Ok((query, bars))
}

/// The query string of `/api/v1/events`: items of a detection as often as one likes, the rest once.
pub(super) fn wanted(query: &str) -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if value.len() > VALUE_MAX {
            return Err(format!("`{name}` is longer than {VALUE_MAX} bytes"));
        }
        let place = match &*name {
            "where" => {
                wanted.items.push(value.into_owned());
                continue;
            }
            "cluster" => &mut wanted.cluster,
            "user" => &mut wanted.user,
            "namespace" => &mut wanted.namespace,
            "verb" => &mut wanted.verb,
            "q" => &mut wanted.text,
            _ => return Err(format!("unknown: `{name}`; known are where, cluster, user, namespace, verb, q")),
        };
        if place.replace(value.into_owned()).is_some() {
            return Err(format!("`{name}` is given twice"));
        }
    }
    Ok(wanted)
}

/// Where the page after the one that ends so begins.
pub(super) fn cursor(last: &Listed) -> String {
    format!("{}.{}", last.time.0, last.id)
}

#[derive(Debug)]
struct Parsed {
    query: AlertQuery,
    bars: usize,
}

fn parse(query: &str, more: &[&str], now: Timestamp) -> Result<Parsed, String> {
    let start = AlertQuery { limit: LIMIT_DEFAULT, ..AlertQuery::default() };
    let mut parsed = Parsed { query: start, bars: BARS_DEFAULT };
    let (mut seen, mut wrong, mut unknown) = (BTreeSet::new(), Vec::new(), Vec::new());
    let known: Vec<&str> = FILTERS.iter().chain(more).copied().collect();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if !known.contains(&&*name) {
            unknown.push(format!("`{name}`"));
        } else if !seen.insert(name.clone()) {
            wrong.push(format!("`{name}` is given twice"));
        } else if let Err(words) = set(&mut parsed, &name, &value, now) {
            wrong.push(words);
        }
    }
    if !unknown.is_empty() {
        wrong.push(format!("unknown: {}; known are {}", unknown.join(", "), known.join(", ")));
    }
    if wrong.is_empty() { Ok(parsed) } else { Err(wrong.join("; ")) }
}

fn set(parsed: &mut Parsed, name: &str, value: &str, now: Timestamp) -> Result<(), String> {
    if value.len() > VALUE_MAX {
        return Err(format!("`{name}` is longer than {VALUE_MAX} bytes"));
    }
    let query = &mut parsed.query;
    let text = || Some(value.to_owned());
    match name {
        "since" => query.since = Some(time(name, value, now)?),
        "until" => query.until = Some(time(name, value, now)?),
        "level" => query.min_level = Some(value.parse::<Level>()?),
        "rule" => query.rule = text(),
        "cluster" => query.cluster = text(),
        "user" => query.user = text(),
        "namespace" => query.namespace = text(),
        "verb" => query.verb = text(),
        "object" => query.object = text(),
        "handling" => {
            let handling = Handling::of_name(value);
            query.handling = Some(handling.ok_or("`handling` must be open, acknowledged or closed")?);
        }
        "silenced" => query.silenced = Some(value.parse().map_err(|_| "`silenced` must be true or false")?),
        "q" => query.text = text(),
        "limit" => query.limit = number(name, value, LIMIT_MAX)?,
        "bars" => parsed.bars = number(name, value, BARS_MAX)?,
        "after" => {
            let place = value.parse().ok().filter(|place| *place >= 0);
            query.after = Some(place.ok_or("`after` must be the `place` of an answer, or of the stream")?);
        }
        _ => query.before = Some(parse_cursor(value)?),
    }
    Ok(())
}

fn number(name: &str, value: &str, max: usize) -> Result<usize, String> {
    let number = value.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("`{name}` must be a number from 1 to {max}"))
}

fn parse_cursor(text: &str) -> Result<(Timestamp, String), String> {
    let wrong = || "`cursor` must be the `next_cursor` of the page before".to_owned();
    let (time, id) = text.split_once('.').ok_or_else(wrong)?;
    Ok((Timestamp(time.parse().map_err(|_| wrong())?), id.to_owned()))
}

/// A point in time, or a span before now.
fn time(name: &str, value: &str, now: Timestamp) -> Result<Timestamp, String> {
    Timestamp::parse(value)
        // A plus sign that was not encoded arrives as a space.
        .or_else(|| Timestamp::parse(&value.replace(' ', "+")))
        .or_else(|| value.parse::<Span>().ok().map(|span| now.minus(span.0)))
        .ok_or_else(|| format!("`{name}` must be a time like 2026-11-21T04:00:00Z, or a span before now like 1h"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000_000);

    #[test]
    fn filters() {
        let query = listing(
            "since=2026-11-21T05:00:00%2B01:00&until=1h&level=high&rule=r&cluster=c&user=a+b&namespace=n&q=x%26y&limit=7\
             &cursor=5.abc&verb=get&object=pods/web-0&handling=closed&silenced=true",
            NOW,
        );
        let text = |text: &str| Some(text.to_owned());
        let expected = AlertQuery {
            since: Timestamp::parse("2026-11-21T04:00:00Z"),
            until: Some(NOW.minus(Duration::from_secs(3600))),
            min_level: Some(Level::High),
            rule: text("r"),
            cluster: text("c"),
            user: text("a b"),
            namespace: text("n"),
            verb: text("get"),
            object: text("pods/web-0"),
            handling: Some(Handling::Closed),
            silenced: Some(true),
            text: text("x&y"),
            limit: 7,
            before: Some((Timestamp(5), "abc".to_owned())),
            after: None,
        };
        assert_eq!(query, Ok(expected));
        assert_eq!(listing("", NOW).map(|query| query.limit), Ok(LIMIT_DEFAULT));
        let plus = listing("since=2026-11-21T05:00:00+01:00", NOW).map(|query| query.since);
        assert_eq!(plus, Ok(Timestamp::parse("2026-11-21T04:00:00Z")));
        assert_eq!(figures("bars=7&verb=get", NOW).map(|(query, bars)| (query.verb, bars)), Ok((text("get"), 7)));
    }

    #[test]
    fn all_mistakes_are_told() {
        let wrong = listing(
            "levle=high&limit=0&since=yesterday&cursor=x&rule=a&rule=b&level=bad&handling=done&silenced=1&bars=3",
            NOW,
        )
        .unwrap_err();
        for part in [
            "`levle`",
            "`limit` must",
            "`since` must",
            "`cursor` must",
            "`rule` is given twice",
            "`bad` is no",
            "`handling` must",
            "`silenced` must",
            "`bars`",
        ] {
            assert!(wrong.contains(part), "{part} in {wrong}");
        }
        assert_eq!(listing("after=7", NOW).map(|query| query.after), Ok(Some(7)));
        assert!(listing("after=7&cursor=5.a", NOW).unwrap_err().contains("give one of them"));
        assert!(listing("after=-7", NOW).unwrap_err().contains("`after` must"));
        assert!(figures("bars=0", NOW).unwrap_err().contains("`bars` must"));
        assert!(listing(&format!("q={}", "x".repeat(5_000)), NOW).unwrap_err().contains("longer than"));
    }
}
