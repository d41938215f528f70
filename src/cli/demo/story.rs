//! The bundled story: a compact text, from which audit events are made as an API server would write them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::units::Span;

const TEXT: &str = include_str!("story.txt");

/// A story, in the order in which it happens.
pub(super) struct Story {
    scenes: Vec<Scene>,
}

/// Something that happens, or is said.
pub(super) struct Scene {
    /// From the beginning, in seconds; below zero for what is known before it.
    at: i64,
    what: What,
}

enum What {
    Said(String),
    /// The event without its times.
    Event(Value),
}

impl Story {
    /// Reads the bundled text.
    pub(super) fn read() -> anyhow::Result<Self> {
        Self::parse(TEXT)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut people: HashMap<&str, Person<'_>> = HashMap::new();
        let mut scenes = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let read = || format!("line {} of the story", number + 1);
            if let Some(person) = line.strip_prefix("who ") {
                let (name, about) = person.split_once(' ').with_context(read)?;
                people.insert(name, Person::parse(about).with_context(read)?);
                continue;
            }
            scenes.extend(scenes_of(line, &people).with_context(read)?);
        }
        scenes.sort_by_key(|scene| scene.at); // What happens at once stays in the order in which it is written.
        for (number, scene) in scenes.iter_mut().enumerate() {
            if let What::Event(event) = &mut scene.what {
                event["auditID"] = format!("de300000-0000-4000-8000-{number:012x}").into();
            }
        }
        Ok(Self { scenes })
    }

    pub(super) fn scenes(&self) -> &[Scene] {
        &self.scenes
    }

    /// From its beginning to its end, without what is known before it.
    pub(super) fn length(&self) -> Duration {
        self.scenes.last().map(Scene::after).unwrap_or_default()
    }
}

impl Scene {
    /// When it is told, from the beginning: what is known before is told at once.
    pub(super) fn after(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.at).unwrap_or(0))
    }

    /// What is said.
    pub(super) fn words(&self) -> &str {
        match &self.what {
            What::Said(words) => words,
            What::Event(_) => "",
        }
    }

    /// The event as it is sent, for a story that begins at `begin`; `None` if something is said.
    pub(super) fn event(&self, begin: Timestamp) -> Option<Vec<u8>> {
        let What::Event(event) = &self.what else { return None };
        let time = Timestamp(begin.0 + self.at * 1_000_000);
        let mut event = event.clone();
        event["requestReceivedTimestamp"] = json!(time);
        event["stageTimestamp"] = json!(time.plus(Duration::from_millis(3)));
        Some(event.to_string().into_bytes())
    }
}

/// Somebody who asks the API server for something.
struct Person<'t> {
    user: Value,
    agent: &'t str,
    from: &'t str,
}

impl<'t> Person<'t> {
    /// Reads `user "…" groups "…" agent "…" from … [pod …]`.
    fn parse(about: &'t str) -> anyhow::Result<Self> {
        let mut quoted = about.split('"');
        let mut next = |key: &str| -> anyhow::Result<&'t str> {
            anyhow::ensure!(quoted.next().is_some_and(|name| name.trim() == key), "`{key}` is missing");
            quoted.next().with_context(|| format!("`{key}` has no value"))
        };
        let (name, groups, agent) = (next("user")?, next("groups")?, next("agent")?);
        let rest = quoted.next().context("`from` is missing")?.trim();
        let (from, pod) = rest
            .strip_prefix("from ")
            .context("`from` is missing")?
            .split_once(" pod ")
            .map_or_else(|| (rest.trim_start_matches("from "), None), |(from, pod)| (from, Some(pod)));
        let mut groups: Vec<&str> = groups.split(',').filter(|group| !group.is_empty()).collect();
        if name != "system:anonymous" {
            groups.push("system:authenticated");
        }
        let mut user = json!({"username": name, "groups": groups});
        if let Some(pod) = pod {
            // A token of a pod says so.
            user["extra"] = json!({
                "authentication.kubernetes.io/credential-id": [format!("JTI={pod}")],
                "authentication.kubernetes.io/pod-name": [pod],
                "authentication.kubernetes.io/pod-uid": [format!("uid-of-{pod}")],
            });
        }
        Ok(Self { user, agent, from })
    }
}

/// Reads `TIME say …` or `TIME WHO VERB PATH CODE [xN/EVERY] [JSON]`.
fn scenes_of(line: &str, people: &HashMap<&str, Person<'_>>) -> anyhow::Result<Vec<Scene>> {
    let (time, rest) = line.split_once(' ').context("there is no time")?;
    let at = seconds(time).with_context(|| format!("`{time}` is no time"))?;
    if let Some(words) = rest.strip_prefix("say ") {
        return Ok(vec![Scene { at, what: What::Said(words.to_owned()) }]);
    }
    let (words, body) = rest.find(" {").map_or((rest, None), |json| (&rest[..json], Some(&rest[json + 1..])));
    // A placeholder in the path looks like the beginning of a body, but no space stands before it.
    let body = body.map(serde_json::from_str::<Value>).transpose().context("the body is no JSON")?;
    let mut words = words.split(' ');
    let mut next = |what: &str| words.next().with_context(|| format!("the {what} is missing"));
    let (who, verb, path, code) = (next("person")?, next("verb")?, next("path")?, next("code")?);
    let person = people.get(who).with_context(|| format!("nobody is called `{who}`"))?;
    let code: u16 = code.parse().with_context(|| format!("`{code}` is no code"))?;
    let (times, every) = words.next().map_or(Ok((1, 0)), repeated)?;
    let scene = |n: i64| Scene {
        at: at + (n - 1) * every,
        what: What::Event(event(person, verb, &path.replace("{n}", &n.to_string()), code, body.as_ref())),
    };
    Ok((1..=times).map(scene).collect())
}

/// `mm:ss`, or `-9d`.
fn seconds(time: &str) -> Option<i64> {
    if let Some(before) = time.strip_prefix('-') {
        return Some(-i64::try_from(before.parse::<Span>().ok()?.0.as_secs()).ok()?);
    }
    let (minutes, seconds) = time.split_once(':')?;
    Some(minutes.parse::<i64>().ok()? * 60 + seconds.parse::<i64>().ok()?)
}

/// `x3/10s`: how often, and how many seconds from one to the next.
fn repeated(text: &str) -> anyhow::Result<(i64, i64)> {
    let parts = text.strip_prefix('x').and_then(|text| text.split_once('/'));
    let (times, every) = parts.with_context(|| format!("`{text}` is not like x3/10s"))?;
    let every: Span = every.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((times.parse().context("no number")?, i64::try_from(every.0.as_secs())?))
}

fn event(person: &Person<'_>, verb: &str, path: &str, code: u16, body: Option<&Value>) -> Value {
    let bare = path.split('?').next().unwrap_or(path);
    let object = object(bare);
    // What is made has its name in the body.
    let uri = if verb == "create" && object.as_ref().is_some_and(|object| object["subresource"].is_null()) {
        object
            .as_ref()
            .and_then(|object| bare.strip_suffix(object["name"].as_str()?))
            .map_or(path, |uri| uri.trim_end_matches('/'))
    } else {
        path
    };
    let stage = if code == 101 { "ResponseStarted" } else { "ResponseComplete" };
    let decision = if code == 403 { "forbid" } else { "allow" };
    let mut event = json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": if body.is_some() { "RequestResponse" } else { "Metadata" },
        "stage": stage,
        "requestURI": uri,
        "verb": verb,
        "user": person.user,
        "sourceIPs": [person.from],
        "userAgent": person.agent,
        "responseStatus": {"metadata": {}, "code": code},
        "annotations": {"authorization.k8s.io/decision": decision},
    });
    if code == 403 {
        event["responseStatus"]["reason"] = "Forbidden".into();
    }
    if let Some(object) = object {
        event["objectRef"] = object;
    }
    if let Some(body) = body {
        event["requestObject"] = body.clone();
    }
    event
}

/// What a path of the API leads to.
fn object(path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, rest) = match parts[..] {
        ["api", version, ref rest @ ..] => (None, version, rest),
        ["apis", group, version, ref rest @ ..] => (Some(group), version, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let mut object = json!({"resource": rest.first()?, "apiVersion": version});
    let optional = [
        ("apiGroup", group),
        ("namespace", namespace),
        ("name", rest.get(1).copied()),
        ("subresource", rest.get(2).copied()),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            object[key] = value.into();
        }
    }
    Some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_story_is_read() {
        let story = Story::read().expect("a story");
        assert!(story.scenes().len() > 900);
        assert!(story.length() > Duration::from_secs(40 * 60) && story.length() <= Duration::from_secs(45 * 60));
        let said = story.scenes().iter().filter(|scene| scene.event(Timestamp(0)).is_none());
        assert!(said.filter(|scene| !scene.words().is_empty()).count() >= 7);
    }

    #[test]
    fn lines_become_events() {
        let text = "who eve user \"eve\" groups \"a,b\" agent \"x/1\" from 10.0.0.1 pod web-0\n\
                    00:10 eve create /api/v1/namespaces/shop/pods/p-{n} 201 x2/5s {\"spec\":{}}\n\
                    -1d eve get /version 403";
        let story = Story::parse(text).expect("a story");
        let begin = Timestamp::parse("2026-11-21T04:00:00Z").expect("a time");
        let events: Vec<Value> = story
            .scenes()
            .iter()
            .map(|scene| serde_json::from_slice(&scene.event(begin).expect("an event")).expect("JSON"))
            .collect();
        assert_eq!(events.len(), 3);
        assert_eq!(events[0]["requestReceivedTimestamp"], "2026-11-20T04:00:00.000000Z");
        assert_eq!((&events[0]["responseStatus"]["code"], events[0].get("objectRef")), (&json!(403), None));
        assert_eq!(events[2]["requestReceivedTimestamp"], "2026-11-21T04:00:15.000000Z");
        assert_eq!(events[2]["requestURI"], "/api/v1/namespaces/shop/pods");
        let object = json!({"resource": "pods", "apiVersion": "v1", "namespace": "shop", "name": "p-2"});
        assert_eq!(events[2]["objectRef"], object);
        assert_eq!(events[2]["user"]["groups"], json!(["a", "b", "system:authenticated"]));
        assert_ne!(events[1]["auditID"], events[2]["auditID"]);
    }

    #[test]
    fn mistakes_have_their_line() {
        for (text, words) in [
            ("00:10 eve get /x 200", "nobody"),
            ("ten say x", "no time"),
            ("who eve user \"eve\"", "groups"),
            ("who e user \"e\" groups \"\" agent \"\" from a\n00:00 e get /x", "code"),
        ] {
            let error = Story::parse(text).err().map(|error| format!("{error:#}")).expect("wrong");
            assert!(error.contains("of the story") && error.contains(words), "{error}");
        }
    }
}
