//! What people who run a cluster do all day: the built-in detections may note it, but call nobody.

use serde_json::{Value, json};

use super::support::{quiet_event, scan, text_at};

/// Requests of one person with kubectl, a second apart.
#[derive(Default)]
struct Day {
    events: Vec<String>,
}

impl Day {
    /// A request for an object: `resource` is the plural with the group after a dot, and the subresource after a slash.
    fn request(&mut self, verb: &str, resource: &str, namespace: Option<&str>, name: Option<&str>, over: Value) {
        let second = self.events.len();
        let time = format!("2026-11-21T{:02}:{:02}:{:02}.000000Z", 8 + second / 3_600, second / 60 % 60, second % 60);
        let id = format!("6f1c3c1e-4a55-4b43-9d3c-{second:012}");
        let mut event: Value = serde_json::from_str(&quiet_event(&id, &time)).expect("JSON");
        let (kind, subresource) = resource.split_once('/').map_or((resource, None), |(kind, sub)| (kind, Some(sub)));
        let (kind, group) = kind.split_once('.').map_or((kind, None), |(kind, group)| (kind, Some(group)));
        let known = [("resource", Some(kind)), ("apiGroup", group), ("namespace", namespace), ("name", name)];
        let known = known.into_iter().chain([("subresource", subresource)]);
        let object = known.filter_map(|(key, value)| Some((key.to_owned(), Value::from(value?)))).collect();
        event["objectRef"] = Value::Object(object);
        event["user"] = json!({"username": "alice", "groups": ["platform-admins", "system:authenticated"]});
        event["userAgent"] = "kubectl/v1.36.2 (linux/amd64) kubernetes/98b3519".into();
        event["level"] = "RequestResponse".into();
        event["verb"] = verb.into();
        let path: Vec<&str> = [namespace, Some(kind), name, subresource].into_iter().flatten().collect();
        event["requestURI"] = format!("/apis/x/v1/{}", path.join("/")).into();
        event["responseStatus"]["code"] = if verb == "create" { 201 } else { 200 }.into();
        let Value::Object(over) = over else { panic!("an object") };
        for (key, value) in over {
            event[key] = value;
        }
        self.events.push(event.to_string());
    }

    /// `kubectl drain`, node after node.
    fn drain(&mut self, nodes: usize) {
        for node in 0..nodes {
            let node = format!("worker-{node}");
            self.request("get", "nodes", None, Some(&node), json!({}));
            let body = json!({"spec": {"unschedulable": true}});
            self.request("patch", "nodes", None, Some(&node), json!({"requestObject": body}));
            self.request("list", "pods", None, None, json!({}));
            for pod in 0..9 {
                let pod = format!("web-{node}-{pod}");
                self.request("create", "pods/eviction", Some("shop"), Some(&pod), json!({}));
                self.request("get", "pods", Some("shop"), Some(&pod), json!({"responseStatus": {"code": 404}}));
            }
            let body = json!({"spec": {"unschedulable": null}});
            self.request("patch", "nodes", None, Some(&node), json!({"requestObject": body}));
        }
    }

    /// `kubectl rollout restart`, `undo` and `scale`, and the looks at how they go on.
    fn roll_out(&mut self) {
        let annotation = json!({"kubectl.kubernetes.io/restartedAt": "2026-11-21T08:00:00Z"});
        let restart = json!({"spec": {"template": {"metadata": {"annotations": annotation}}}});
        let back = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "registry.k8s.io/web:1.2"}]}}}});
        for name in ["web", "api", "queue", "search", "mail", "cart"] {
            self.request("patch", "deployments.apps", Some("shop"), Some(name), json!({"requestObject": restart}));
            self.request("list", "replicasets.apps", Some("shop"), None, json!({}));
            self.request("watch", "deployments.apps", Some("shop"), Some(name), json!({"stage": "ResponseStarted"}));
            self.request("patch", "deployments.apps", Some("shop"), Some(name), json!({"requestObject": back}));
            let scale = json!({"requestObject": {"spec": {"replicas": 7}}});
            self.request("patch", "deployments.apps/scale", Some("shop"), Some(name), scale);
        }
        let off = json!({"requestObject": {"spec": {"replicas": 0}}});
        self.request("patch", "statefulsets.apps/scale", Some("shop"), Some("old"), off);
    }

    /// `kubectl logs`, `describe`, `get all -A` and `top`.
    fn look(&mut self) {
        for n in 0..15 {
            let pod = format!("web-{n}");
            self.request("get", "pods", Some("shop"), Some(&pod), json!({}));
            self.request("get", "pods/log", Some("shop"), Some(&pod), json!({}));
            self.request("list", "events", Some("shop"), None, json!({}));
        }
        for resource in ["pods", "services", "deployments.apps", "daemonsets.apps", "statefulsets.apps", "jobs.batch"] {
            self.request("list", resource, None, None, json!({}));
        }
        for (resource, name) in [("nodes", "worker-1"), ("persistentvolumes", "pv-1"), ("namespaces", "shop")] {
            self.request("get", resource, None, Some(name), json!({}));
        }
        for (resource, name) in [("secrets", "db"), ("configmaps", "web"), ("serviceaccounts", "web")] {
            self.request("get", resource, Some("shop"), Some(name), json!({}));
        }
        self.request("list", "nodes.metrics.k8s.io", None, None, json!({}));
    }

    /// `kubectl apply` of an application: reads, and then writes what is new or has changed.
    fn apply(&mut self, namespace: &str) {
        let safe = json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}});
        let pod = json!({"containers": [{"name": "web", "image": "registry.k8s.io/web:1.3", "command": ["/web"], "securityContext": safe}]});
        let ingress = json!({"rules": [{"host": "shop.example.com"}], "tls": [{"hosts": ["shop.example.com"]}]});
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "watch"]}]);
        let subjects = json!([{"kind": "ServiceAccount", "name": "web", "namespace": namespace}]);
        let binding = json!({"roleRef": {"kind": "Role", "name": "web"}, "subjects": subjects});
        let objects = [
            ("configmaps", "web", json!({"data": {"colour": "blue"}})),
            ("secrets", "web-tls", json!({})),
            ("secrets", "db", json!({})),
            ("secrets", "mail", json!({})),
            ("secrets", "queue", json!({})),
            ("serviceaccounts", "web", json!({})),
            ("roles.rbac.authorization.k8s.io", "web", json!({"rules": rules})),
            ("rolebindings.rbac.authorization.k8s.io", "web", binding),
            ("services", "web", json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}})),
            ("deployments.apps", "web", json!({"spec": {"replicas": 3, "template": {"spec": pod}}})),
            ("cronjobs.batch", "report", json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": pod}}}}})),
            ("ingresses.networking.k8s.io", "web", json!({"spec": ingress})),
            (
                "networkpolicies.networking.k8s.io",
                "web",
                json!({"spec": {"podSelector": {"matchLabels": {"app": "web"}}}}),
            ),
            ("poddisruptionbudgets.policy", "web", json!({"spec": {"minAvailable": 1}})),
        ];
        for (resource, name, body) in &objects {
            let missing = json!({"responseStatus": {"code": 404}});
            self.request("get", resource, Some(namespace), Some(name), missing);
            self.request("create", resource, Some(namespace), Some(name), json!({"requestObject": body}));
        }
        for (resource, name, body) in &objects {
            self.request("get", resource, Some(namespace), Some(name), json!({}));
            self.request("patch", resource, Some(namespace), Some(name), json!({"requestObject": body}));
        }
    }
}

#[test]
fn what_operators_do_all_day_is_at_most_low() {
    let mut day = Day::default();
    day.drain(6);
    day.roll_out();
    day.look();
    day.apply("shop");
    let (alerts, stats) = scan(&[], day.events.join("\n").as_bytes());
    assert_eq!((&stats["events"], &stats["rejected"]), (&day.events.len().into(), &0.into()));
    let loud: Vec<&str> = alerts
        .iter()
        .filter(|alert| !["informational", "low"].contains(&text_at(alert, "/rule/level")))
        .map(|alert| text_at(alert, "/rule/title"))
        .collect();
    assert!(loud.is_empty(), "{loud:#?}");
    // It is noted all the same.
    let told = |title: &str| alerts.iter().any(|alert| text_at(alert, "/rule/title") == title);
    for title in ["Many nodes closed for new pods by one user", "Several secrets read one after another by a user"] {
        assert!(told(title), "{title}");
    }
}

/// What is told of a request of alice, by level and title.
fn told(verb: &str, resource: &str, query: &str, over: Value) -> Vec<(String, String)> {
    let mut day = Day::default();
    let (kind, _) = resource.split_once('/').unwrap_or((resource, ""));
    day.request(verb, resource, Some("shop"), Some("x"), over);
    let mut event: Value = serde_json::from_str(&day.events[0]).expect("JSON");
    event["requestURI"] = format!("/apis/x/v1/namespaces/shop/{kind}?{query}").into();
    let (alerts, _) = scan(&[], format!("{event}\n").as_bytes());
    alerts
        .iter()
        .map(|alert| (text_at(alert, "/rule/level").to_owned(), text_at(alert, "/summary").to_owned()))
        .collect()
}

fn loud(told: &[(String, String)]) -> bool {
    told.iter().any(|(level, _)| ["medium", "high", "critical"].contains(&level.as_str()))
}

#[test]
fn what_was_only_tried_out_calls_nobody_and_is_told_apart() {
    let pod = json!({"spec": {"hostPID": true, "containers": [{"image": "xmrig/xmrig", "securityContext": {"privileged": true}}], "volumes": [{"name": "h", "hostPath": {"path": "/"}}]}});
    let everything = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let binding =
        json!({"roleRef": {"name": "cluster-admin"}, "subjects": [{"kind": "User", "name": "system:anonymous"}]});
    let hook =
        json!({"webhooks": [{"clientConfig": {"url": "https://evil.example.net"}, "rules": [{"resources": ["*"]}]}]});
    let patch = json!([{"op": "add", "path": "/spec/template/spec/hostPID", "value": true}]);
    for (verb, resource, body) in [
        ("create", "pods", &pod),
        ("create", "clusterroles.rbac.authorization.k8s.io", &everything),
        ("create", "clusterrolebindings.rbac.authorization.k8s.io", &binding),
        ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io", &hook),
        ("patch", "deployments.apps", &patch),
    ] {
        let over = json!({"requestObject": body});
        let real = told(verb, resource, "fieldManager=kubectl", over.clone());
        assert!(loud(&real), "{resource}: {real:?}");
        let trial = told(verb, resource, "fieldManager=kubectl&dryRun=All", over.clone());
        assert!(!loud(&trial), "{resource}: {trial:?}");
        assert!(
            trial.iter().all(|(_, summary)| summary.contains("tried out to ") && summary.contains("dry run")),
            "{trial:?}"
        );
        // What only looks like one: a value that says so, or another spelling.
        // Once is enough: every scan reads all detections.
        let queries = ["fieldManager=dryRun=All", "fieldManager=x?dryRun=All", "dryrun=All", "dryRun=All2"];
        for query in queries.into_iter().filter(|_| resource == "pods") {
            assert!(loud(&told(verb, resource, query, over.clone())), "{resource} {query}");
        }
    }
    // Of a deletion the body decides, whatever the query says; and nobody heeds the query of an exec.
    let real = json!({"requestObject": {"kind": "DeleteOptions"}});
    assert!(loud(&told("delete", "networkpolicies.networking.k8s.io", "dryRun=All", real)));
    let trial = json!({"requestObject": {"kind": "DeleteOptions", "dryRun": ["All"]}});
    for verb in ["delete", "deletecollection"] {
        let trial = told(verb, "networkpolicies.networking.k8s.io", "", trial.clone());
        assert!(!trial.is_empty() && !loud(&trial), "{trial:?}");
        assert!(trial.iter().all(|(_, summary)| summary.contains("tried out to delete")), "{trial:?}");
    }
    // Refused is told apart from both: as a trial too, and not as loud as in earnest.
    let message = "user is attempting to grant RBAC permissions not currently held";
    let refused = json!({"responseStatus": {"code": 403, "message": message}});
    let role = "clusterroles.rbac.authorization.k8s.io";
    assert!(loud(&told("create", role, "", refused.clone())));
    let trial = told("create", role, "dryRun=All", refused);
    assert!(!trial.is_empty() && !loud(&trial), "{trial:?}");
    assert!(trial.iter().all(|(_, summary)| summary.contains("tried to ") && summary.contains("dry run")), "{trial:?}");
    let shell = json!({"stage": "ResponseStarted", "responseStatus": {"code": 101}});
    assert!(loud(&told("create", "pods/exec", "dryRun=All&command=cat&command=%2Fetc%2Fshadow", shell)));
}
