//! An alert as a syslog message, of RFC 5424 to the letter.

use super::super::SendError;
use super::super::facts::{identity, in_short, names, this_machine, times, word};
use super::{Format, SyslogConfig};
use crate::alert::{Alert, Level, Status};
use crate::text::shorten;

/// Characters of what identifies an alert.
const ID_MAX: usize = 64;
/// How much of an alert is told: as much as fits.
const DETAILS: [Detail; 4] = [
    Detail { parameter: 200, summary: None },
    Detail { parameter: 200, summary: Some(800) },
    Detail { parameter: 40, summary: Some(200) },
    Detail { parameter: 0, summary: Some(50) },
];

/// How long texts may be.
#[derive(Clone, Copy)]
struct Detail {
    /// Of the structured data; at zero only what identifies the alert is left.
    parameter: usize,
    /// Of the summary; `None` is the whole alert.
    summary: Option<usize>,
}

/// What is the same for every message of a sink.
pub(super) struct Form {
    facility: u8,
    hostname: String,
    process: u32,
    id: String,
    format: Format,
    /// In bytes.
    max: usize,
}

impl Form {
    pub(super) fn new(config: &SyslogConfig, max: usize) -> Result<Self, String> {
        let hostname = match &config.hostname {
            Some(name) if is_printable(name, 255) => name.clone(),
            Some(_) => return Err("hostname has ASCII characters without spaces, and 255 at most".to_owned()),
            None => this_machine().unwrap_or_else(|| "-".to_owned()),
        };
        let id = &config.structured_data_id;
        let number = id.split_once('@').map(|(_, number)| number).unwrap_or_default();
        let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !is_printable(id, 32) || id.contains(['=', ']', '"']) || !numbered {
            return Err(
                "structured_data_id is like name@32473: at most 32 characters, with an enterprise number".into()
            );
        }
        Ok(Self {
            facility: config.facility as u8,
            hostname,
            process: std::process::id(),
            id: id.clone(),
            format: config.format,
            max,
        })
    }

    /// The message, at most as long as is allowed.
    pub(super) fn line(&self, alert: &Alert) -> Result<Vec<u8>, SendError> {
        for detail in DETAILS {
            let line = self.render(alert, detail)?;
            if line.len() <= self.max {
                return Ok(line.into_bytes());
            }
        }
        Err(SendError::reject(format!("even in short it is longer than {} bytes (max_length)", self.max)))
    }

    fn render(&self, alert: &Alert, detail: Detail) -> Result<String, SendError> {
        let (status, time) = (alert.status.as_str(), alert.told_of());
        let priority = u32::from(self.facility) * 8 + severity(alert.rule.level);
        let said = match self.format {
            Format::Text => sentence(alert, detail.summary.unwrap_or(2_000)),
            Format::Json => ascii(&json_of(alert, detail)?),
        };
        // What is not ASCII has to say that it is UTF-8.
        let mark = if said.is_ascii() { "" } else { "\u{feff}" };
        let data = self.data(alert, detail.parameter);
        Ok(format!("<{priority}>1 {time} {} kubesiren {} {status} {data} {mark}{said}", self.hostname, self.process))
    }

    /// What receivers can search without reading the message.
    fn data(&self, alert: &Alert, max: usize) -> String {
        let parameter = |(name, text): (&str, String), max| format!(" {name}=\"{}\"", escaped(&shorten(&text, max)));
        let mut parameters: String = identity(alert).into_iter().map(|pair| parameter(pair, ID_MAX)).collect();
        if max > 0 {
            parameters.extend(names(alert).map(|pair| parameter(pair, max)));
        }
        format!("[{}{parameters}]", self.id)
    }
}

/// In a parameter, three characters have to be escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn severity(level: Level) -> u32 {
    match level {
        Level::Critical => 2,
        Level::High => 3,
        Level::Medium => 4,
        Level::Low => 5,
        Level::Informational => 6,
    }
}

/// For people, in one line.
fn sentence(alert: &Alert, max: usize) -> String {
    let state = if alert.status == Status::Resolved { "Resolved: " } else { "" };
    let rule = &alert.rule;
    let todo =
        rule.runbook.as_ref().map(|runbook| format!(" What to do: {}", shorten(runbook, max))).unwrap_or_default();
    format!(
        "{state}{}: {}: {} ({}, {}).{todo}",
        word(rule.level),
        shorten(&rule.title, 150),
        shorten(&alert.summary, max),
        times(alert),
        shorten(&alert.cluster, 100)
    )
}

/// The whole alert, or what matters most of it.
fn json_of(alert: &Alert, detail: Detail) -> Result<String, SendError> {
    let Some(max) = detail.summary else {
        return serde_json::to_string(alert).map_err(|error| SendError::reject(error.to_string()));
    };
    Ok(in_short(alert, max).to_string())
}

/// JSON in ASCII, which every receiver reads the same.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            out.push(c);
        } else {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

fn is_printable(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::super::super::fake::syslog::Received;
    use serde_json::json;

    use super::super::super::samples::{alert, hostile};
    use super::*;

    fn form(format: &str, max: usize) -> Form {
        let config = json!({"address": "siem:514", "transport": "tcp", "hostname": "node-1", "format": format});
        Form::new(&serde_json::from_value(config).unwrap(), max).unwrap()
    }

    #[test]
    fn a_message_has_every_part_at_its_place() {
        let line = String::from_utf8(form("text", 8_192).line(&alert("a1", "r", Level::High)).unwrap()).unwrap();
        let expected = format!(
            "<107>1 2026-11-21T04:00:00.123456Z node-1 kubesiren {} firing [kubesiren@32473 alert_id=\"a1\" status=\"firing\" \
             level=\"high\" rule_id=\"r\" rule=\"Title of r\" cluster=\"prod-eu\" count=\"3\" user=\"alice\" \
             source_ip=\"10.0.0.1\" verb=\"get\" resource=\"secrets\" namespace=\"payments\" name=\"db-creds\"] \
             \u{feff}High: Title of r: alice read secret payments/db-creds from 10.0.0.1 (get, 200) (3× in 4 min 11 s, \
             2026-11-21 04:00:00 – 04:04:12 UTC, prod-eu). What to do: https://runbooks.example.com/secrets",
            std::process::id()
        );
        assert_eq!(line, expected);
    }

    #[test]
    fn the_json_is_the_alert_in_ascii() {
        let mut given = alert("a1", "r", Level::Critical);
        given.summary = "Ünïcödé 🙂 \u{202e}\u{7f}".to_owned();
        let received = Received::parse(&form("json", 8_192).line(&given).unwrap()).unwrap();
        assert!(received.said.is_ascii(), "{}", received.said);
        assert_eq!(serde_json::from_str::<Alert>(&received.said).unwrap(), given);
        assert_eq!((received.facility, received.severity), (13, 2));
    }

    #[test]
    fn what_is_too_long_is_told_in_short() {
        let mut long = alert("a1", "r", Level::High);
        long.summary = "x".repeat(5_000);
        for max in [2_048, 800, 480] {
            let received = Received::parse(&form("json", max).line(&long).unwrap()).unwrap();
            let short: serde_json::Value = serde_json::from_str(&received.said).unwrap();
            assert_eq!((&short["id"], &short["cut"]), (&"a1".into(), &true.into()));
        }
    }

    #[test]
    fn whatever_an_event_says_it_is_one_message_and_short_enough() {
        for text in ["", "\"]\\[x y=\"1\"]\n<34>1 - forged\u{202e}\0", &"]".repeat(10_000), &"🙂".repeat(3_000)] {
            for format in ["json", "text"] {
                for max in [2_048, 8_192] {
                    let line = form(format, max).line(&hostile("id", text)).unwrap();
                    assert!(line.len() <= max && !line.contains(&b'\n'), "{}", String::from_utf8_lossy(&line));
                    let received = Received::parse(&line).unwrap_or_else(|error| panic!("{error}"));
                    assert_eq!(received.parameters["alert_id"], "id");
                }
            }
        }
    }

    #[test]
    fn every_level_has_a_severity() {
        assert_eq!(Level::ALL.map(severity), [6, 5, 4, 3, 2]);
    }
}
