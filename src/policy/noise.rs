//! Requests that clusters make all the time and that tell little: what a policy may leave out where no rule asks for it.

use super::known::Who;

/// Who makes the noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Anybody.
    Anybody,
    /// Whoever has a credential.
    Authenticated,
    /// These users.
    Users(&'static [&'static str]),
    /// Kubelets.
    Nodes,
    /// The control plane's service accounts: those of controllers, and of whatever runs in kube-system.
    KubeSystem,
    /// All service accounts.
    ServiceAccounts,
}

/// What they do.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// Requests of these verbs about resources, by group; the group `*` is for the subresources of all.
    Resources(&'static [&'static str], &'static [(&'static str, &'static [&'static str])]),
    /// Requests of these verbs about all that every Kubernetes serves.
    All(&'static [&'static str]),
    /// Requests with these paths.
    Paths(&'static [&'static str]),
}

/// Noise of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    /// What it is, for the reader of a policy.
    pub(super) title: &'static str,
    pub(super) by: By,
    pub(super) what: What,
}

/// Users that are no service accounts.
const CONTROL_PLANE: By = By::Users(&["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]);

/// Those whose bodies may be left out where only the deeds of others are asked for, from few to many rules about them.
pub(super) const TRUSTED: [(By, &str); 3] = [
    (By::KubeSystem, "From here on, no rule reads bodies that the controllers of kube-system send."),
    (CONTROL_PLANE, "From here on, no rule reads bodies that the control plane sends."),
    (By::Nodes, "From here on, no rule reads bodies that nodes send."),
];

const READ: &[&str] = &["get", "list", "watch"];
const CHANGE: &[&str] = &["update", "patch"];
const LEASES: &[(&str, &[&str])] = &[("coordination.k8s.io", &["leases"])];
const ENDPOINTS: &[(&str, &[&str])] = &[("", &["endpoints"]), ("discovery.k8s.io", &["endpointslices"])];
const REVIEWS: &[(&str, &[&str])] =
    &[("authentication.k8s.io", &["tokenreviews"]), ("authorization.k8s.io", &["subjectaccessreviews"])];

/// In the order in which a policy lists them.
pub(super) const NOISE: &[Noise] = &[
    Noise {
        title: "Events are written all the time.",
        by: By::Anybody,
        what: What::Resources(
            &["get", "list", "watch", "create", "update", "patch"],
            &[("", &["events"]), ("events.k8s.io", &["events"])],
        ),
    },
    Noise {
        title: "Leader election and heartbeats.",
        by: By::Anybody,
        what: What::Resources(&["get", "list", "watch", "create", "update", "patch"], LEASES),
    },
    Noise { title: "Leader election and heartbeats.", by: CONTROL_PLANE, what: What::Resources(CHANGE, LEASES) },
    Noise { title: "Leader election and heartbeats.", by: By::Nodes, what: What::Resources(CHANGE, LEASES) },
    Noise { title: "Leader election and heartbeats.", by: By::ServiceAccounts, what: What::Resources(CHANGE, LEASES) },
    Noise { title: "Endpoints follow pods.", by: By::Anybody, what: What::Resources(READ, ENDPOINTS) },
    Noise {
        title: "Endpoints follow pods.",
        by: CONTROL_PLANE,
        what: What::Resources(&["create", "update", "patch", "delete"], ENDPOINTS),
    },
    Noise {
        title: "Endpoints follow pods.",
        by: By::KubeSystem,
        what: What::Resources(&["create", "update", "patch", "delete"], ENDPOINTS),
    },
    Noise {
        title: "Nodes report what they run.",
        by: By::Nodes,
        what: What::Resources(CHANGE, &[("", &["nodes/status", "pods/status"])]),
    },
    Noise {
        title: "Nodes look up what they run.",
        by: By::Nodes,
        what: What::Resources(
            READ,
            &[
                ("", &["nodes", "pods", "services", "persistentvolumeclaims", "persistentvolumes"]),
                ("node.k8s.io", &["runtimeclasses"]),
                ("storage.k8s.io", &["csidrivers", "csinodes", "volumeattachments"]),
            ],
        ),
    },
    Noise {
        title: "Controllers report what they did.",
        by: CONTROL_PLANE,
        what: What::Resources(CHANGE, &[("*", &["status"])]),
    },
    Noise {
        title: "Controllers report what they did.",
        by: By::KubeSystem,
        what: What::Resources(CHANGE, &[("*", &["status"])]),
    },
    Noise {
        title: "Components ask who callers are, and what they may do.",
        by: By::Nodes,
        what: What::Resources(&["create"], REVIEWS),
    },
    Noise {
        title: "Components ask who callers are, and what they may do.",
        by: By::KubeSystem,
        what: What::Resources(&["create"], REVIEWS),
    },
    Noise {
        title: "Components ask who callers are, and what they may do.",
        by: CONTROL_PLANE,
        what: What::Resources(&["create"], REVIEWS),
    },
    Noise { title: "The control plane looks at everything.", by: CONTROL_PLANE, what: What::All(READ) },
    Noise {
        title: "Controllers, and what else runs in kube-system, look at everything.",
        by: By::KubeSystem,
        what: What::All(READ),
    },
    Noise {
        title: "Health probes of load balancers come every second.",
        by: By::Anybody,
        what: What::Paths(&["/healthz*", "/livez*", "/readyz*"]),
    },
    Noise {
        title: "Discovery by those who have a credential.",
        by: By::Authenticated,
        what: What::Paths(&["/api", "/api/*", "/apis", "/apis/*", "/openapi/*", "/version", "/version/"]),
    },
];

impl By {
    /// The callers, as far as rules tell them apart.
    pub(super) fn whos(self) -> Vec<Who> {
        match self {
            // A rule without users drops what comes without a credential too.
            Self::Anybody => vec![Who::Anybody, Who::Nobody],
            Self::Authenticated => vec![Who::Anybody],
            Self::Users(names) => names.iter().map(|name| Who::User((*name).to_owned())).collect(),
            Self::Nodes => vec![Who::Named { prefix: "system:node:", group: "system:nodes" }],
            Self::KubeSystem => vec![Who::Named {
                prefix: "system:serviceaccount:kube-system:",
                group: "system:serviceaccounts:kube-system",
            }],
            Self::ServiceAccounts => {
                vec![Who::Named { prefix: "system:serviceaccount:", group: "system:serviceaccounts" }]
            }
        }
    }

    /// The users and the groups by which a policy tells them.
    pub(super) fn users_and_groups(self) -> (Vec<String>, Vec<String>) {
        let groups = match self {
            Self::Anybody => &[][..],
            Self::Authenticated => &["system:authenticated"],
            Self::Users(names) => return (names.iter().map(|name| (*name).to_owned()).collect(), Vec::new()),
            Self::Nodes => &["system:nodes"],
            Self::KubeSystem => &["system:serviceaccounts:kube-system"],
            Self::ServiceAccounts => &["system:serviceaccounts"],
        };
        (Vec::new(), groups.iter().map(|group| (*group).to_owned()).collect())
    }
}
