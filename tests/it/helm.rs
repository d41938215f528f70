//! The chart as Helm renders it: the same as the plain manifest, restricted, consistent, and nothing to alert on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kubesiren::config::{self, Depth};
use serde_json::{Map, Value, json};

use super::deploy::{documents, of_kind, parsed, read, restricted, root};
use super::support::{installed, kubesiren, scan};

/// What must be said, and nothing else.
const LEAST: &str = include_str!("../../deploy/helm/kubesiren/ci/least-values.yaml");

const CERT_MANAGER: &str = "cluster: a\ntls: {certManager: {enabled: true, issuerRef: {name: ca}}}\n";

/// Everything that can be switched on, but for what excludes something else.
const MOST: &str = include_str!("../../deploy/helm/kubesiren/ci/most-values.yaml");

fn helm(command: &[&str], chart: &Path, values: &str) -> Output {
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("values.yaml");
    std::fs::write(&file, values).expect("written");
    let mut helm = Command::new("helm");
    helm.args(command).arg(chart).args(["--namespace", "kubesiren", "--kube-version", "1.30.0", "--values"]).arg(&file);
    helm.output().expect("helm can be started")
}

fn chart() -> PathBuf {
    root().join("deploy/helm/kubesiren")
}

fn template(chart: &Path, values: &str) -> Vec<Value> {
    let output = helm(&["template", "kubesiren"], chart, values);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    parsed("rendered.yaml", text).into_iter().filter(|document| !document.is_null()).collect()
}

fn rendered(values: &str) -> Vec<Value> {
    template(&chart(), values)
}

/// That the chart takes values, as far as they go: what must be said beside them is added.
pub(crate) fn values_are_taken(values: &str) {
    if installed("helm") {
        let more = if values.contains("cluster:") { String::new() } else { LEAST.to_owned() };
        let all = rendered(&format!("{more}{values}"));
        configuration(&all);
        restricted(&pod(&all));
    }
}

fn named<'d>(documents: &'d [Value], kind: &str, name: &str) -> &'d Value {
    let is = |document: &&Value| document["kind"] == kind && document["metadata"]["name"] == name;
    documents.iter().find(is).unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn pod(documents: &[Value]) -> Value {
    of_kind(documents, "StatefulSet")["spec"]["template"]["spec"].clone()
}

fn configuration(documents: &[Value]) -> Value {
    let map = named(documents, "ConfigMap", "kubesiren");
    let text = map["data"]["config.yaml"].as_str().expect("text");
    let parsed_config = config::parse(Path::new("config.yaml"), text, &[], Depth::Text);
    parsed_config.unwrap_or_else(|findings| panic!("{findings:#?}\n{text}"));
    parsed("config.yaml", text.to_owned()).remove(0)
}

/// What a release alone knows of is taken away.
fn without_release(value: &Value) -> Value {
    let of_release = |key: &str| {
        key.starts_with("checksum/")
            || ["helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by"].contains(&key)
    };
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(key, _)| !of_release(key));
            let kept = kept.map(|(key, value)| (key.clone(), without_release(value)));
            Value::Object(kept.filter(|(key, value)| key != "annotations" || *value != json!({})).collect())
        }
        Value::Array(items) => items.iter().map(without_release).collect(),
        Value::String(text) if text.starts_with("cluster: ") || text.starts_with("admin:") => {
            parsed("config.yaml", text.clone()).remove(0)
        }
        other => other.clone(),
    }
}

fn comparable(documents: &[Value]) -> Vec<Value> {
    let kept = documents.iter().filter(|document| document["kind"] != "Namespace");
    let mut all: Vec<Value> = kept.map(without_release).collect();
    all.sort_by_key(|document| format!("{} {}", document["kind"], document["metadata"]["name"]));
    all
}

#[test]
fn the_chart_is_of_this_version() {
    let chart = &documents("deploy/helm/kubesiren/Chart.yaml")[0];
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn helm_finds_no_fault() {
    if !installed("helm") {
        return;
    }
    for values in [LEAST, MOST] {
        let output = helm(&["lint", "--strict"], &chart(), values);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_plain_manifest_is_what_the_chart_renders() {
    if !installed("helm") {
        return;
    }
    let values = format!("{LEAST}config: {{detections: {{builtin: true, paths: []}}}}\n");
    let (chart, plain) = (comparable(&rendered(&values)), comparable(&documents("deploy/kubernetes.yaml")));
    let names = |documents: &[Value]| {
        documents.iter().map(|one| format!("{} {}", one["kind"], one["metadata"]["name"])).collect::<Vec<_>>()
    };
    assert_eq!(names(&chart), names(&plain));
    for (chart, plain) in chart.iter().zip(&plain) {
        assert_eq!(chart, plain);
    }
}

#[test]
fn whatever_is_switched_on_the_pod_is_restricted_and_consistent() {
    if !installed("helm") {
        return;
    }
    let openshift = format!("{LEAST}podSecurityContext: {{runAsUser: null, runAsGroup: null, fsGroup: null}}\n");
    let light = format!("{LEAST}persistence: {{enabled: false}}\nnetworkPolicy: {{enabled: false}}\n");
    let kafka =
        "cluster: a\nwebhook: {enabled: false}\nconfig: {sources: [{type: kafka, brokers: ['k:9092'], topics: [t]}]}\n";
    let claimed = format!("{LEAST}persistence: {{existingClaim: mine}}\nserviceAccount: {{create: false}}\n");
    for values in [LEAST, MOST, &openshift, &light, kafka, &claimed] {
        let all = rendered(values);
        let pod = pod(&all);
        restricted(&pod);
        mounts_are_volumes(&all, &pod);
        files_are_mounted(&configuration(&all), &pod);
        selectors_select(&all);
    }
    let numbers = pod(&rendered(&openshift))["securityContext"].clone();
    assert_eq!(numbers.as_object().expect("a context").len(), 3, "OpenShift chooses the numbers: {numbers}");
}

fn mounts_are_volumes(all: &[Value], pod: &Value) {
    let names = |list: &Value, key: &str| -> BTreeSet<String> {
        let items = list.as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item.pointer(key).and_then(Value::as_str).expect("a name").to_owned()).collect()
    };
    let claims = names(&of_kind(all, "StatefulSet")["spec"]["volumeClaimTemplates"], "/metadata/name");
    let volumes: BTreeSet<_> = names(&pod["volumes"], "/name").union(&claims).cloned().collect();
    let mounts = names(&pod["containers"][0]["volumeMounts"], "/name");
    assert_eq!(volumes, mounts);
}

/// Every path in the configuration lies below something that is mounted.
fn files_are_mounted(config: &Value, pod: &Value) {
    let mounts = pod["containers"][0]["volumeMounts"].as_array().expect("mounts");
    let mounted: Vec<&str> = mounts.iter().map(|mount| mount["mountPath"].as_str().expect("a path")).collect();
    let mut paths = Vec::new();
    texts(config, &mut |text| paths.extend(text.starts_with('/').then(|| text.to_owned())));
    assert!(!paths.is_empty());
    for path in paths {
        assert!(mounted.iter().any(|mount| Path::new(&path).starts_with(mount)), "{path} is not in {mounted:?}");
    }
}

fn texts(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => found(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(members) => members.values().for_each(|member| texts(member, found)),
        _ => {}
    }
}

fn selectors_select(all: &[Value]) {
    let labels = &of_kind(all, "StatefulSet")["spec"]["template"]["metadata"]["labels"];
    for document in all {
        let selector = match document["kind"].as_str().expect("a kind") {
            "Service" => &document["spec"]["selector"],
            "StatefulSet" | "PodDisruptionBudget" => &document["spec"]["selector"]["matchLabels"],
            "NetworkPolicy" => &document["spec"]["podSelector"]["matchLabels"],
            _ => continue,
        };
        let selector = selector.as_object().expect("a selector");
        assert!(!selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value), "{document}");
    }
}

/// By those who are named, and by nobody else.
#[test]
fn a_proxy_beside_the_daemon_is_reached() {
    if !installed("helm") {
        return;
    }
    let all = rendered(MOST);
    assert_eq!(pod(&all)["containers"][1]["name"], "oauth2-proxy");
    let ports = named(&all, "Service", "kubesiren-admin")["spec"]["ports"].clone();
    assert_eq!(ports[1], json!({"name": "people", "port": 4180, "targetPort": "people"}));
    let ingress = of_kind(&all, "NetworkPolicy")["spec"]["ingress"].clone();
    let rule = ingress.as_array().expect("rules").last().expect("one");
    assert_eq!(rule["ports"], json!([{"port": "people"}]));
    assert_eq!(rule["from"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_is_switched_on_is_there() {
    if !installed("helm") {
        return;
    }
    let all = rendered(MOST);
    let config = configuration(&all);
    assert_eq!(config["sources"][0]["tls"]["client_ca"], "/client-ca/ca.crt");
    assert_eq!(config["sources"][0]["bearer_token_file"], "/token/token");
    assert_eq!(config["sources"][1]["type"], "kafka");
    assert_eq!(config["detections"]["paths"], json!(["/more", "/rules/own", "/rules/team-rules"]));
    assert_eq!(config["admin"]["hosts"], json!(["kubesiren.example.com"]));
    let server = named(&all, "Certificate", "kubesiren-tls");
    assert_eq!(server["spec"]["ipAddresses"], json!(["10.96.0.50"]));
    assert_eq!(of_kind(&all, "Certificate")["spec"]["usages"][1], "server auth", "the senders' authority is another");
    assert_eq!(named(&all, "Secret", "kubesiren-sinks")["stringData"].as_object().map(Map::len), Some(1));
    // The alerts ask for the job by the name that this label gives it.
    let monitor = of_kind(&all, "ServiceMonitor");
    assert_eq!(monitor["spec"]["jobLabel"], "app.kubernetes.io/name");
    let admin = named(&all, "Service", "kubesiren-admin");
    assert_eq!(admin["metadata"]["labels"]["app.kubernetes.io/name"], "kubesiren");
    for (key, value) in monitor["spec"]["selector"]["matchLabels"].as_object().expect("labels") {
        assert_eq!(admin["metadata"]["labels"][key], *value);
    }
    // One source: what the chart installs is what lies beside it.
    assert_eq!(of_kind(&all, "PrometheusRule")["spec"], documents("deploy/prometheus-rules.yaml")[0]);
    for name in ["delivery", "detection", "ingest", "overview"] {
        let map = named(&all, "ConfigMap", &format!("kubesiren-dashboard-{name}"));
        let text = map["data"][format!("kubesiren-{name}.json")].as_str().expect("a dashboard");
        assert_eq!(text.trim_end(), read(&format!("deploy/dashboards/{name}.json")).trim_end());
    }
}

/// With cert-manager and nothing else everybody gets a certificate of the one authority.
#[test]
fn cert_manager_makes_every_certificate() {
    if !installed("helm") {
        return;
    }
    let all = rendered(&format!("{CERT_MANAGER}canary: {{enabled: true}}\n"));
    let volumes = pod(&all)["volumes"].clone();
    for (name, usage, mounted) in
        [("tls", "server auth", true), ("canary", "client auth", true), ("apiserver", "client auth", false)]
    {
        let certificate = named(&all, "Certificate", &format!("kubesiren-{name}"));
        assert_eq!(certificate["spec"]["usages"], json!(["digital signature", usage]));
        assert_eq!(certificate["spec"]["issuerRef"]["name"], "ca");
        let secret = &certificate["spec"]["secretName"];
        let volumes = volumes.as_array().expect("volumes");
        assert_eq!(volumes.iter().any(|volume| volume["secret"]["secretName"] == *secret), mounted, "{name}");
    }
}

/// The checksum that starts the pod anew changes with what waits for a start, and with nothing that is reloaded.
#[test]
fn only_what_waits_for_a_start_starts_the_pod_anew() {
    if !installed("helm") {
        return;
    }
    let checksum = |more: &str| {
        let set = of_kind(&rendered(&format!("{LEAST}{more}")), "StatefulSet");
        set["spec"]["template"]["metadata"]["annotations"].clone()
    };
    let before = checksum("");
    assert_eq!(before, checksum("config: {sinks: [{name: other, type: stdout}], detections: {level: {a: low}}}\n"));
    assert_ne!(before, checksum("config: {log: {level: debug}}\n"));
    assert_ne!(before, checksum("secrets: {values: {slack: a}}\n"));
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    if !installed("helm") {
        return;
    }
    let both = "cluster: a\ntls: {existingSecret: b, certManager: {enabled: true, issuerRef: {name: ca}}}\n";
    for (values, reason) in [
        ("{}".to_owned(), "set `cluster`"),
        ("cluster: a\n".to_owned(), "the webhook needs a certificate"),
        ("cluster: a/b\n".to_owned(), "cluster"),
        (format!("{LEAST}webhook: {{clientCertificates: {{enabled: false}}}}\n"), "whoever can send events can forge"),
        ("cluster: a\nwebhook: {enabled: false}\n".to_owned(), "there is no source"),
        ("cluster: a\ntls: {certManager: {enabled: true}}\n".to_owned(), "issuerRef.name"),
        (both.to_owned(), "exclude each other"),
        (format!("{LEAST}canary: {{enabled: true}}\n"), "the canary needs a client certificate"),
        (
            format!(
                "{CERT_MANAGER}canary: {{enabled: true}}\nwebhook: {{clientCertificates: {{existingSecret: b}}}}\n"
            ),
            "the canary needs a client certificate",
        ),
        (format!("{LEAST}secrets: {{existingSecret: a, values: {{b: c}}}}\n"), "exclude each other"),
        (format!("{LEAST}replicas: 2\n"), "replicas"),
        (format!("{LEAST}config: {{state_dir: /tmp}}\n"), "state_dir"),
        (format!("{LEAST}config: {{admin: {{listen: '127.0.0.1:1'}}}}\n"), "admin"),
        (format!("{LEAST}image: {{digest: abc}}\n"), "digest"),
        (format!("{LEAST}extraPorts: [{{name: people, port: 4180}}]\n"), "from"),
    ] {
        let output = helm(&["template", "kubesiren"], &chart(), &values);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{values}{said}");
    }
}

/// What the values leave to the daemon's own words is all that it knows, but for what the chart sets.
#[test]
fn the_values_know_the_configuration() {
    let schema: Value = serde_json::from_str(&read("deploy/helm/kubesiren/values.schema.json")).expect("JSON");
    let output = kubesiren().args(["config", "schema"]).output().expect("the program can be started");
    let known: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let keys = |value: &Value| -> BTreeSet<String> {
        value["properties"].as_object().expect("properties").keys().cloned().collect()
    };
    let mut of_values = keys(&schema["properties"]["config"]);
    of_values.extend(["cluster", "state_dir", "canary"].map(str::to_owned));
    assert_eq!(of_values, keys(&known));
}

/// NOTES.txt is shown only by an installation; a chart around it renders it for us.
#[test]
fn the_notes_show_a_kubeconfig() {
    if !installed("helm") {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let copied = Command::new("cp").arg("-rL").arg(chart()).arg(home.path()).status().expect("cp can be started");
    assert!(copied.success());
    let copy = home.path().join("kubesiren");
    let notes = std::fs::read_to_string(copy.join("templates/NOTES.txt")).expect("notes");
    std::fs::write(copy.join("templates/_notes.tpl"), format!("{{{{define \"notes\"}}}}{notes}{{{{end}}}}"))
        .expect("written");
    let shown = "kind: Notes\nmetadata: {name: notes}\ntext: {{ include \"notes\" . | toJson }}\n";
    std::fs::write(copy.join("templates/show.yaml"), shown).expect("written");

    for (values, server, key) in [
        (LEAST, "https://kubesiren.kubesiren.svc:9765/k8s-audit/my-cluster", "client-key"),
        (MOST, "https://10.96.0.50:9765/k8s-audit/prod-eu", "tokenFile"),
    ] {
        let notes = of_kind(&template(&copy, values), "Notes");
        let text = notes["text"].as_str().expect("text");
        let from = text.find("     apiVersion: v1").expect("a kubeconfig");
        let to = text[from..].find("\n\n").expect("its end") + from;
        let kubeconfig = &parsed("notes.yaml", text[from..to].to_owned())[0];
        assert_eq!(kubeconfig["clusters"][0]["cluster"]["server"], server);
        assert!(kubeconfig["users"][0]["user"][key].is_string(), "{kubeconfig}");
        assert_eq!(text.contains("set webhook.service.clusterIP"), values == LEAST, "{text}");
    }
}

/// What kube-apiserver would log of an installation, with every body in it: by Helm, then by the controllers.
fn installation(documents: &[Value]) -> Vec<Value> {
    let mut events = Vec::new();
    let deployer = json!({"username": "deployer", "groups": ["platform", "system:authenticated"]});
    for document in documents {
        events.push(created(&deployer, "Helm/3.19.5", document, events.len()));
    }
    let set = of_kind(documents, "StatefulSet");
    let controller = json!({
        "username": "system:serviceaccount:kube-system:statefulset-controller",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"]
    });
    let agent = "kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/98b3519/system:serviceaccount:kube-system:statefulset-controller";
    let mut pod = set["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("kubesiren-0");
    pod["metadata"]["namespace"] = json!("kubesiren");
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "kubesiren", "uid": "a", "controller": true}]);
    pod["spec"]["containers"][0]["terminationMessagePath"] = json!("/dev/termination-log");
    for mut claim in set["spec"]["volumeClaimTemplates"].as_array().cloned().unwrap_or_default() {
        claim["apiVersion"] = json!("v1");
        claim["kind"] = json!("PersistentVolumeClaim");
        claim["metadata"] = json!({"name": "state-kubesiren-0", "namespace": "kubesiren"});
        pod["spec"]["volumes"]
            .as_array_mut()
            .expect("volumes")
            .push(json!({"name": "state", "persistentVolumeClaim": {"claimName": "state-kubesiren-0"}}));
        events.push(created(&controller, agent, &claim, events.len()));
    }
    events.push(created(&controller, agent, &pod, events.len()));
    events
}

fn created(user: &Value, agent: &str, object: &Value, n: usize) -> Value {
    let (group, version) = object["apiVersion"].as_str().and_then(|text| text.split_once('/')).unwrap_or(("", "v1"));
    let kind = object["kind"].as_str().expect("a kind").to_lowercase();
    let resource = if kind.ends_with("policy") { kind.replace("policy", "policies") } else { format!("{kind}s") };
    let prefix = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/{version}") };
    let (uri, namespace) = if kind == "namespace" {
        (format!("{prefix}/namespaces"), Value::Null)
    } else {
        (format!("{prefix}/namespaces/kubesiren/{resource}"), json!("kubesiren"))
    };
    let time = format!("2026-11-21T04:{:02}:00.000000Z", n % 60);
    let bodies = !["secrets", "configmaps"].contains(&resource.as_str());
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": if bodies { "Request" } else { "Metadata" },
        "auditID": format!("install-{n}"), "stage": "ResponseComplete", "requestURI": uri, "verb": "create", "user": user,
        "sourceIPs": ["10.0.0.7"], "userAgent": agent,
        "objectRef": {"resource": resource, "name": object["metadata"]["name"], "apiVersion": version},
        "responseStatus": {"metadata": {}, "code": 201}, "requestReceivedTimestamp": time, "stageTimestamp": time,
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""}
    });
    if !group.is_empty() {
        event["objectRef"]["apiGroup"] = json!(group);
    }
    if !namespace.is_null() {
        event["objectRef"]["namespace"] = namespace;
    }
    if bodies {
        event["requestObject"] = object.clone();
    }
    event
}

fn raised(events: &[Value]) -> Vec<Value> {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    let (alerts, stats) = scan(&["--min-level", "informational", "-"], lines.join("\n").as_bytes());
    assert_eq!(stats["events"], events.len(), "{stats}");
    assert_eq!(stats["rejected"], 0, "{stats}");
    alerts
}

fn titles(alerts: &[Value]) -> Vec<String> {
    alerts.iter().map(|alert| format!("{}: {}", alert["rule"]["title"], alert["summary"])).collect()
}

#[test]
fn no_detection_is_true_of_the_plain_manifest() {
    let mut all = documents("deploy/kubernetes.yaml");
    let told = titles(&raised(&installation(&all)));
    // Whoever makes a namespace is told of, whatever comes into it.
    assert!(told.len() == 1 && told[0].contains("Namespace created by a user"), "{told:?}");
    // The events are such as detections look at: the same pod, privileged, is told of.
    let set = all.iter_mut().find(|document| document["kind"] == "StatefulSet").expect("a set");
    set["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"] = json!(true);
    assert!(titles(&raised(&installation(&all))).len() > 1);
}

#[test]
fn no_detection_is_true_of_the_chart() {
    if !installed("helm") {
        return;
    }
    let cluster_ip = MOST.replace("type: LoadBalancer, ", "").replace("nodePort: 30765, ", "");
    for values in [LEAST, &cluster_ip] {
        assert_eq!(titles(&raised(&installation(&rendered(values)))), [""; 0]);
    }
}
