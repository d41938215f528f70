//! Which sinks hear of an alert.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, Level};
use crate::diagnose::closest;
use crate::rule::ir::{Glob, Text};

/// One entry of `routes:`. All given conditions must hold; the first route that matches wins unless it says
/// `continue: true`. Patterns may use `*` and `?`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// This level or above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_level: Option<Level>,
    /// Any of these clusters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// Any of these rules, by id or title.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Any of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Any of these namespaces (of the event's object).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Names of sinks.
    pub sinks: Vec<String>,
    /// Look at the routes below too.
    #[serde(rename = "continue", skip_serializing_if = "std::ops::Not::not")]
    pub go_on: bool,
}

/// The routes, checked: every sink they name exists.
#[derive(Clone, Debug)]
pub struct Routes {
    routes: Vec<RouteConfig>,
    sinks: Vec<String>,
}

impl Routes {
    /// Checks the routes against the names of the sinks. Says every mistake at once, each with its route's index.
    pub fn new(routes: &[RouteConfig], sink_names: &[String]) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        for (n, route) in routes.iter().enumerate() {
            if route.sinks.is_empty() {
                mistakes.push(format!("routes[{n}]: sinks is empty, so the route sends nothing"));
            }
            for name in route.sinks.iter().filter(|name| !sink_names.contains(name)) {
                let known = sink_names.iter().map(String::as_str);
                let help = match closest(name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if sink_names.is_empty() => "no sinks are configured".to_owned(),
                    None => format!("the sinks are {}", sink_names.join(", ")),
                };
                mistakes.push(format!("routes[{n}]: there is no sink `{name}`; {help}"));
            }
        }
        if mistakes.is_empty() {
            Ok(Self { routes: routes.to_vec(), sinks: sink_names.to_vec() })
        } else {
            Err(mistakes)
        }
    }

    /// The sinks that shall hear of the alert, each once. Its end goes where its beginning went, whatever routes there are
    /// by then; the store sees to that.
    #[must_use]
    pub fn sinks_for(&self, alert: &Alert) -> Vec<String> {
        if self.routes.is_empty() {
            return self.sinks.clone();
        }
        let mut sinks: Vec<String> = Vec::new();
        for route in self.routes.iter().filter(|route| route.matches(alert)) {
            for name in &route.sinks {
                if !sinks.contains(name) {
                    sinks.push(name.clone());
                }
            }
            if !route.go_on {
                break;
            }
        }
        sinks
    }
}

impl RouteConfig {
    fn matches(&self, alert: &Alert) -> bool {
        let rule = &alert.rule;
        let namespace = alert.event.object_ref.as_ref().and_then(|object| object.namespace.as_deref());
        self.min_level.is_none_or(|level| rule.level >= level)
            && any(&self.clusters, [alert.cluster.as_str()])
            && any(&self.rules, [rule.id.as_str(), rule.title.as_str()])
            && any(&self.tags, rule.tags.iter().map(String::as_str))
            && any(&self.namespaces, namespace)
    }
}

/// Whether no pattern is given, or one of them fits one of the values.
fn any<'a>(patterns: &[String], values: impl IntoIterator<Item = &'a str>) -> bool {
    patterns.is_empty() || values.into_iter().any(|value| patterns.iter().any(|pattern| glob(pattern, value)))
}

/// `*` is any run of characters, `?` any one.
fn glob(pattern: &str, text: &str) -> bool {
    let piece = |c: char| match c {
        '*' => Glob::Many,
        '?' => Glob::One,
        c => Glob::Literal(c.to_string()),
    };
    Text::from_pieces(pattern.chars().map(piece).collect(), true).matches(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::samples::alert;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn to(sinks: &[&str]) -> RouteConfig {
        RouteConfig { sinks: names(sinks), ..RouteConfig::default() }
    }

    fn routes(routes: &[RouteConfig]) -> Routes {
        Routes::new(routes, &names(&["oncall", "am", "console"])).unwrap()
    }

    #[test]
    fn without_routes_every_sink_hears() {
        assert_eq!(routes(&[]).sinks_for(&alert("a", "r", Level::Low)), ["oncall", "am", "console"]);
    }

    #[test]
    fn the_first_match_wins_unless_it_goes_on() {
        let high = RouteConfig { min_level: Some(Level::High), ..to(&["oncall", "am"]) };
        let stops = routes(&[high.clone(), to(&["console"])]);
        let goes_on = routes(&[RouteConfig { go_on: true, ..high }, to(&["console", "am"])]);
        let (loud, quiet) = (alert("a", "r", Level::Critical), alert("a", "r", Level::Medium));
        assert_eq!(stops.sinks_for(&loud), ["oncall", "am"]);
        assert_eq!(stops.sinks_for(&quiet), ["console"]);
        assert_eq!(goes_on.sinks_for(&loud), ["oncall", "am", "console"]);
    }

    #[test]
    fn all_conditions_of_a_route_must_hold() {
        let all = RouteConfig {
            min_level: Some(Level::Medium),
            clusters: names(&["dev-*", "prod-??"]),
            rules: names(&["Title of *"]),
            tags: names(&["attack.t1552*"]),
            namespaces: names(&["pay*"]),
            ..to(&["am"])
        };
        let good = alert("a", "r", Level::High);
        assert_eq!(routes(std::slice::from_ref(&all)).sinks_for(&good), ["am"]);
        for wrong in [
            RouteConfig { min_level: Some(Level::Critical), ..all.clone() },
            RouteConfig { clusters: names(&["prod"]), ..all.clone() },
            RouteConfig { rules: names(&["x"]), ..all.clone() },
            RouteConfig { tags: names(&["attack.t1611"]), ..all.clone() },
            RouteConfig { namespaces: names(&["kube-system"]), ..all },
        ] {
            assert!(routes(&[wrong]).sinks_for(&good).is_empty());
        }
    }

    #[test]
    fn mistakes_are_all_said_with_their_route() {
        let wrong = [to(&["oncal", "am"]), to(&[]), to(&["pager"])];
        let mistakes = Routes::new(&wrong, &names(&["oncall", "am"])).unwrap_err();
        assert_eq!(
            mistakes,
            [
                "routes[0]: there is no sink `oncal`; did you mean `oncall`?",
                "routes[1]: sinks is empty, so the route sends nothing",
                "routes[2]: there is no sink `pager`; the sinks are oncall, am",
            ]
        );
    }

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("prod-*", "prod-", true),
            ("prod-*", "prod", false),
            ("*eu*", "prod-eu-1", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("?ä", "öä", true),
            ("a?", "a", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
        assert!(!glob(&"*a".repeat(40), &"a".repeat(5_000).replace('a', "ab")));
    }
}
