//! What there is in a Kubernetes API: verbs, and resources with their subresources.

/// The verbs of requests about resources.
pub const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// Those that change nothing.
pub const READS: [&str; 3] = ["get", "list", "watch"];

/// What every Kubernetes serves: group, and resources with their subresources after slashes.
pub const GROUPS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "bindings",
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "namespaces/status/finalize",
            "nodes/status/proxy",
            "persistentvolumeclaims/status",
            "persistentvolumes/status",
            "pods/attach/binding/ephemeralcontainers/eviction/exec/log/portforward/proxy/resize/status",
            "podtemplates",
            "replicationcontrollers/scale/status",
            "resourcequotas/status",
            "secrets",
            "serviceaccounts/token",
            "services/proxy/status",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies/status",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ],
    ),
    ("apiextensions.k8s.io", &["customresourcedefinitions/status"]),
    ("apiregistration.k8s.io", &["apiservices/status"]),
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets/status",
            "deployments/scale/status",
            "replicasets/scale/status",
            "statefulsets/scale/status",
        ],
    ),
    ("authentication.k8s.io", &["selfsubjectreviews", "tokenreviews"]),
    (
        "authorization.k8s.io",
        &["localsubjectaccessreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews"],
    ),
    ("autoscaling", &["horizontalpodautoscalers/status"]),
    ("batch", &["cronjobs/status", "jobs/status"]),
    (
        "certificates.k8s.io",
        &["certificatesigningrequests/approval/status", "clustertrustbundles", "podcertificaterequests/status"],
    ),
    ("coordination.k8s.io", &["leases"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("events.k8s.io", &["events"]),
    ("flowcontrol.apiserver.k8s.io", &["flowschemas/status", "prioritylevelconfigurations/status"]),
    (
        "networking.k8s.io",
        &["ingressclasses", "ingresses/status", "ipaddresses", "networkpolicies", "servicecidrs/status"],
    ),
    ("node.k8s.io", &["runtimeclasses"]),
    ("policy", &["poddisruptionbudgets/status"]),
    ("rbac.authorization.k8s.io", &["clusterrolebindings", "clusterroles", "rolebindings", "roles"]),
    ("resource.k8s.io", &["deviceclasses", "resourceclaims/status", "resourceclaimtemplates", "resourceslices"]),
    ("scheduling.k8s.io", &["priorityclasses"]),
    (
        "storage.k8s.io",
        &[
            "csidrivers",
            "csinodes",
            "csistoragecapacities",
            "storageclasses",
            "volumeattachments/status",
            "volumeattributesclasses",
        ],
    ),
];

/// What many clusters serve beside, by the groups in which it is: rules name it without its group.
const ELSEWHERE: &[(&str, &[&str])] = &[
    ("cilium.io", &["ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies"]),
    ("config.openshift.io", &["apiservers"]),
    ("crd.projectcalico.org", &["globalnetworkpolicies"]),
    ("gateway.networking.k8s.io", &["gateways", "httproutes", "grpcroutes", "tcproutes", "tlsroutes"]),
    ("networking.istio.io", &["virtualservices", "gateways"]),
    ("policy.networking.k8s.io", &["adminnetworkpolicies", "baselineadminnetworkpolicies"]),
    ("projectcalico.org", &["globalnetworkpolicies"]),
    ("route.openshift.io", &["routes"]),
    ("snapshot.storage.k8s.io", &["volumesnapshots", "volumesnapshotcontents"]),
    ("traefik.io", &["ingressroutes"]),
    ("velero.io", &["backups", "backupstoragelocations"]),
];

/// Resources with the fields of a pod, or with a template of one.
const WORKLOADS: [&str; 9] = [
    "pods",
    "podtemplates",
    "replicationcontrollers",
    "daemonsets",
    "deployments",
    "replicasets",
    "statefulsets",
    "cronjobs",
    "jobs",
];

/// Fields of a pod's `spec` that tell what it may do, and where templates of pods are.
const POD_FIELDS: [&str; 15] = [
    "template",
    "jobTemplate",
    "containers",
    "initContainers",
    "ephemeralContainers",
    "volumes",
    "securityContext",
    "serviceAccount",
    "serviceAccountName",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "hostUsers",
    "nodeName",
    "priorityClassName",
];

/// Resources that have no `spec`.
const WITHOUT_SPEC: [&str; 20] = [
    "clusterrolebindings",
    "clusterroles",
    "configmaps",
    "controllerrevisions",
    "csistoragecapacities",
    "endpoints",
    "endpointslices",
    "events",
    "mutatingwebhookconfigurations",
    "podtemplates",
    "priorityclasses",
    "rolebindings",
    "roles",
    "runtimeclasses",
    "secrets",
    "serviceaccounts",
    "storageclasses",
    "validatingwebhookconfigurations",
    "volumeattributesclasses",
    "bindings",
];

/// What kinds of resources are about, for people: by group, or by resource of the core group.
const TOPICS: [(&str, &[&str]); 5] = [
    ("Credentials.", &["secrets", "configmaps", "serviceaccounts/token", "tokenreviews"]),
    (
        "Pods and what makes them.",
        &["pods", "podtemplates", "replicationcontrollers", "apps", "batch", "autoscaling", "bindings"],
    ),
    (
        "Identities and their rights.",
        &[
            "serviceaccounts",
            "rbac.authorization.k8s.io",
            "certificates.k8s.io",
            "authentication.k8s.io",
            "authorization.k8s.io",
        ],
    ),
    (
        "The network, and what is reached from outside.",
        &[
            "services",
            "endpoints",
            "discovery.k8s.io",
            "networking.k8s.io",
            "gateway.networking.k8s.io",
            "networking.istio.io",
            "policy.networking.k8s.io",
            "route.openshift.io",
            "traefik.io",
            "cilium.io",
            "crd.projectcalico.org",
            "projectcalico.org",
        ],
    ),
    (
        "What stands between a request and the cluster.",
        &[
            "namespaces",
            "admissionregistration.k8s.io",
            "apiextensions.k8s.io",
            "apiregistration.k8s.io",
            "config.openshift.io",
        ],
    ),
];

/// Resources that one asks and does not keep.
const REVIEWS: [&str; 7] = [
    "bindings",
    "localsubjectaccessreviews",
    "selfsubjectaccessreviews",
    "selfsubjectreviews",
    "selfsubjectrulesreviews",
    "subjectaccessreviews",
    "tokenreviews",
];

/// Resources that are in no namespace.
const OF_THE_CLUSTER: [&str; 32] = [
    "apiservices",
    "certificatesigningrequests",
    "clusterrolebindings",
    "clusterroles",
    "clustertrustbundles",
    "csidrivers",
    "csinodes",
    "customresourcedefinitions",
    "deviceclasses",
    "flowschemas",
    "ingressclasses",
    "ipaddresses",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "namespaces",
    "nodes",
    "persistentvolumes",
    "priorityclasses",
    "prioritylevelconfigurations",
    "resourceslices",
    "runtimeclasses",
    "selfsubjectaccessreviews",
    "selfsubjectreviews",
    "selfsubjectrulesreviews",
    "servicecidrs",
    "storageclasses",
    "subjectaccessreviews",
    "tokenreviews",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];

/// Subresources through which one talks to a container, a service or a kubelet: long-running, and without bodies that an
/// audit event holds.
pub const CONNECTS: [&str; 4] = ["exec", "attach", "portforward", "proxy"];

/// A kind of resource; what is `None` is any that has no kind of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// API group; empty for the core.
    pub group: Option<String>,
    /// The resource.
    pub resource: Option<String>,
    /// The subresource; empty for the resource itself.
    pub subresource: String,
}

impl Kind {
    /// A kind by its names; the resource may have a subresource behind a slash.
    #[must_use]
    pub fn new(group: &str, resource: &str) -> Self {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Self { group: Some(group.to_owned()), resource: Some(resource.to_owned()), subresource: subresource.to_owned() }
    }

    /// Whatever else is in a group; in any other group if that is `None`.
    #[must_use]
    pub fn others(group: Option<&str>) -> Self {
        Self { group: group.map(str::to_owned), resource: None, subresource: String::new() }
    }

    /// The resource with its subresource, as policies and people write it.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.resource, &*self.subresource) {
            (None, _) => "*".to_owned(),
            (Some(resource), "") => resource.clone(),
            (Some(resource), subresource) => format!("{resource}/{subresource}"),
        }
    }

    /// Whether its objects are in namespaces.
    #[must_use]
    pub fn is_namespaced(&self) -> bool {
        self.resource.as_deref().is_none_or(|resource| !OF_THE_CLUSTER.contains(&resource))
    }

    /// What it is about, as a sentence for people; the place of that in the order of such sentences.
    #[must_use]
    pub fn topic(&self) -> (usize, &'static str) {
        let resource = self.resource.as_deref().unwrap_or_default();
        let group = self.group.as_deref().unwrap_or_default();
        let found = TOPICS.iter().enumerate().find(|(_, (_, names))| {
            names.contains(&&*self.name()) || names.contains(&if group.is_empty() { resource } else { group })
        });
        found.map_or((TOPICS.len(), "Other parts of the cluster."), |(at, (topic, _))| (at, topic))
    }

    /// Whether there are requests of this verb.
    #[must_use]
    pub fn takes(&self, verb: &str) -> bool {
        let resource = self.resource.as_deref().unwrap_or_default();
        match &*self.subresource {
            "" if REVIEWS.contains(&resource) => verb == "create",
            "" => true,
            // A service or a kubelet is asked whatever it takes.
            "proxy" => true,
            "exec" | "attach" | "portforward" => matches!(verb, "get" | "create"),
            "log" => verb == "get",
            "binding" | "eviction" | "token" => verb == "create",
            _ => matches!(verb, "get" | "update" | "patch"),
        }
    }

    /// What its bodies lack, of what others have. `meant` says whether somebody who looks into them names this very kind:
    /// otherwise the fields of pods are looked for in what Kubernetes has for them, and a status is not taken for a whole.
    #[must_use]
    pub fn lacks(&self, meant: bool) -> Vec<String> {
        let texts = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let pod_fields = || POD_FIELDS.iter().map(|field| format!("spec.{field}"));
        let resource = self.resource.as_deref().unwrap_or_default();
        match &*self.subresource {
            "status" | "resize" if !meant => return texts(&["spec", "metadata", "op", "path", "value"]),
            "status" | "binding" | "eviction" => return texts(&["spec", "metadata"]),
            "scale" => return pod_fields().chain(["metadata".to_owned()]).collect(),
            "finalize" => return pod_fields().chain(texts(&["metadata", "op", "path", "value"])).collect(),
            "" if WITHOUT_SPEC.contains(&resource) => return texts(&["spec"]),
            _ => {}
        }
        if WORKLOADS.contains(&resource) || (meant && !is_served(resource)) {
            Vec::new()
        } else {
            pod_fields().collect()
        }
    }

    /// Whether a request of this verb goes on after its answer began.
    #[must_use]
    pub fn is_long_running(&self, verb: &str) -> bool {
        verb == "watch" || CONNECTS.contains(&&*self.subresource)
    }
}

/// All that every Kubernetes serves.
pub fn kinds() -> impl Iterator<Item = Kind> {
    GROUPS.iter().flat_map(|(group, resources)| {
        resources.iter().flat_map(move |names| {
            let mut names = names.split('/');
            let resource = names.next().unwrap_or_default();
            std::iter::once(Kind::new(group, resource)).chain(
                names
                    .map(move |subresource| Kind { subresource: subresource.to_owned(), ..Kind::new(group, resource) }),
            )
        })
    })
}

/// The groups in which many clusters have a resource that not all have.
pub fn elsewhere(resource: &str) -> impl Iterator<Item = &'static str> {
    ELSEWHERE.iter().filter(move |(_, resources)| resources.contains(&resource)).map(|(group, _)| *group)
}

/// Whether every Kubernetes serves a resource of this name.
fn is_served(resource: &str) -> bool {
    let mut names = GROUPS.iter().flat_map(|(_, resources)| *resources);
    names.any(|names| names.split('/').next() == Some(resource))
}

/// The group of a resource that every Kubernetes serves; `None` where there are several, or no such resource.
#[must_use]
pub fn group_of(resource: &str) -> Option<&'static str> {
    let has = |names: &&str| names.split('/').next() == Some(resource);
    let mut groups = GROUPS.iter().filter(|(_, resources)| resources.iter().any(has)).map(|(group, _)| *group);
    groups.next().filter(|_| groups.next().is_none())
}

/// Whether it is known in which groups a resource of this name is.
#[must_use]
pub fn is_known(resource: &str) -> bool {
    is_served(resource) || elsewhere(resource).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_policies_name_them() {
        let names: Vec<String> = kinds().map(|kind| kind.name()).collect();
        for name in ["pods", "pods/exec", "serviceaccounts/token", "deployments/scale"] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
        assert!(is_known("pods") && !is_known("exec") && !is_known("widgets"));
        assert!(OF_THE_CLUSTER.iter().all(|name| is_known(name)), "a slip in the list");
        assert!(Kind::new("", "pods").is_namespaced() && !Kind::new("", "nodes/status").is_namespaced());
        assert!(Kind::new("", "pods/exec").is_long_running("get") && !Kind::new("", "pods").is_long_running("get"));
        assert_eq!(Kind::others(Some("kyverno.io")).name(), "*");
    }
}
