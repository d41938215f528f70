//! Falco's fields for audit events, and what each of them means in an event.
//!
//! Where the plugin's own reading is broken, what its documentation says is meant: `ka.sourceips` has values,
//! `add_capabilities`, `command` and `args` are single words, and `eff_run_as_*` look into the security contexts.

use std::sync::Arc;

use crate::diagnose::closest;
use crate::event::FieldPath;
use crate::event::project::CLUSTER;
use crate::rule::field::{Derived, Field};
use crate::rule::make::{Apply, Items, Lacking, Make, Take};

/// A field as a condition compares it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) field: Field,
    /// Only `in`, `intersects` and `exists` can be asked.
    pub(super) list: bool,
    /// It is a number, never a text.
    pub(super) number: bool,
}

/// Fields of the event's own paths: name, path, whether it is a list.
const PATHS: [(&str, &str, bool); 33] = [
    ("ka.auditid", "auditID", false),
    ("ka.stage", "stage", false),
    ("ka.verb", "verb", false),
    ("ka.uri", "requestURI", false),
    ("ka.useragent", "userAgent", false),
    ("ka.cluster.name", CLUSTER, false),
    ("ka.user.name", "user.username", false),
    ("ka.user.groups", "user.groups", true),
    ("ka.impuser.name", "impersonatedUser.username", false),
    ("ka.auth.decision", "annotations.authorization.k8s.io/decision", false),
    ("ka.auth.reason", "annotations.authorization.k8s.io/reason", false),
    ("ka.auth.openshift.decision", "annotations.authentication.openshift.io/decision", false),
    ("ka.auth.openshift.username", "annotations.authentication.openshift.io/username", false),
    (
        "ka.validations.admission.policy.failure",
        "annotations.validation.policy.admission.k8s.io/validation_failure",
        false,
    ),
    ("ka.security.pod.violations", "annotations.pod-security.kubernetes.io/audit-violations", false),
    ("ka.target.name", "objectRef.name", false),
    ("ka.target.namespace", "objectRef.namespace", false),
    ("ka.target.resource", "objectRef.resource", false),
    ("ka.target.subresource", "objectRef.subresource", false),
    ("ka.resp.name", "responseObject.metadata.name", false),
    ("ka.response.code", "responseStatus.code", false),
    ("ka.response.reason", "responseStatus.reason", false),
    ("ka.req.binding.role", "requestObject.roleRef.name", false),
    ("ka.req.configmap.name", "objectRef.name", false),
    ("ka.req.container.host_network", "requestObject.spec.hostNetwork", false),
    ("ka.req.pod.host_ipc", "requestObject.spec.hostIPC", false),
    ("ka.req.pod.host_network", "requestObject.spec.hostNetwork", false),
    ("ka.req.pod.host_pid", "requestObject.spec.hostPID", false),
    ("ka.req.pod.run_as_user", "requestObject.spec.securityContext.runAsUser", false),
    ("ka.req.pod.run_as_group", "requestObject.spec.securityContext.runAsGroup", false),
    ("ka.req.pod.fs_group", "requestObject.spec.securityContext.fsGroup", false),
    ("ka.req.pod.supplemental_groups", "requestObject.spec.securityContext.supplementalGroups", true),
    ("ka.req.service.type", "requestObject.spec.type", false),
];

/// Lists that may have an index: name, pointer to the list, pointer below each element.
const LISTS: [(&str, &str, &str); 8] = [
    ("ka.sourceips", "/sourceIPs", ""),
    ("ka.req.role.rules.apiGroups", "/requestObject/rules", "/apiGroups"),
    ("ka.req.role.rules.nonResourceURLs", "/requestObject/rules", "/nonResourceURLs"),
    ("ka.req.role.rules.verbs", "/requestObject/rules", "/verbs"),
    ("ka.req.role.rules.resources", "/requestObject/rules", "/resources"),
    ("ka.req.pod.volumes.hostpath", VOLUMES, "/hostPath/path"),
    ("ka.req.pod.volumes.flexvolume_driver", VOLUMES, "/flexVolume/driver"),
    ("ka.req.service.ports", "/requestObject/spec/ports", ""),
];

const VOLUMES: &str = "/requestObject/spec/volumes";

/// The lists of a pod's containers: as fields name them, and their pointers.
const CONTAINERS: [(&str, &str); 3] = [
    ("ka.req.pod.containers.", "/requestObject/spec/containers"),
    ("ka.req.pod.initContainers.", "/requestObject/spec/initContainers"),
    ("ka.req.pod.ephemeralContainers.", "/requestObject/spec/ephemeralContainers"),
];

/// What can be asked of containers: name, and pointer below each.
const OF_CONTAINERS: [(&str, &str); 10] = [
    ("name", "/name"),
    ("command", "/command"),
    ("args", "/args"),
    ("privileged", "/securityContext/privileged"),
    ("allow_privilege_escalation", "/securityContext/allowPrivilegeEscalation"),
    ("read_only_fs", "/securityContext/readOnlyRootFilesystem"),
    ("run_as_user", "/securityContext/runAsUser"),
    ("run_as_group", "/securityContext/runAsGroup"),
    ("proc_mount", "/securityContext/procMount"),
    ("add_capabilities", "/securityContext/capabilities/add"),
];

/// The names of the other fields of containers.
const MADE_OF_CONTAINERS: [&str; 5] = ["image", "image.repository", "host_port", "eff_run_as_user", "eff_run_as_group"];

/// The names of the fields that are none of the above.
const OTHERS: [&str; 21] = [
    "ka.uri.param",
    "ka.target.pod.name",
    "ka.req.binding.subjects",
    "ka.req.binding.subjects.user_names",
    "ka.req.binding.subjects.serviceaccount_names",
    "ka.req.binding.subjects.serviceaccount_ns_names",
    "ka.req.binding.subjects.group_names",
    "ka.req.binding.subject.has_name",
    "ka.req.configmap.obj",
    "ka.req.container.image",
    "ka.req.container.image.repository",
    "ka.req.container.privileged",
    "ka.req.pod.volumes.volume_type",
    "ka.req.volume.hostpath",
    "ka.req.role.rules",
    "jevt.value",
    "jevt.obj",
    "jevt.rawtime",
    "json.value",
    "json.obj",
    "json.rawtime",
];

/// The field of this name; the error says why there is none.
pub(super) fn field(name: &str, argument: Option<&str>) -> Result<Known, String> {
    let written = argument.map_or_else(|| name.to_owned(), |argument| format!("{name}[{argument}]"));
    if is_indexed(name) {
        return indexed(name, &written, argument);
    }
    if let Some((_, path, list)) = PATHS.iter().find(|(known, ..)| *known == name) {
        return match (argument, path_field(path)) {
            (None, Some(field)) => Ok(Known { field, list: *list, number: false }),
            _ => Err(format!("`{name}` takes no argument")),
        };
    }
    other(name, &written, argument)
}

/// Every name there is.
fn names() -> Vec<String> {
    let of_containers = CONTAINERS.iter().flat_map(|(list, _)| {
        let names = OF_CONTAINERS.iter().map(|(name, _)| *name).chain(MADE_OF_CONTAINERS);
        names.map(move |name| format!("{list}{name}"))
    });
    let plain = PATHS.iter().map(|(name, ..)| *name);
    plain.chain(LISTS.iter().map(|(name, ..)| *name)).chain(OTHERS).map(str::to_owned).chain(of_containers).collect()
}

fn unknown(name: &str) -> String {
    let names = names();
    match closest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("{UNKNOWN} `{name}` (did you mean `{near}`?)"),
        None => format!("{UNKNOWN} `{name}`"),
    }
}

/// What of an event is a scalar, and may be at a path as well as at a pointer: keys, and one level below them.
const ENVELOPE: [&str; 8] =
    ["auditID", "level", "requestURI", "stage", "stageTimestamp", "requestReceivedTimestamp", "userAgent", "verb"];
const ENVELOPE_BELOW: [&str; 4] = ["annotations", "objectRef", "responseStatus", "user"];

/// The path that says the same as a pointer into the envelope.
fn envelope(pointer: &str) -> Option<Field> {
    let keys: Vec<&str> = pointer.strip_prefix('/')?.split('/').collect();
    let same = match keys.as_slice() {
        [key] => ENVELOPE.contains(key),
        ["user", key] => *key == "username" || *key == "uid",
        [key, _] => ENVELOPE_BELOW.contains(key),
        _ => false,
    };
    if same { path_field(&path_of(pointer)) } else { None }
}

fn path_field(path: &str) -> Option<Field> {
    FieldPath::parse(path).ok().map(Field::Path)
}

/// The path that a pointer's keys make.
fn path_of(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~")
}

fn is_indexed(name: &str) -> bool {
    LISTS.iter().any(|(known, ..)| *known == name)
        || name == "ka.req.pod.volumes.volume_type"
        || CONTAINERS.iter().any(|(list, _)| {
            name.strip_prefix(list).is_some_and(|rest| {
                OF_CONTAINERS.iter().any(|(known, _)| *known == rest) || MADE_OF_CONTAINERS.contains(&rest)
            })
        })
}

/// A list, or what its elements hold.
fn indexed(name: &str, written: &str, argument: Option<&str>) -> Result<Known, String> {
    let only = match argument.map(str::parse::<usize>) {
        None => None,
        Some(Ok(only)) => Some(only),
        Some(Err(_)) => return Err(format!("`{written}`: the argument of `{name}` must be an index such as [0]")),
    };
    if let Some((_, list, below)) = LISTS.iter().find(|(known, ..)| *known == name) {
        return Ok(of_list(written, list, below, only, Take::Value));
    }
    if name == "ka.req.pod.volumes.volume_type" {
        return Ok(of_list(written, VOLUMES, "", only, Take::Keys));
    }
    let (list, rest) = CONTAINERS
        .iter()
        .find_map(|(list, pointer)| Some((*pointer, name.strip_prefix(list)?)))
        .ok_or_else(|| unknown(name))?;
    let ephemeral = list.ends_with("ephemeralContainers");
    if let Some((_, below)) = OF_CONTAINERS.iter().find(|(known, _)| *known == rest) {
        return Ok(of_list(written, list, below, only, Take::Value));
    }
    let items = |below, take, lacking| Make::Items(Items { list, only, below, take, lacking });
    let make = match rest {
        "image" => items("/image", Take::Value, Lacking::Fail),
        "image.repository" => Make::Apply(Apply::Repository, items("/image", Take::Value, Lacking::Fail).into()),
        "host_port" if !ephemeral => items("/ports", Take::Ports, Lacking::Skip),
        "eff_run_as_user" => items("/securityContext/runAsUser", Take::Value, otherwise("runAsUser")),
        "eff_run_as_group" => items("/securityContext/runAsGroup", Take::Value, otherwise("runAsGroup")),
        _ => return Err(unknown(name)),
    };
    Ok(derived(written, &[list], make, true))
}

/// The pod's own setting, or else 0.
fn otherwise(key: &str) -> Lacking {
    let pod = Make::Json(format!("/requestObject/spec/securityContext/{key}"));
    Lacking::Else(Box::new(Make::First(vec![pod, Make::Text("0".to_owned())])))
}

/// What the elements of a list hold: as a path where that says the same, for it is faster.
fn of_list(written: &str, list: &'static str, below: &'static str, only: Option<usize>, take: Take) -> Known {
    let objects = below.is_empty() && list != "/sourceIPs";
    if only.is_none()
        && !objects
        && let Some(field) = path_field(&path_of(&format!("{list}{below}")))
    {
        return Known { field, list: true, number: false };
    }
    derived(written, &[list], Make::Items(Items { list, only, below, take, lacking: Lacking::Skip }), true)
}

/// A field that is made of what is at these pointers.
fn derived(written: &str, reads: &[&str], make: Make, list: bool) -> Known {
    let reads = reads.iter().filter_map(|pointer| FieldPath::parse(&path_of(pointer)).ok()).collect();
    let field = Field::Derived(Arc::new(Derived { name: written.into(), reads, make }));
    Known { field, list, number: false }
}

const SUBJECTS: &str = "/requestObject/subjects";

fn other(name: &str, written: &str, argument: Option<&str>) -> Result<Known, String> {
    let takes_key =
        ["ka.uri.param", "ka.req.binding.subject.has_name", "ka.req.volume.hostpath", "jevt.value", "json.value"];
    if !OTHERS.contains(&name) {
        return Err(unknown(name));
    }
    match (takes_key.contains(&name), argument) {
        (true, None) => return Err(format!("`{name}` needs an argument: `{name}[…]`")),
        (false, Some(_)) => return Err(format!("`{name}` takes no argument")),
        _ => {}
    }
    let key = argument.unwrap_or_default();
    let containers = CONTAINERS[0].1;
    let items = |list, below, take| Make::Items(Items { list, only: None, below, take, lacking: Lacking::Skip });
    let subjects = |kind, namespace| items(SUBJECTS, "", Take::Subjects { kind, namespace });
    let image = || {
        let below = "/image";
        Make::Items(Items { list: containers, only: Some(0), below, take: Take::Value, lacking: Lacking::Fail })
    };
    let no = || Lacking::Else(Box::new(Make::Text("false".to_owned())));
    let made = |reads: &[&str], make| derived(written, reads, make, false);
    Ok(match name {
        "ka.uri.param" => made(&["/requestURI"], Make::Parameter(key.to_owned())),
        "ka.target.pod.name" => made(&["/objectRef/name"], Make::PodName),
        "ka.req.binding.subjects" => derived(written, &[SUBJECTS], items(SUBJECTS, "", Take::Value), true),
        "ka.req.binding.subjects.user_names" => derived(written, &[SUBJECTS], subjects("User", false), true),
        "ka.req.binding.subjects.group_names" => derived(written, &[SUBJECTS], subjects("Group", false), true),
        "ka.req.binding.subjects.serviceaccount_names" => {
            derived(written, &[SUBJECTS], subjects("ServiceAccount", false), true)
        }
        "ka.req.binding.subjects.serviceaccount_ns_names" => {
            derived(written, &[SUBJECTS], subjects("ServiceAccount", true), true)
        }
        // Falco has left it there for old rules; it says yes to everything.
        "ka.req.binding.subject.has_name" => made(&["/auditID"], Make::Text("true".to_owned())),
        "ka.req.configmap.obj" => made(&["/requestObject/data"], Make::Json("/requestObject/data".to_owned())),
        "ka.req.container.image" => made(&[containers], image()),
        "ka.req.container.image.repository" => made(&[containers], Make::Apply(Apply::Repository, image().into())),
        "ka.req.container.privileged" => {
            let below = "/securityContext/privileged";
            let flags = Items { list: containers, only: None, below, take: Take::Value, lacking: no() };
            made(&[containers], Make::Apply(Apply::AnyTrue, Make::Items(flags).into()))
        }
        "ka.req.volume.hostpath" => {
            let below = "/hostPath/path";
            let paths = Items { list: VOLUMES, only: None, below, take: Take::Value, lacking: no() };
            made(&[VOLUMES], Make::Apply(Apply::Reaches(key.to_owned()), Make::Items(paths).into()))
        }
        "ka.req.role.rules" => {
            let list = "/requestObject/rules";
            derived(written, &[list], items(list, "", Take::Value), true)
        }
        "jevt.value" | "json.value" => {
            if !key.starts_with('/') {
                return Err(format!("`{written}`: a JSON pointer begins with `/`"));
            }
            match envelope(key) {
                Some(field) => Known { field, list: false, number: false },
                None => made(&[key], Make::Json(key.to_owned())),
            }
        }
        "jevt.obj" | "json.obj" => made(&[], Make::Event),
        _ => Known { number: true, ..made(&["/stageTimestamp"], Make::Time) },
    })
}

const UNKNOWN: &str = "audit events have no field";

/// Whether a message is about a field that is not known here.
pub(super) fn says_unknown(message: &str) -> bool {
    message.starts_with(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rule::field::Got;
    use crate::rule::naive::text_of;

    #[test]
    fn every_name_is_a_field() {
        let names = names();
        assert_eq!(
            names.iter().filter(|name| name.starts_with("ka.")).count(),
            100 + 1,
            "100, and the one that is not"
        );
        for name in names {
            let found = ["", "x", "0", "/x"]
                .iter()
                .any(|argument| field(&name, Some(*argument).filter(|argument| !argument.is_empty())).is_ok());
            assert_eq!(found, name != "ka.req.pod.ephemeralContainers.host_port", "{name}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_field_is_told() {
        for (name, argument, message) in [
            ("ka.user.nam", None, "audit events have no field `ka.user.nam` (did you mean `ka.user.name`?)"),
            ("proc.name", None, "audit events have no field `proc.name`"),
            ("ka.verb", Some("0"), "`ka.verb` takes no argument"),
            ("ka.uri.param", None, "`ka.uri.param` needs an argument: `ka.uri.param[…]`"),
            (
                "ka.sourceips",
                Some("x"),
                "`ka.sourceips[x]`: the argument of `ka.sourceips` must be an index such as [0]",
            ),
            ("jevt.value", Some("stage"), "`jevt.value[stage]`: a JSON pointer begins with `/`"),
        ] {
            assert_eq!(field(name, argument).expect_err(name), message);
        }
    }

    #[test]
    fn fields_read_pods_bindings_and_uris() {
        let event = json!({
            "requestURI": "/api?command=sh&container=x", "sourceIPs": ["1.1.1.1", "2.2.2.2"], "stage": "ResponseComplete",
            "objectRef": {"resource": "pods", "name": "web"}, "stageTimestamp": "2026-11-21T04:15:56.715875Z",
            "requestObject": {
                "spec": {
                    "securityContext": {"runAsUser": 7},
                    "containers": [
                        {"name": "a", "image": "r.io/a:1", "command": ["sh", "-c"], "ports": [{"containerPort": 80}],
                         "securityContext": {"privileged": true, "runAsUser": 0, "capabilities": {"add": ["SYS_ADMIN"]}}},
                        {"name": "b", "image": "b@sha256:1", "ports": [{"hostPort": 1, "containerPort": 2}]}],
                    "volumes": [{"name": "v", "hostPath": {"path": "/proc/1"}}, {"name": "w", "emptyDir": {}}]},
                "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]},
        });
        for (name, argument, expected) in [
            ("ka.uri.param", Some("command"), "sh"),
            ("ka.sourceips", None, "1.1.1.1 2.2.2.2"),
            ("ka.sourceips", Some("1"), "2.2.2.2"),
            ("ka.target.pod.name", None, "web"),
            ("ka.req.pod.containers.image", None, "r.io/a:1 b@sha256:1"),
            ("ka.req.pod.containers.image.repository", Some("1"), "b"),
            ("ka.req.pod.containers.command", None, "sh -c"),
            ("ka.req.pod.containers.command", Some("1"), ""),
            ("ka.req.pod.containers.host_port", None, "80 1"),
            ("ka.req.pod.containers.eff_run_as_user", None, "0 7"),
            ("ka.req.pod.containers.eff_run_as_group", None, "0 0"),
            ("ka.req.pod.containers.add_capabilities", None, "SYS_ADMIN"),
            ("ka.req.pod.initContainers.privileged", None, ""),
            ("ka.req.container.image.repository", None, "r.io/a"),
            ("ka.req.container.privileged", None, "true"),
            ("ka.req.pod.volumes.hostpath", None, "/proc/1"),
            ("ka.req.volume.hostpath", Some("/proc*"), "true"),
            ("ka.req.volume.hostpath", Some("/etc"), "false"),
            ("ka.req.pod.volumes.volume_type", None, "hostPath emptyDir"),
            ("ka.req.binding.subjects.user_names", None, "u"),
            ("ka.req.binding.subjects.serviceaccount_ns_names", None, "n:s"),
            (
                "ka.req.binding.subjects",
                None,
                r#"{"kind":"User","name":"u"} {"kind":"ServiceAccount","name":"s","namespace":"n"}"#,
            ),
            ("jevt.value", Some("/stage"), "ResponseComplete"),
            ("jevt.value", Some("/requestObject/spec/volumes/1/name"), "w"),
            ("jevt.rawtime", None, "1795234556715875000"),
        ] {
            let known = field(name, argument).expect(name);
            let values = known.field.resolve(&event);
            let texts: Vec<String> = values
                .iter()
                .map(|got| match got {
                    Got::Scalar(value) => text_of(value).unwrap_or_default(),
                    Got::Container => "container".to_owned(),
                })
                .collect();
            assert_eq!(texts.join(" "), expected, "{name}[{argument:?}]");
        }
    }
}
