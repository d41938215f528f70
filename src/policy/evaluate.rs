//! What kube-apiserver would log of a request under a policy: the judge of everything else here.
//!
//! Follows `k8s.io/apiserver/pkg/audit/policy`: the first rule that matches decides, and nothing is logged where none does.

use serde_json::Value;

use super::model::{GroupResources, Level, Policy, PolicyRule, Stage};

/// What a policy can tell requests apart by. It is asked before anything is decided about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `get`, `create`…
    pub verb: String,
    /// The caller's name; nobody where the credential was refused.
    pub user: Option<String>,
    /// The caller's groups.
    pub groups: Vec<String>,
    /// What it is about.
    pub target: Target,
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A resource.
    Resource(Resource),
    /// Anything else: the path, without its query.
    Path(String),
}

impl Default for Target {
    fn default() -> Self {
        Self::Path(String::new())
    }
}

/// A resource as a request names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core.
    pub group: String,
    /// `pods`.
    pub resource: String,
    /// `exec`; empty for none.
    pub subresource: String,
    /// Empty for none.
    pub namespace: String,
    /// As the request's path has it; empty where it has none.
    pub name: String,
}

/// What is logged of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How much.
    pub level: Level,
    /// The stages of which nothing is.
    pub omit_stages: Vec<Stage>,
    /// Whether bodies come without `managedFields`.
    pub omit_managed_fields: bool,
    /// The rule that decided; `None` where none matched.
    pub rule: Option<usize>,
}

impl Request {
    /// The request that an event tells of.
    #[must_use]
    pub fn of(event: &Value) -> Self {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let groups = event.pointer("/user/groups").and_then(Value::as_array);
        let verb = text("/verb");
        let target = if event.get("objectRef").is_some_and(Value::is_object) {
            let subresource = text("/objectRef/subresource");
            // The name of a new object is in the request's body, which a policy does not see.
            let named = verb != "create" || !subresource.is_empty();
            Target::Resource(Resource {
                group: text("/objectRef/apiGroup"),
                resource: text("/objectRef/resource"),
                subresource,
                namespace: text("/objectRef/namespace"),
                name: if named { text("/objectRef/name") } else { String::new() },
            })
        } else {
            let uri = text("/requestURI");
            Target::Path(uri.split_once('?').map_or(uri.as_str(), |(path, _)| path).to_owned())
        };
        Self {
            verb,
            user: Some(text("/user/username")).filter(|name| !name.is_empty()),
            groups: groups.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
            target,
        }
    }
}

impl Policy {
    /// What is logged of a request.
    #[must_use]
    pub fn judge(&self, request: &Request) -> Verdict {
        let found = self.rules.iter().enumerate().find(|(_, rule)| rule.matches(request));
        let Some((at, rule)) = found else {
            return Verdict {
                level: Level::None,
                omit_stages: self.omit_stages.clone(),
                omit_managed_fields: self.omit_managed_fields,
                rule: None,
            };
        };
        let mut omit_stages = self.omit_stages.clone();
        omit_stages.extend(rule.omit_stages.iter().filter(|stage| !self.omit_stages.contains(stage)));
        Verdict {
            level: rule.level,
            omit_stages,
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
            rule: Some(at),
        }
    }

    /// What is left of an event under the policy; `None` if it is not written at all.
    #[must_use]
    pub fn cut(&self, event: &Value) -> Option<Value> {
        self.judge(&Request::of(event)).cut(event)
    }
}

impl Verdict {
    /// What is left of the event that was judged; `None` if it is not written at all.
    #[must_use]
    pub fn cut(&self, event: &Value) -> Option<Value> {
        let stage = event.get("stage").and_then(Value::as_str).unwrap_or_default();
        if self.level == Level::None || self.omit_stages.iter().any(|omitted| omitted.as_str() == stage) {
            return None;
        }
        let mut left = event.clone();
        if let Value::Object(members) = &mut left {
            members.insert("level".to_owned(), self.level.as_str().into());
            if self.level < Level::Request {
                members.remove("requestObject");
            }
            if self.level < Level::RequestResponse {
                members.remove("responseObject");
            }
            if self.omit_managed_fields {
                members.get_mut("requestObject").map(without_managed_fields);
                members.get_mut("responseObject").map(without_managed_fields);
            }
        }
        Some(left)
    }
}

/// Takes the field owners out of an object, or out of the objects of a list.
fn without_managed_fields(body: &mut Value) {
    if let Some(Value::Object(metadata)) = body.get_mut("metadata") {
        metadata.remove("managedFields");
    }
    if let Some(Value::Array(items)) = body.get_mut("items") {
        for item in items {
            if let Some(Value::Object(metadata)) = item.get_mut("metadata") {
                metadata.remove("managedFields");
            }
        }
    }
}

impl PolicyRule {
    /// Whether the rule is about a request.
    #[must_use]
    pub fn matches(&self, request: &Request) -> bool {
        let user = |user: &String| self.users.contains(user);
        (self.users.is_empty() || request.user.as_ref().is_some_and(user))
            && (self.user_groups.is_empty() || request.groups.iter().any(|group| self.user_groups.contains(group)))
            && (self.verbs.is_empty() || self.verbs.contains(&request.verb))
            && self.is_about(&request.target)
    }

    fn is_about(&self, target: &Target) -> bool {
        let of_resources = !self.namespaces.is_empty() || !self.resources.is_empty();
        match target {
            Target::Resource(resource) if of_resources => {
                (self.namespaces.is_empty() || self.namespaces.contains(&resource.namespace))
                    && (self.resources.is_empty() || self.resources.iter().any(|group| group.covers(resource)))
            }
            Target::Path(_) if of_resources => false,
            Target::Path(path) => {
                self.non_resource_urls.is_empty() || self.non_resource_urls.iter().any(|url| path_is(path, url))
            }
            Target::Resource(_) => self.non_resource_urls.is_empty(),
        }
    }
}

fn path_is(path: &str, url: &str) -> bool {
    match url.strip_suffix('*') {
        Some(start) => path.starts_with(start.trim_end_matches('*')),
        None => path == url,
    }
}

impl GroupResources {
    fn covers(&self, resource: &Resource) -> bool {
        let named = self.resource_names.is_empty() || self.resource_names.contains(&resource.name);
        self.group == resource.group
            && (self.resources.is_empty() || (named && self.resources.iter().any(|wanted| covers(wanted, resource))))
    }
}

/// `pods/*` is about pods themselves too, as kube-apiserver reads it.
fn covers(wanted: &str, resource: &Resource) -> bool {
    match wanted.split_once('/') {
        _ if wanted == "*" => true,
        None => resource.subresource.is_empty() && wanted == resource.resource,
        Some(("*", subresource)) => subresource == resource.subresource,
        Some((of, "*")) => of == resource.resource,
        Some((of, subresource)) => of == resource.resource && subresource == resource.subresource,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::diagnose::SourceText;
    use crate::policy::model::parse;

    fn policy(rules: &str) -> Policy {
        let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}");
        parse(&SourceText::new(Path::new("p.yaml"), text)).expect("a policy").0
    }

    fn event(verb: &str, resource: &str) -> Value {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let (group, resource) = resource.split_once(':').unwrap_or(("", resource));
        json!({
            "verb": verb, "stage": "ResponseComplete", "requestURI": "/api/x",
            "user": {"username": "alice", "groups": ["devs", "system:authenticated"]},
            "objectRef": {"apiGroup": group, "resource": resource, "subresource": subresource, "namespace": "shop", "name": "web"},
            "requestObject": {"metadata": {"managedFields": [1], "name": "web"}},
            "responseObject": {"items": [{"metadata": {"managedFields": [1]}}]},
        })
    }

    #[test]
    fn a_rule_matches_what_kube_apiserver_says_it_matches() {
        let on = |rule: &str, event: &Value| {
            policy(&format!("rules: [{{level: Metadata, {rule}}}]\n")).judge(&Request::of(event)).level
                == Level::Metadata
        };
        let pods = event("get", "pods");
        let exec = event("create", "pods/exec");
        let scale = event("update", "apps:deployments/scale");
        for (rule, pods_match, exec_matches, scale_matches) in [
            ("users: [alice]", true, true, true),
            ("users: [bob]", false, false, false),
            ("userGroups: [devs]", true, true, true),
            ("userGroups: [devs], users: [bob]", false, false, false),
            ("verbs: [create]", false, true, false),
            ("namespaces: [shop]", true, true, true),
            ("namespaces: [\"\"]", false, false, false),
            ("resources: [{group: \"\"}]", true, true, false),
            ("resources: [{resources: [pods]}]", true, false, false),
            ("resources: [{resources: [\"pods/*\"]}]", true, true, false),
            ("resources: [{resources: [\"*/exec\", pods/log]}]", false, true, false),
            ("resources: [{resources: [\"*\"]}]", true, true, false),
            ("resources: [{group: apps, resources: [\"*/scale\"]}]", false, false, true),
            ("resources: [{resources: [pods, \"pods/*\"], resourceNames: [web]}]", true, true, false),
            ("resources: [{resources: [pods], resourceNames: [db]}]", false, false, false),
            ("nonResourceURLs: [\"*\"]", false, false, false),
        ] {
            let found = (on(rule, &pods), on(rule, &exec), on(rule, &scale));
            assert_eq!(found, (pods_match, exec_matches, scale_matches), "{rule}");
        }
        let path = json!({"verb": "get", "requestURI": "/healthz?verbose", "user": {}});
        for (rule, matches) in [
            ("nonResourceURLs: [/healthz]", true),
            ("nonResourceURLs: [\"/health*\"]", true),
            ("nonResourceURLs: [\"*\"]", true),
            ("nonResourceURLs: [/health]", false),
            ("userGroups: [system:unauthenticated]", false),
            ("users: [\"\"]", false),
            ("namespaces: [\"\"]", false),
            ("verbs: [get]", true),
        ] {
            assert_eq!(on(rule, &path), matches, "{rule}");
        }
        let named = "resources: [{resources: [secrets], resourceNames: [web]}]";
        assert!(on(named, &event("update", "secrets")) && !on(named, &event("create", "secrets")));
    }

    #[test]
    fn the_first_rule_decides_and_no_rule_means_nothing() {
        let policy = policy(
            "omitStages: [RequestReceived]\nrules:\n  - {level: Request, verbs: [get], omitStages: [Panic]}\n  - {level: RequestResponse, verbs: [get, list]}\n",
        );
        let verdict = policy.judge(&Request::of(&event("get", "pods")));
        assert_eq!((verdict.level, verdict.rule), (Level::Request, Some(0)));
        assert_eq!(verdict.omit_stages, [Stage::RequestReceived, Stage::Panic]);
        assert_eq!(policy.judge(&Request::of(&event("list", "pods"))).rule, Some(1));
        let verdict = policy.judge(&Request::of(&event("watch", "pods")));
        assert_eq!((verdict.level, verdict.rule), (Level::None, None));
    }

    #[test]
    fn an_event_is_cut_down_to_its_level() {
        let keys = |policy: &Policy, event: &Value| {
            policy.cut(event).map(|event| {
                let has = |pointer: &str| event.pointer(pointer).is_some();
                (
                    event["level"].as_str().unwrap_or_default().to_owned(),
                    has("/requestObject/metadata/name"),
                    has("/responseObject"),
                    has("/requestObject/metadata/managedFields")
                        || has("/responseObject/items/0/metadata/managedFields"),
                )
            })
        };
        let get = event("get", "pods");
        for (level, expected) in [
            ("None", None),
            ("Metadata", Some(("Metadata".to_owned(), false, false, false))),
            ("Request", Some(("Request".to_owned(), true, false, true))),
            ("RequestResponse", Some(("RequestResponse".to_owned(), true, true, true))),
            ("RequestResponse, omitManagedFields: true", Some(("RequestResponse".to_owned(), true, true, false))),
            ("Request, omitStages: [ResponseComplete]", None),
        ] {
            assert_eq!(keys(&policy(&format!("rules: [{{level: {level}}}]\n")), &get), expected, "{level}");
        }
    }
}
