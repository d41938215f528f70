//! What is measured on: made-up events with the sizes and the mix of verbs of a real cluster, and the lab's recording
//! where it is there.

pub(crate) mod rules;
pub(crate) mod worst;

use std::fmt::Write;
use std::io::Read;
use std::path::Path;

/// Verbs in the proportions of a busy lab cluster: update 28 %, get 23 %, create 22 %, patch 8 %, list 8 %, delete 7 %,
/// watch 4 %.
const VERBS: [(&str, u64); 7] =
    [("update", 28), ("get", 23), ("create", 22), ("patch", 8), ("list", 8), ("delete", 7), ("watch", 4)];

const RESOURCES: [(&str, &str); 10] = [
    ("", "events"),
    ("coordination.k8s.io", "leases"),
    ("discovery.k8s.io", "endpointslices"),
    ("apps", "replicasets"),
    ("", "pods"),
    ("", "configmaps"),
    ("apps", "deployments"),
    ("", "nodes"),
    ("", "serviceaccounts"),
    ("batch", "jobs"),
];

/// Nearly everything that happens in a cluster is done by these; a person is behind one event in fifty.
const CONTROLLERS: [&str; 5] = [
    "system:serviceaccount:kube-system:deployment-controller",
    "system:kube-scheduler",
    "system:node:worker-1",
    "system:apiserver",
    "system:serviceaccount:kube-system:replicaset-controller",
];

/// A small generator: the same numbers on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn verb(&mut self) -> &'static str {
        let mut at = self.roll(100);
        for (verb, share) in VERBS {
            if at < share {
                return verb;
            }
            at -= share;
        }
        VERBS[0].0
    }
}

/// `count` events, one a line. About half are `RequestReceived`; bodies make the sizes as long-tailed as real ones
/// (median 1 kB, 95th percentile 6 kB).
pub(crate) fn synthetic(count: usize) -> Vec<u8> {
    let mut dice = Dice(7);
    let mut text = String::new();
    for n in 0..count {
        event(&mut text, n, &mut dice);
    }
    text.into_bytes()
}

fn event(text: &mut String, n: usize, dice: &mut Dice) {
    let verb = dice.verb();
    // Most of what controllers create and delete is bookkeeping.
    let resources = if matches!(verb, "create" | "delete") && dice.roll(20) > 0 { 4 } else { 10 };
    let (group, resource) = RESOURCES[dice.roll(resources) as usize];
    let user = if dice.roll(50) == 0 { "alice" } else { CONTROLLERS[dice.roll(5) as usize] };
    let agent = if user.starts_with("system:node:") { "kubelet" } else { "kube-controller-manager" };
    let (namespace, name) = (["shop", "ci", "dev", "kube-system"][dice.roll(4) as usize], dice.roll(5_000));
    let received = dice.roll(100) < 45;
    let stage = if received { "RequestReceived" } else { "ResponseComplete" };
    let time = format!("2026-11-21T04:{:02}:{:02}.{:06}Z", n / 6_000 % 60, n / 100 % 60, n % 100 * 10_000);
    let api = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
    write!(
        text,
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"{n:08x}-0000-4000-8000-{name:012x}","stage":"{stage}","requestURI":"{api}/namespaces/{namespace}/{resource}/{resource}-{name}?timeout=30s\u0026fieldManager=kubectl","verb":"{verb}","user":{{"username":"{user}","uid":"{n}","groups":["system:serviceaccounts","system:authenticated"],"extra":{{"authentication.kubernetes.io/credential-id":["JTI=0b9dd4be-{n}"]}}}},"sourceIPs":["10.0.{}.{}"],"userAgent":"{agent}/v1.36.2 (linux/amd64) kubernetes/abc","objectRef":{{"resource":"{resource}","namespace":"{namespace}","name":"{resource}-{name}","apiGroup":"{group}","apiVersion":"v1"}}"#,
        n % 7,
        n % 250
    )
    .unwrap();
    if !received {
        let code = if dice.roll(200) == 0 { 403 } else { 200 };
        let decision = if code == 403 { "forbid" } else { "allow" };
        write!(text, r#","responseStatus":{{"metadata":{{}},"code":{code}}}"#).unwrap();
        let size = match dice.roll(100) {
            0..60 => 0,
            60..95 => dice.roll(20),
            _ => 40 + dice.roll(80),
        };
        if size > 0 {
            body(text, "requestObject", resource, size);
            body(text, "responseObject", resource, size);
        }
        write!(text, r#","annotations":{{"authorization.k8s.io/decision":"{decision}","authorization.k8s.io/reason":"RBAC: allowed by ClusterRoleBinding"}}"#).unwrap();
    }
    writeln!(text, r#","requestReceivedTimestamp":"{time}","stageTimestamp":"{time}"}}"#).unwrap();
}

fn body(text: &mut String, key: &str, resource: &str, size: u64) {
    write!(text, r#","{key}":{{"kind":"{resource}","apiVersion":"v1","metadata":{{"name":"x","labels":{{"app":"x"}}}},"spec":{{"containers":["#).unwrap();
    for n in 0..size {
        let comma = if n > 0 { "," } else { "" };
        write!(text, r#"{comma}{{"name":"c{n}","image":"registry.example.com/app:{n}","env":[{{"name":"MODE","value":"production"}}],"resources":{{}}}}"#).unwrap();
    }
    text.push_str(r#"],"restartPolicy":"Always"},"status":{}}"#);
}

/// The recording of a healthy lab cluster, if it lies beside the project.
pub(crate) fn lab() -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/lab/benign.jsonl.zst");
    let mut lines = Vec::new();
    zstd::Decoder::new(std::fs::File::open(path).ok()?).ok()?.read_to_end(&mut lines).ok()?;
    Some(lines)
}
