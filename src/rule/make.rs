//! Values that are made of others: what a field means that no event has under its name.
//!
//! The slow and obvious way, over the event as a whole; a rule that asks such a question is asked it last.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::field::Got;
use super::naive::text_of;
use crate::clock::Timestamp;
use crate::event::FieldPath;
use crate::text::query_decoded;

/// How a derived field comes by its values. Objects and arrays become their JSON text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Make {
    /// The values of a path.
    Path(FieldPath),
    /// A text that is always there.
    Text(String),
    /// A JSON pointer (RFC 6901): exactly these keys, and indices in arrays; it crosses no array by itself.
    Json(String),
    /// The event as a whole.
    Event,
    /// What the elements of a list hold.
    Items(Items),
    /// The event's time in nanoseconds since 1970; never nothing.
    Time,
    /// The object's name, if it is a pod.
    PodName,
    /// The first value of this parameter of the request's URI.
    Parameter(String),
    /// The values of the first of these that has any.
    First(Vec<Self>),
    /// The values of all of these, one after another.
    List(Vec<Self>),
    /// Each value (or all of them) made into another.
    Apply(Apply, Box<Self>),
    /// The values of a list, put together with the text of the first between them.
    Join(Box<Self>, Box<Self>),
    /// The first value of each, one after another as one text; nothing if one has none.
    Concat(Vec<Self>),
    /// The options in a list of arguments, as POSIX `getopt` reads them.
    Options {
        /// The arguments.
        arguments: Box<Self>,
        /// `ab:` for an option `a`, and a `b` that takes a value.
        known: String,
        /// Only the last value of this option, or its name if it takes none.
        only: Option<char>,
    },
}

/// The elements of a list, and what is taken of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Items {
    /// JSON pointer to the list.
    pub list: &'static str,
    /// Only the element at this index.
    pub only: Option<usize>,
    /// JSON pointer below each element.
    pub below: &'static str,
    /// What is taken there.
    pub take: Take,
    /// What an element yields that has nothing there.
    pub lacking: Lacking,
}

/// What is taken of a list's elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Take {
    /// The value; of an array, its elements.
    Value,
    /// The names of its keys, but for `name`.
    Keys,
    /// Of a container's ports the host's, or else the container's own.
    Ports,
    /// The names of RBAC subjects of this kind, with their namespace before a colon if wanted.
    Subjects {
        /// `User`, `Group` or `ServiceAccount`.
        kind: &'static str,
        /// With the namespace.
        namespace: bool,
    },
}

/// What becomes of a list of which an element has nothing to take.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lacking {
    /// The element is left out.
    Skip,
    /// The list has no values at all.
    Fail,
    /// The element yields this instead.
    Else(Box<Make>),
}

/// What values are made into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Apply {
    /// ASCII letters in lower case.
    Lower,
    /// ASCII letters in upper case.
    Upper,
    /// Decoded from base64; what is none is left out.
    Base64,
    /// A URI as the API server understands it: without percent-encoding, and with spaces for plus signs.
    Decoded,
    /// What follows the last slash.
    Basename,
    /// How many characters.
    Length,
    /// How many values.
    Count,
    /// An image without its tag and digest.
    Repository,
    /// Whether any is `true`.
    AnyTrue,
    /// Whether any is this path, or begins with it if it ends with `*`.
    Reaches(String),
}

impl Make {
    /// The values in an event.
    pub(super) fn values<'e>(&self, event: &'e Value) -> Vec<Got<'e>> {
        self.scalars(event).into_iter().map(Got::Scalar).collect()
    }

    fn scalars<'e>(&self, event: &'e Value) -> Vec<Cow<'e, Value>> {
        match self {
            Self::Path(path) => path
                .resolve(event)
                .into_iter()
                .filter_map(|found| match Got::from(found) {
                    Got::Scalar(value) => Some(value),
                    Got::Container => None,
                })
                .collect(),
            Self::Text(text) => vec![owned(text.as_str())],
            Self::Json(pointer) => event.pointer(pointer).map(scalar).into_iter().collect(),
            Self::Event => vec![scalar(event)],
            Self::Items(items) => items.scalars(event).unwrap_or_default(),
            Self::Time => time(event).into_iter().collect(),
            Self::PodName => {
                let is_pod = event.pointer("/objectRef/resource").and_then(Value::as_str) == Some("pods");
                event.pointer("/objectRef/name").filter(|_| is_pod).map(scalar).into_iter().collect()
            }
            Self::Parameter(name) => parameter(event, name).map(|value| owned(value.as_str())).into_iter().collect(),
            Self::First(makes) => {
                makes.iter().map(|make| make.scalars(event)).find(|values| !values.is_empty()).unwrap_or_default()
            }
            Self::List(makes) => makes.iter().flat_map(|make| make.scalars(event)).collect(),
            Self::Apply(apply, make) => apply.to(make.scalars(event)),
            Self::Join(between, list) => match (between.first_text(event), list.texts(event)) {
                (Some(between), texts) if !texts.is_empty() => vec![owned(texts.join(&between))],
                _ => Vec::new(),
            },
            Self::Concat(makes) => {
                let texts: Option<Vec<String>> = makes.iter().map(|make| make.first_text(event)).collect();
                texts.map(|texts| owned(texts.concat())).into_iter().collect()
            }
            Self::Options { arguments, known, only } => {
                options(&arguments.texts(event), known, *only).into_iter().map(owned).collect()
            }
        }
    }

    fn texts(&self, event: &Value) -> Vec<String> {
        self.scalars(event).iter().filter_map(|value| text_of(value)).collect()
    }

    fn first_text(&self, event: &Value) -> Option<String> {
        self.texts(event).into_iter().next()
    }
}

fn owned<'e>(value: impl Into<Value>) -> Cow<'e, Value> {
    Cow::Owned(value.into())
}

/// A value as one scalar: what is none as its JSON text.
fn scalar(value: &Value) -> Cow<'_, Value> {
    match value {
        Value::Object(_) | Value::Array(_) | Value::Null => owned(value.to_string()),
        scalar => Cow::Borrowed(scalar),
    }
}

fn time(event: &Value) -> Option<Cow<'_, Value>> {
    let time = Timestamp::parse(event.get("stageTimestamp")?.as_str()?)?;
    // A rule that asks for the time 0 means "never".
    Some(owned(time.0.max(1).saturating_mul(1_000)))
}

fn parameter(event: &Value, name: &str) -> Option<String> {
    let (_, query) = event.get("requestURI")?.as_str()?.split_once('?')?;
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

impl Items {
    /// `None` if there is no such list, or it is spoiled by an element.
    fn scalars<'e>(&self, event: &'e Value) -> Option<Vec<Cow<'e, Value>>> {
        let items = event.pointer(self.list)?.as_array()?;
        let items = match self.only {
            Some(at) => items.get(at..=at)?,
            None => items,
        };
        let mut values = Vec::new();
        for item in items {
            let before = values.len();
            if let Some(value) = item.pointer(self.below) {
                self.take.from(value, &mut values);
            }
            if values.len() == before {
                match &self.lacking {
                    Lacking::Skip => {}
                    Lacking::Fail => return None,
                    Lacking::Else(make) => values.extend(make.scalars(event)),
                }
            }
        }
        Some(values)
    }
}

impl Take {
    fn from<'e>(&self, value: &'e Value, values: &mut Vec<Cow<'e, Value>>) {
        match (self, value) {
            (Self::Value, Value::Array(items)) => values.extend(items.iter().map(scalar)),
            (Self::Value, value) => values.push(scalar(value)),
            (Self::Keys, Value::Object(map)) => {
                values.extend(map.keys().filter(|key| *key != "name").map(|key| owned(key.as_str())));
            }
            (Self::Ports, Value::Array(ports)) => {
                let of = |port: &'e Value| port.get("hostPort").or_else(|| port.get("containerPort"));
                values.extend(ports.iter().filter_map(of).map(scalar));
            }
            (Self::Subjects { kind, namespace }, subject) => {
                let text = |key: &str| subject.get(key).and_then(Value::as_str);
                if text("kind") == Some(kind)
                    && let Some(name) = text("name")
                {
                    values.push(match (namespace, text("namespace")) {
                        (true, Some(namespace)) => owned(format!("{namespace}:{name}")),
                        (true, None) => owned(format!(":{name}")),
                        (false, _) => owned(name),
                    });
                }
            }
            (Self::Keys | Self::Ports, _) => {}
        }
    }
}

impl Apply {
    fn to<'e>(&self, values: Vec<Cow<'e, Value>>) -> Vec<Cow<'e, Value>> {
        if values.is_empty() {
            return values;
        }
        let texts = values.iter().filter_map(|value| text_of(value));
        match self {
            Self::Count => vec![owned(values.len())],
            Self::AnyTrue => vec![owned(texts.into_iter().any(|text| text == "true"))],
            Self::Reaches(path) => {
                let hit = |text: String| match path.strip_suffix('*') {
                    Some(prefix) => text.starts_with(prefix),
                    None => text == *path,
                };
                vec![owned(texts.into_iter().any(hit))]
            }
            Self::Length => texts.map(|text| owned(text.chars().count())).collect(),
            Self::Lower | Self::Upper | Self::Base64 | Self::Decoded | Self::Basename | Self::Repository => {
                texts.filter_map(|text| self.to_text(text)).map(owned).collect()
            }
        }
    }

    fn to_text(&self, text: String) -> Option<String> {
        Some(match self {
            Self::Lower => text.to_ascii_lowercase(),
            Self::Upper => text.to_ascii_uppercase(),
            Self::Base64 => String::from_utf8_lossy(&STANDARD.decode(text).ok()?).into_owned(),
            Self::Decoded => query_decoded(&text),
            Self::Basename => text.rsplit('/').next().unwrap_or_default().to_owned(),
            // As Falco cuts it: at the first colon, so that a registry's port ends it too.
            Self::Repository => text.split([':', '@']).next().unwrap_or_default().to_owned(),
            _ => text,
        })
    }
}

/// The options of a command line: each option's name and then its value, or the last of one.
fn options(arguments: &[String], known: &str, only: Option<char>) -> Vec<String> {
    let takes_value = |option: char| {
        let at = known.char_indices().find(|(_, c)| *c == option && option != ':')?.0;
        Some(known[at + option.len_utf8()..].starts_with(':'))
    };
    let mut found = Vec::new();
    let mut last = None;
    let mut add = |name: &str, value: Option<&str>| {
        if only.is_none() {
            found.push(name.to_owned());
            found.extend(value.map(str::to_owned));
        } else if only.is_some_and(|only| name.starts_with(only)) {
            last = Some(value.unwrap_or(name).to_owned());
        }
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.strip_prefix('-') {
            None | Some("" | "-") => break,
            // Long options are none of these.
            Some(long) if long.starts_with('-') => {}
            Some(cluster) => {
                for (at, option) in cluster.char_indices() {
                    let after = &cluster[at + option.len_utf8()..];
                    let name = &cluster[at..cluster.len() - after.len()];
                    match takes_value(option) {
                        None => add("?", None),
                        Some(false) => add(name, None),
                        Some(true) => {
                            let value = if after.is_empty() { rest.next().map(String::as_str) } else { Some(after) };
                            match value {
                                Some(value) => add(name, Some(value)),
                                None if only.is_none() => add("", None),
                                None => add(name, Some("")),
                            }
                            break;
                        }
                    }
                }
            }
        }
    }
    if only.is_some() { last.into_iter().collect() } else { found }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(make: &Make, event: &Value) -> Vec<String> {
        make.texts(event)
    }

    fn items(list: &'static str, below: &'static str, lacking: Lacking) -> Make {
        Make::Items(Items { list, only: None, below, take: Take::Value, lacking })
    }

    #[test]
    fn pointers_are_exact_and_containers_are_json() {
        let event = json!({"a": {"b.c": [1, {"d": "x"}]}, "n": null});
        let json = |pointer: &str| texts(&Make::Json(pointer.to_owned()), &event);
        assert_eq!(json("/a/b.c/1/d"), ["x"]);
        assert_eq!(json("/a/b.c"), [r#"[1,{"d":"x"}]"#]);
        assert_eq!(json("/n"), ["null"]);
        assert!(json("/a/b/c").is_empty());
    }

    #[test]
    fn what_elements_lack_is_skipped_replaced_or_spoils_the_list() {
        let event = json!({"l": [{"a": {"b": true}}, {}, {"a": {"b": ["x", "y"]}}], "d": 7});
        assert_eq!(texts(&items("/l", "/a/b", Lacking::Skip), &event), ["true", "x", "y"]);
        assert!(texts(&items("/l", "/a/b", Lacking::Fail), &event).is_empty());
        let other = Lacking::Else(Box::new(Make::First(vec![Make::Json("/none".into()), Make::Json("/d".into())])));
        assert_eq!(texts(&items("/l", "/a/b", other), &event), ["true", "7", "x", "y"]);
        assert!(texts(&items("/d", "/a/b", Lacking::Skip), &event).is_empty());
    }

    #[test]
    fn values_are_made_into_others() {
        let event = json!({"p": "/a/b/c", "i": ["docker.io/x:1", "y@sha256:0"], "e": "aGk=", "s": "Ab"});
        let apply = |apply, path: &str| {
            texts(&Make::Apply(apply, Box::new(Make::Path(FieldPath::parse(path).expect("a path")))), &event)
        };
        assert_eq!(apply(Apply::Basename, "p"), ["c"]);
        assert_eq!(apply(Apply::Repository, "i"), ["docker.io/x", "y"]);
        assert_eq!(apply(Apply::Base64, "e"), ["hi"]);
        assert!(apply(Apply::Base64, "p").is_empty());
        assert_eq!((apply(Apply::Lower, "s"), apply(Apply::Upper, "s")), (vec!["ab".into()], vec!["AB".into()]));
        assert_eq!((apply(Apply::Length, "p"), apply(Apply::Count, "i")), (vec!["6".into()], vec!["2".into()]));
        assert_eq!(apply(Apply::Reaches("/a*".into()), "p"), ["true"]);
        assert_eq!(apply(Apply::Reaches("/a".into()), "p"), ["false"]);
        assert!(apply(Apply::Count, "none").is_empty());
    }

    #[test]
    fn options_are_read_as_getopt_does() {
        let read = |arguments: &[&str], known: &str, only| {
            options(&arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>(), known, only)
        };
        assert_eq!(read(&["-nt", "hello"], "nt:", None), ["n", "t", "hello"]);
        assert_eq!(read(&["-thello"], "t:", None), ["t", "hello"]);
        assert_eq!(read(&["-x", "-n"], "n", None), ["?", "n"]);
        assert_eq!(read(&["-n", "--", "-t"], "nt", None), ["n"]);
        assert_eq!(read(&["--long", "-n", "file", "-t"], "nt", None), ["n"]);
        assert_eq!(read(&["-t"], "t:", None), [""]);
        assert_eq!(read(&["-p", "22", "-p", "23"], "p:", Some('p')), ["23"]);
        assert_eq!(read(&["-v"], "v", Some('v')), ["v"]);
        assert!(read(&["-v"], "vp:", Some('p')).is_empty());
    }

    #[test]
    fn parameters_and_times_come_from_the_envelope() {
        let event = json!({"requestURI": "/x?command=sh&command=-c&q=a%20b", "stageTimestamp": "1970-01-01T00:00:01Z"});
        assert_eq!(texts(&Make::Parameter("command".into()), &event), ["sh"]);
        assert_eq!(texts(&Make::Parameter("q".into()), &event), ["a b"]);
        assert!(texts(&Make::Parameter("none".into()), &event).is_empty());
        assert_eq!(texts(&Make::Time, &event), ["1000000000"]);
    }
}
