//! Secrets planted in every place where one can be, and looked for in everything that leaves the program.
//!
//! To add a place, add a line to `HIDDEN`: what an event has there, with `MARK` (or `MARK64` for base64) for the secret.
//! Rules that match it, show it, count it, group by it and print it are made by themselves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fake::slack::{self, Slack};
use super::fake::{self, Receiver, Reply};
use super::support::{Daemon, answered, client, configure, end_of_story, event_list, kubesiren, run, text_at, until};

/// Places whose values must not be shown, each as what it adds to an event.
const HIDDEN: &[(&str, &str)] = &[
    ("Secret, sent", r#"{"objectRef":{"resource":"secrets"},"requestObject":{"kind":"Secret","data":{"k":"MARK64"}}}"#),
    (
        "Secret, stringData",
        r#"{"objectRef":{"resource":"secrets"},"requestObject":{"kind":"Secret","stringData":{"k":"MARK"}}}"#,
    ),
    (
        "Secret, read",
        r#"{"objectRef":{"resource":"secrets"},"responseObject":{"kind":"Secret","data":{"a.b":"MARK64"}}}"#,
    ),
    (
        "Secrets, listed",
        r#"{"objectRef":{"resource":"secrets"},"responseObject":{"kind":"SecretList","items":[{"data":{"k":"MARK64"}}]}}"#,
    ),
    (
        "Secret in a mixed list",
        r#"{"responseObject":{"kind":"List","items":[{"kind":"Secret","data":{"k":"MARK64"}}]}}"#,
    ),
    (
        "Secret, merge patch",
        r#"{"verb":"patch","objectRef":{"resource":"secrets"},"requestObject":{"data":{"k":"MARK64"}}}"#,
    ),
    (
        "Secret, JSON patch",
        r#"{"verb":"patch","objectRef":{"resource":"secrets"},"requestObject":[{"op":"add","path":"/data/k","value":"MARK64"}]}"#,
    ),
    (
        "Secret, JSON patch of all",
        r#"{"verb":"patch","objectRef":{"resource":"secrets"},"requestObject":[{"op":"replace","path":"/data","value":{"k":"MARK64"}}]}"#,
    ),
    (
        "Secret, applied",
        r#"{"verb":"apply","objectRef":{"resource":"secrets"},"requestObject":{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"},"stringData":{"k":"MARK"}}}"#,
    ),
    (
        "Secret, its annotations",
        r#"{"objectRef":{"resource":"secrets"},"requestObject":{"kind":"Secret","metadata":{"annotations":{"example.com/note":"MARK"}}}}"#,
    ),
    (
        "registry login",
        r#"{"objectRef":{"resource":"secrets"},"requestObject":{"kind":"Secret","data":{".dockerconfigjson":"MARK64"}}}"#,
    ),
    (
        "bootstrap token",
        r#"{"objectRef":{"resource":"secrets"},"requestObject":{"kind":"Secret","type":"bootstrap.kubernetes.io/token","stringData":{"token-secret":"MARK"}}}"#,
    ),
    (
        "last-applied",
        r#"{"objectRef":{"resource":"secrets"},"requestObject":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"kind\":\"Secret\",\"stringData\":{\"k\":\"MARK\"}}"}}}}"#,
    ),
    (
        "last-applied of a pod",
        r#"{"responseObject":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"spec\":{\"x\":\"MARK\"}}"}}}}"#,
    ),
    (
        "last-applied, JSON patch",
        r#"{"requestObject":[{"op":"add","path":"/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration","value":"MARK"}]}"#,
    ),
    (
        "an object in an annotation",
        r#"{"requestObject":{"metadata":{"annotations":{"example.com/copy":"{\"spec\":{\"containers\":[{\"env\":[{\"name\":\"A\",\"value\":\"MARK\"}]}]}}"}}}}"#,
    ),
    (
        "a Secret in an annotation",
        r#"{"requestObject":{"metadata":{"annotations":{"example.com/copy":"{\"kind\":\"Secret\",\"data\":{\"k\":\"MARK64\"}}"}}}}"#,
    ),
    (
        "webhook's patch",
        r#"{"annotations":{"patch.webhook.admission.k8s.io/round_0_index_0":"{\"patch\":[{\"op\":\"add\",\"path\":\"/data/k\",\"value\":\"MARK\"}]}"}}"#,
    ),
    ("event annotation named so", r#"{"annotations":{"example.com/api-token":"MARK"}}"#),
    ("event annotation, JWT", r#"{"annotations":{"example.com/note":"eyJhbGciOiJub25lIn0.MARK.c2ln"}}"#),
    (
        "TokenReview",
        r#"{"objectRef":{"resource":"tokenreviews"},"requestObject":{"kind":"TokenReview","spec":{"token":"MARK"}}}"#,
    ),
    (
        "TokenReview, status",
        r#"{"objectRef":{"resource":"tokenreviews"},"responseObject":{"status":{"user":{"extra":{"example.com/x":["MARK"]}}}}}"#,
    ),
    (
        "TokenRequest",
        r#"{"objectRef":{"resource":"serviceaccounts","subresource":"token"},"responseObject":{"kind":"TokenRequest","status":{"token":"MARK"}}}"#,
    ),
    ("env of a pod", r#"{"requestObject":{"spec":{"containers":[{"env":[{"name":"A","value":"MARK"}]}]}}}"#),
    ("env, init container", r#"{"requestObject":{"spec":{"initContainers":[{"env":[{"name":"A","value":"MARK"}]}]}}}"#),
    (
        "env, ephemeral container",
        r#"{"requestObject":{"spec":{"ephemeralContainers":[{"env":[{"name":"A","value":"MARK"}]}]}}}"#,
    ),
    (
        "env of a template",
        r#"{"objectRef":{"resource":"deployments"},"requestObject":{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":"MARK"}]}]}}}}}"#,
    ),
    (
        "env of a cron job",
        r#"{"objectRef":{"resource":"cronjobs"},"responseObject":{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":"MARK"}]}]}}}}}}}"#,
    ),
    (
        "env, JSON patch",
        r#"{"objectRef":{"resource":"deployments"},"requestObject":[{"op":"add","path":"/spec/template/spec/containers/0/env/-","value":{"name":"A","value":"MARK"}}]}"#,
    ),
    (
        "env, JSON patch of a value",
        r#"{"objectRef":{"resource":"deployments"},"requestObject":[{"op":"replace","path":"/spec/template/spec/containers/0/env/0/value","value":"MARK"}]}"#,
    ),
    ("args, flag=", r#"{"requestObject":{"spec":{"containers":[{"args":["--password=MARK"]}]}}}"#),
    ("args, flag and word", r#"{"requestObject":{"spec":{"containers":[{"args":["--db-password","MARK"]}]}}}"#),
    ("args, -p", r#"{"requestObject":{"spec":{"containers":[{"command":["mysql","-uroot","-pMARK"]}]}}}"#),
    ("args, -a", r#"{"requestObject":{"spec":{"containers":[{"command":["redis-cli","-a","MARK"]}]}}}"#),
    ("args, script", r#"{"requestObject":{"spec":{"containers":[{"args":["export DB_PASSWORD=MARK; run"]}]}}}"#),
    ("args, URL", r#"{"requestObject":{"spec":{"containers":[{"args":["mysql://root:MARK@db/x"]}]}}}"#),
    (
        "args, header",
        r#"{"requestObject":{"spec":{"template":{"spec":{"containers":[{"args":["curl -H 'Authorization: Bearer MARK' http://x"]}]}}}}}"#,
    ),
    (
        "exec, flag=",
        r#"{"requestURI":"/api/v1/x/exec?command=login&command=--password%3DMARK","objectRef":{"subresource":"exec"}}"#,
    ),
    (
        "exec, flag and word",
        r#"{"requestURI":"/api/v1/x/exec?command=vault&command=--token&command=MARK","objectRef":{"subresource":"exec"}}"#,
    ),
    ("exec, -p", r#"{"requestURI":"/api/v1/x/exec?command=mysql&command=-pMARK","objectRef":{"subresource":"exec"}}"#),
    (
        "exec, script",
        r#"{"requestURI":"/api/v1/x/exec?command=sh&command=-c&command=PGPASSWORD%3DMARK+psql","objectRef":{"subresource":"exec"}}"#,
    ),
    (
        "exec, URL",
        r#"{"requestURI":"/api/v1/x/exec?command=psql&command=postgres%3A%2F%2Fu%3AMARK%40db","objectRef":{"subresource":"exec"}}"#,
    ),
    ("URI, access_token", r#"{"requestURI":"/api?access_token=MARK"}"#),
    ("URI, token, encoded name", r#"{"requestURI":"/api?t%6Fken=MARK"}"#),
    ("URI, authorization", r#"{"requestURI":"/api?authorization=Bearer%20MARK"}"#),
    ("URI, client_secret", r#"{"requestURI":"/api?a=b&client_secret=MARK"}"#),
    ("URI, a JWT in its path", r#"{"requestURI":"/api/eyJhbGciOiJub25lIn0.MARK.c2ln/x"}"#),
    ("URI, a URL in it", r#"{"requestURI":"/proxy?to=http%3A%2F%2Fu%3AMARK%40h"}"#),
    ("user agent, JWT", r#"{"userAgent":"h4rml3ss eyJhbGciOiJub25lIn0.MARK.c2ln"}"#),
    ("user agent, token=", r#"{"userAgent":"h4rml3ss token=MARK"}"#),
    ("user name, JWT", r#"{"user":{"username":"eyJhbGciOiJub25lIn0.MARK.c2ln"}}"#),
    ("AWS key in free text", r#"{"requestObject":{"spec":{"note":"it is AKIAMARKAAAAAAA"}}}"#),
    ("GitHub token in free text", r#"{"requestObject":{"spec":{"note":"it is ghp_MARKaaaaaaaaaaaaaaaaaaaa"}}}"#),
    (
        "private key in free text",
        r#"{"requestObject":{"spec":{"note":"-----BEGIN PRIVATE KEY-----\nMARK\n-----END PRIVATE KEY-----"}}}"#,
    ),
    ("password in free text", r#"{"requestObject":{"spec":{"note":"host: h\npassword: MARK\n"}}}"#),
    ("a field named so", r#"{"requestObject":{"spec":{"auth":{"password":{"text":"MARK"}}}}}"#),
    ("an annotation named so", r#"{"requestObject":{"metadata":{"annotations":{"example.com/token.v1":"MARK"}}}}"#),
    (
        "ConfigMap",
        r#"{"objectRef":{"resource":"configmaps"},"requestObject":{"kind":"ConfigMap","data":{"app.yml":"db: MARK"}}}"#,
    ),
    (
        "ConfigMap, binary",
        r#"{"objectRef":{"resource":"configmaps"},"requestObject":{"kind":"ConfigMap","binaryData":{"k":"MARK64"}}}"#,
    ),
    (
        "ConfigMaps, listed",
        r#"{"objectRef":{"resource":"configmaps"},"responseObject":{"items":[{"data":{"k":"MARK"}}]}}"#,
    ),
    ("admission webhook's URL", r#"{"requestObject":{"webhooks":[{"clientConfig":{"url":"https://u:MARK@h/x"}}]}}"#),
    ("user.extra", r#"{"user":{"extra":{"example.com/assertion":["MARK"]}}}"#),
    ("impersonatedUser.extra", r#"{"impersonatedUser":{"username":"x","extra":{"assertion":["MARK"]}}}"#),
    ("a body that is a text", r#"{"requestObject":"kind: Secret, MARK"}"#),
    ("response message", r#"{"responseStatus":{"message":"bad token=MARK"}}"#),
];

/// Places whose values are shown: everybody may know them, and a test that finds nothing anywhere proves nothing.
const SHOWN: &[(&str, &str)] = &[
    (
        "CA bundle",
        r#"{"requestObject":{"webhooks":[{"clientConfig":{"caBundle":"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURMARK"}}]}}"#,
    ),
    (
        "certificate request",
        r#"{"objectRef":{"resource":"certificatesigningrequests"},"requestObject":{"spec":{"request":"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURMARK"}}}"#,
    ),
    ("image", r#"{"requestObject":{"spec":{"containers":[{"image":"registry/token-service:MARK"}]}}}"#),
    ("name of a Secret", r#"{"requestObject":{"spec":{"volumes":[{"secret":{"secretName":"MARK"}}]}}}"#),
    ("argument", r#"{"requestObject":{"spec":{"containers":[{"args":["--verbose=MARK"]}]}}}"#),
    ("JSON patch of something else", r#"{"requestObject":[{"op":"add","path":"/spec/nodeName","value":"MARK"}]}"#),
    ("audit annotation", r#"{"annotations":{"authorization.k8s.io/reason":"RBAC: allowed by MARK"}}"#),
    ("exec", r#"{"requestURI":"/api/v1/x/exec?command=cat&command=%2FMARK","objectRef":{"subresource":"exec"}}"#),
];

/// The daemon's own secrets.
const OWN: [&str; 8] = [
    "0wn-listener-zq",
    "0wn-admin-zq",
    "0wn-header-zq",
    "0wn-userinfo-zq",
    "0wn-query-zq",
    "0wn-bearer-zq",
    "0wn-env-zq",
    "0wn-key-zq",
];

/// Long enough not to be there by chance, and of letters and digits only, so that most encodings leave it as it is.
fn marker(prefix: &str, n: usize) -> String {
    format!("{prefix}{n:02}ZQ")
}

fn hidden(n: usize) -> String {
    marker("PL4NT", n)
}

fn shown(n: usize) -> String {
    marker("SH0WN", n)
}

/// One event with something planted in it.
fn event(n: usize, plant: &str, mark: &str) -> Value {
    let time = format!("2026-11-21T04:{:02}:{:02}.000000Z", n / 60, n % 60);
    let mut event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": format!("id-{n}"),
        "stage": "ResponseComplete", "verb": "create", "requestURI": format!("/api/v1/namespaces/shop/pods/t{n}"),
        "user": {"username": "eve"}, "sourceIPs": ["10.0.0.1"], "userAgent": "kubectl/1 h4rml3ss",
        "objectRef": {"resource": "pods", "namespace": "shop", "name": format!("t{n}"), "apiVersion": "v1"},
        "responseStatus": {"code": 201}, "requestObject": {"metadata": {"labels": {"app": "h4rml3ss"}}},
        "requestReceivedTimestamp": time, "stageTimestamp": time,
    });
    let plant = plant.replace("MARK64", &STANDARD.encode(mark)).replace("MARK", mark);
    merge(&mut event, serde_json::from_str(&plant).unwrap_or_else(|error| panic!("{plant}: {error}")));
    event
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

fn planted() -> Vec<(Value, String)> {
    let all = |plants: &[(&str, &str)], from: usize, mark: fn(usize) -> String| -> Vec<(Value, String)> {
        plants.iter().enumerate().map(|(n, (_, plant))| (event(from + n, plant, &mark(n)), mark(n))).collect()
    };
    [all(HIDDEN, 0, hidden), all(SHOWN, HIDDEN.len(), shown)].concat()
}

/// Where a marker is in an event: as a field path, and as a JSON pointer.
fn places(value: &Value, mark: &str, path: &str, pointer: &str, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
            places(value, mark, &path, &pointer, found);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| places(item, mark, path, &format!("{pointer}/{n}"), found));
        }
        Value::String(text) if text.contains(mark) || text.contains(&STANDARD.encode(mark)) && path != "auditID" => {
            found.insert((path.to_owned(), pointer.to_owned()));
        }
        _ => {}
    }
}

/// Rules that do with the planted places all that rules can do with a place; their folder, and which rule asks about which
/// path or pointer.
fn rules(home: &Path, planted: &[(Value, String)]) -> (PathBuf, Vec<(String, String)>) {
    let mut found = BTreeSet::new();
    for (event, mark) in planted {
        let before = found.len();
        places(event, mark, "", "", &mut found);
        assert!(found.len() > before || !mark.is_empty());
    }
    let paths: BTreeSet<&str> =
        found.iter().map(|(path, _)| path.as_str()).filter(|path| !path.contains("..")).collect();
    let mut sigma = Vec::new();
    for (n, path) in paths.iter().enumerate() {
        sigma.push(format!(
            "title: place {n}\nid: place-{n}\nname: place_{n}\nlogsource: {{product: kubernetes, service: audit}}\ndetection:\n  sel: {{'{path}|re': '(?i)pl.nt|sh.wn|UEw0Tl|U0gwV0'}}\n  condition: sel\nfields: ['{path}', requestObject.metadata.labels.app, userAgent]\nlevel: high\n"
        ));
        sigma.push(format!(
            "title: group {n}\nid: group-{n}\ncorrelation: {{type: event_count, rules: [place_{n}], group-by: ['{path}'], timespan: 5m, condition: {{gte: 1}}, generate: true}}\nlevel: low\n"
        ));
        sigma.push(format!(
            "title: count {n}\nid: count-{n}\ncorrelation: {{type: value_count, rules: [place_{n}], group-by: [user.username], timespan: 5m, condition: {{field: '{path}', gte: 1}}, generate: true}}\nlevel: low\n"
        ));
    }
    sigma.push(
        "title: keyword\nid: keyword\nlogsource: {product: kubernetes}\ndetection:\n  keywords: ['l4nt']\n  condition: keywords\nlevel: low\n".to_owned(),
    );
    let mut falco: Vec<String> = found
        .iter()
        .enumerate()
        .map(|(n, (_, pointer))| {
            format!(
                "- rule: pointer {n}\n  desc: d\n  condition: jevt.value[{pointer}] exists and tolower(jevt.value[{pointer}]) != nothing\n  output: \"at %jevt.value[{pointer}] by %ka.useragent\"\n  priority: ERROR\n  source: k8s_audit\n"
            )
        })
        .collect();
    falco.push(
        "- rule: everything\n  desc: d\n  condition: ka.user.name exists and (jevt.value[/requestObject] exists or jevt.value[/responseObject] exists or basename(jevt.value[/requestObject]) != nothing)\n  output: \"%jevt.value[/requestObject] %jevt.value[/responseObject] %jevt.value[/user] %jevt.value[/annotations] %jevt.obj %ka.uri %ka.uri.param[command] %ka.useragent %ka.req.configmap.obj %ka.req.pod.containers.args %ka.req.pod.containers.command %ka.req.pod.containers.image\"\n  priority: ERROR\n  source: k8s_audit\n".to_owned(),
    );
    let folder = home.join("rules");
    std::fs::create_dir_all(&folder).expect("made");
    std::fs::write(folder.join("sigma.yml"), sigma.join("---\n")).expect("written");
    std::fs::write(folder.join("falco.yaml"), falco.concat()).expect("written");
    let by_path = paths.iter().enumerate().map(|(n, path)| ((*path).to_owned(), format!("place-{n}")));
    let by_pointer = found.iter().enumerate().map(|(n, (_, pointer))| (pointer.clone(), format!("pointer {n}")));
    let asking = by_path.chain(by_pointer).collect();
    (folder, asking)
}

/// What is looked for, in a text of which upper and lower case are one.
struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    /// Markers raw, reversed, in base64 at every alignment, in UTF-16 and in hex.
    fn of(marks: impl Iterator<Item = String>) -> Self {
        let mut all = Vec::new();
        for mark in marks {
            let utf16: Vec<u8> = mark.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let hex: String = mark.bytes().map(|byte| format!("{byte:02x}")).collect();
            let mut forms = vec![mark.clone().into_bytes(), mark.bytes().rev().collect(), utf16, hex.into_bytes()];
            for before in 0..3 {
                let padded = [&b"xx"[..before], mark.as_bytes()].concat();
                let text = STANDARD.encode(&padded);
                // Without the characters that hold bits of what is around it.
                let from = [0, 2, 3][before];
                let to = padded.len() * 8 / 6;
                forms.push(text.as_bytes()[from..to].to_vec());
            }
            all.extend(forms.into_iter().map(|form| (mark.clone(), form.to_ascii_lowercase())));
        }
        Self(all)
    }

    /// The markers that are in what the program gave away, as it is and percent-decoded.
    fn found(&self, output: &[u8]) -> BTreeSet<&str> {
        let output = output.to_ascii_lowercase();
        let decoded: Vec<u8> =
            percent_encoding::percent_decode(&output).map(|byte| byte.to_ascii_lowercase()).collect();
        let inside = |form: &[u8]| {
            memchr::memmem::find(&output, form).is_some() || memchr::memmem::find(&decoded, form).is_some()
        };
        self.0.iter().filter(|(_, form)| inside(form)).map(|(mark, _)| mark.as_str()).collect()
    }
}

/// Everything that the program gave away, with the names of the places.
#[derive(Default)]
struct Given(Vec<(String, Vec<u8>)>);

impl Given {
    fn add(&mut self, place: impl Into<String>, output: impl Into<Vec<u8>>) {
        self.0.push((place.into(), output.into()));
    }

    fn command(&mut self, args: &[&str], input: &[u8]) -> (i32, String) {
        let output = run(args, input);
        let name = args.join(" ");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        self.add(format!("stdout of {name}"), output.stdout);
        self.add(format!("stderr of {name}"), output.stderr);
        (output.status.code().unwrap_or(-1), text)
    }

    fn files(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                self.add(path.display().to_string(), std::fs::read(&path).expect("readable"));
            }
        }
    }

    fn of(&self, place: &str) -> Vec<u8> {
        self.0.iter().filter(|(name, _)| name.contains(place)).flat_map(|(_, output)| output.clone()).collect()
    }

    /// Fails if a secret got out, and says which and where.
    fn check(&self) {
        let secrets = (0..HIDDEN.len()).map(hidden).chain(OWN.iter().map(|own| (*own).to_owned()));
        let needles = Needles::of(secrets);
        let name = |mark: &str| {
            (0..HIDDEN.len())
                .find(|n| hidden(*n) == mark)
                .map_or(mark.to_owned(), |n| format!("{mark} ({})", HIDDEN[n].0))
        };
        let leaks: Vec<String> = self
            .0
            .iter()
            .flat_map(|(place, output)| {
                needles.found(output).into_iter().map(|mark| format!("{place}: {}", name(mark))).collect::<Vec<_>>()
            })
            .collect();
        assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    }

    /// Fails if what may be shown is not in a place: then nothing was looked at there.
    fn shows(&self, place: &str, marks: &[String]) {
        let output = self.of(place);
        let needles =
            Needles(marks.iter().map(|mark| (mark.clone(), mark.to_ascii_lowercase().into_bytes())).collect());
        let found = needles.found(&output);
        let missing: Vec<_> = marks.iter().filter(|mark| !found.contains(mark.as_str())).collect();
        assert!(missing.is_empty(), "{place} lacks what may be shown: {missing:?}");
    }
}

fn public() -> Vec<String> {
    (0..SHOWN.len()).map(shown).chain(["h4rml3ss".to_owned()]).collect()
}

#[test]
fn a_secret_would_be_found_in_every_encoding() {
    let needles = Needles::of(std::iter::once(hidden(7)));
    for text in [
        "x PL4NT07ZQ",
        "pl4nt07zq",
        "%50L4NT07ZQ",
        "QZ70TN4LP",
        &STANDARD.encode("PL4NT07ZQ"),
        &STANDARD.encode("a PL4NT07ZQ b"),
        &STANDARD.encode("aPL4NT07ZQb"),
        "504c344e5430375a51",
        "P\0L\x004\0N\0T\x000\x007\0Z\0Q\0",
    ] {
        assert_eq!(needles.found(text.as_bytes()).len(), 1, "{text:?}");
    }
    assert!(needles.found(b"PL4NT08ZQ").is_empty());
}

#[test]
fn commands_give_no_secret_away() {
    let home = tempfile::tempdir().expect("a folder");
    let planted = planted();
    let (folder, asking) = rules(home.path(), &planted);
    assert!(asking.len() > 80, "{}", asking.len());
    let rules = folder.display().to_string();
    let events: Vec<String> = planted.iter().map(|(event, _)| event.to_string()).collect();
    let broken: Vec<String> = events.iter().map(|event| event[..event.len() - 30].to_owned()).collect();
    let log = [&events[..], &broken[..], &[end_of_story()]].concat().join("\n");
    let mut given = Given::default();
    for format in ["json", "table"] {
        let (code, text) =
            given.command(&["scan", "--rules", &rules, "--format", format, "--stats", "json"], log.as_bytes());
        assert_eq!(code, 0, "{text}");
    }
    given.shows("--format json", &public());
    let file = home.path().join("event.json");
    for (event, mark) in &planted {
        std::fs::write(&file, event.to_string()).expect("written");
        let file = file.display().to_string();
        let mut found = BTreeSet::new();
        places(event, mark, "", "", &mut found);
        for place in &found {
            let named = asking.iter().filter(|(path, _)| *path == place.0 || *path == place.1).map(|(_, rule)| rule);
            for rule in named {
                given.command(
                    &["rules", "explain", "--rules", &rules, "--no-builtin", "--event", &file, "--rule", rule],
                    b"",
                );
            }
        }
    }
    given.command(&["rules", "explain", "--rules", &rules, "--event", &file.display().to_string()], b"");
    given.shows("rules explain", &public());
    std::fs::write(&file, &broken[0]).expect("written");
    given.command(&["rules", "explain", "--event", &file.display().to_string()], b"");
    let cases = home.path().join("cases");
    failing_cases(&cases, &planted);
    let (code, text) = given.command(&["rules", "test", &cases.display().to_string()], b"");
    assert_eq!(code, 1, "{text}");
    given.shows("rules test", &public()[..SHOWN.len()]);
    given.check();
}

/// Cases that fail, so that it is told what their events have where the rule looks.
fn failing_cases(folder: &Path, planted: &[(Value, String)]) {
    let (mut rules, mut cases) = (Vec::new(), Vec::new());
    for (n, (event, mark)) in planted.iter().enumerate() {
        let mut found = BTreeSet::new();
        places(event, mark, "", "", &mut found);
        for (path, _) in found.iter().filter(|(path, _)| !path.contains("..")) {
            rules.push(format!(
                "title: case {n}\nid: case-{n}\nlogsource: {{product: kubernetes}}\ndetection:\n  sel: {{'{path}': nothing}}\n  condition: sel\n"
            ));
            cases.push(
                json!({"name": format!("it fails {n}"), "rule": format!("case {n}"), "event": event, "fires": true}),
            );
        }
    }
    std::fs::create_dir_all(folder).expect("made");
    std::fs::write(folder.join("t.yml"), rules.join("---\n")).expect("written");
    std::fs::write(folder.join("t.test.yml"), json!({"cases": cases}).to_string()).expect("written");
}

/// A configuration with a secret in every place that takes one.
fn config(home: &Path, rules: &Path, hooks: &[String; 5]) -> String {
    std::fs::write(home.join("token"), OWN[0]).expect("written");
    std::fs::write(home.join("admin"), OWN[1]).expect("written");
    std::fs::write(home.join("slack"), &hooks[2]).expect("written");
    let with_user = hooks[0].replace("http://", &format!("http://u:{}@", OWN[3]));
    format!(
        "log: {{level: trace}}
detections: {{builtin: true, paths: [{rules}]}}
sources: [{{type: webhook, listen: '127.0.0.1:0', bearer_token_file: {home}/token}}]
sinks:
  - {{name: console, type: stdout}}
  - {{name: good, type: webhook, url: '{with_user}?key={}', headers: {{X-Key: {}}}}}
  - {{name: picky, type: webhook, url: '{}', bearer_token: {}}}
  - {{name: down, type: webhook, url: 'http://u:{}@127.0.0.1:1/x?key={}'}}
  - {{name: oncall, type: slack, webhook_url_file: {home}/slack}}
  - {{name: bot, type: slack, token: {}, channel: '#alerts', api_url: '{}'}}
  - {{name: am, type: alertmanager, urls: ['{}']}}
",
        OWN[4],
        OWN[2],
        hooks[1],
        OWN[5],
        OWN[3],
        OWN[4],
        slack::TOKEN,
        hooks[3],
        hooks[4],
        rules = rules.display(),
        home = home.display(),
    )
}

/// Where alerts go.
struct Sinks {
    good: Receiver,
    /// Repeats what it was given, credentials too.
    picky: Receiver,
    am: Receiver,
    slack: Slack,
}

impl Sinks {
    async fn start() -> Self {
        let repeat = |request: &fake::Request| {
            Reply::new(400, format!("no: {} {}", request.header("authorization"), request.path))
        };
        Self {
            good: Receiver::start(|_| Reply::new(200, "")).await,
            picky: Receiver::start(repeat).await,
            am: Receiver::start(|_| Reply::new(200, "")).await,
            slack: Slack::start().await,
        }
    }

    fn hooks(&self) -> [String; 5] {
        [self.good.url("/"), self.picky.url("/p"), self.slack.hook(), self.slack.api(), self.am.url("/")]
    }

    async fn told(&self, daemon: &Daemon, alerts: usize) {
        until("every sink was told, one refused, and one is not there", async || {
            let told = [&self.good, &self.picky, &self.am, &self.slack.http].map(|sink| sink.requests().len());
            let dead = daemon.metric("kubesiren_deliveries_total", "picky").await;
            let down = daemon.process.err.all().iter().any(|line| line.contains("\"sink\":\"down\""));
            let all = told[0] >= alerts && told.iter().all(|told| *told > 0) && dead >= 1.0 && down;
            if all { Ok(()) } else { Err(format!("{told:?} of {alerts}, dead: {dead}, down: {down}")) }
        })
        .await;
    }

    fn give(&self, given: &mut Given) {
        let sinks = [("good", &self.good), ("picky", &self.picky), ("am", &self.am), ("slack", &self.slack.http)];
        for (name, sink) in sinks {
            sink.requests().into_iter().for_each(|request| given.add(format!("sent to {name}"), request.body));
        }
    }
}

/// Sends the events whole, odd and cut off, and keeps the answers.
async fn feed(daemon: &Daemon, planted: &[(Value, String)], given: &mut Given) {
    let mut events: Vec<String> = planted.iter().map(|(event, _)| event.to_string()).collect();
    let request = |token: &str, body: String| client().post(daemon.hook()).bearer_auth(token).body(body);
    let odd = |event: &String| event.replacen("\"auditID\":\"", "\"auditID\":7,\"was\":\"", 1);
    let cut: Vec<&str> = events.iter().map(|event| &event[..event.len() - 30]).collect();
    let odd = event_list(&events.iter().map(odd).collect::<Vec<_>>());
    for (token, body) in
        [(OWN[0], odd), (OWN[0], cut.join("\n")), (OWN[0], events[0][20..].to_owned()), ("x", events[0].clone())]
    {
        let (status, text) = answered(request(token, body)).await;
        assert_eq!(status == 401, token == "x", "{text}");
        given.add(format!("the webhook's answer {status}"), text);
    }
    events.push(end_of_story());
    for batch in events.chunks(10) {
        let (status, text) = answered(request(OWN[0], event_list(batch))).await;
        assert_eq!(status, 200, "{text}");
        given.add("the webhook's answer 200", text);
    }
}

/// Asks the admin listener for everything.
async fn ask(daemon: &Daemon, given: &mut Given) {
    let of_alerts = ["/api/v1/alerts?limit=1000", "/api/v1/alerts?x=1"];
    for path in
        ["/metrics", "/livez", "/readyz", "/", "/api/v1/rules", "/api/v1/status", "/x"].into_iter().chain(of_alerts)
    {
        given.add(format!("GET {path}"), daemon.get(path).await.1);
    }
    given.add("POST reload without the token", daemon.ask("/api/v1/reload").await.1);
    let reload = client().post(format!("http://{}/api/v1/reload", daemon.admin)).bearer_auth(OWN[1]);
    given.add("POST reload", answered(reload).await.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_gives_no_secret_away() {
    let home = tempfile::tempdir().expect("a folder");
    let planted = planted();
    let (rules, _) = rules(home.path(), &planted);
    let sinks = Sinks::start().await;
    let config = config(home.path(), &rules, &sinks.hooks());
    let admin_token = home.path().join("admin").display().to_string();
    let environment = [("KUBESIREN_SINKS__1__HEADERS__X_OTHER", OWN[6]), ("KUBESIREN_ADMIN__TOKEN_FILE", &admin_token)];
    let daemon = Daemon::start_in(home.path(), &config, &[], &environment).await;
    let mut given = Given::default();
    feed(&daemon, &planted, &mut given).await;
    let alerts = until("every place has an alert", async || {
        let alerts = daemon.alerts().await;
        let text = json!(alerts).to_string();
        let missing: Vec<String> = public().into_iter().filter(|mark| !text.contains(mark.as_str())).collect();
        let all = alerts.len() > 100 && missing.is_empty();
        if all { Ok(alerts) } else { Err(format!("{}, without {missing:?}", alerts.len())) }
    })
    .await;
    sinks.told(&daemon, alerts.len()).await;
    let file = home.path().join("config.yaml").display().to_string();
    given.command(&["outbox", "list", "--config", &file, "--format", "table"], b"");
    given.command(&["outbox", "list", "--config", &file, "--format", "json"], b"");
    ask(&daemon, &mut given).await;
    sinks.give(&mut given);
    given.files(&home.path().join("state"));
    let (log, lines) = (daemon.process.err.clone(), daemon.process.out.clone());
    daemon.stop().await;
    given.files(&home.path().join("state"));
    given.add("the daemon's log", log.all().join("\n"));
    given.add("the daemon's lines", lines.all().join("\n"));

    for place in ["GET /api/v1/alerts?limit", "sent to good", "the daemon's lines", "state.db"] {
        given.shows(place, &public());
    }
    for place in ["sent to slack", "sent to am", "sent to picky", "outbox list"] {
        given.shows(place, &["h4rml3ss".to_owned()]);
    }
    given.shows("the daemon's log", &["\"level\":\"TRACE\"".to_owned(), "it is kept as a dead letter".to_owned()]);
    assert!(!given.of("rejects.jsonl").is_empty());
    assert!(alerts.values().any(|alert| text_at(alert, "/summary").contains("[redacted]")));
    given.check();
}

#[test]
fn mistakes_in_a_configuration_give_no_secret_away() {
    let home = tempfile::tempdir().expect("a folder");
    let mut given = Given::default();
    let key = home.path().join("tls.key").display().to_string();
    std::fs::write(&key, format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", OWN[7]))
        .expect("written");
    for text in [
        format!("sources: [{{type: webhook, listen: '127.0.0.1:0', tls: {{cert: {key}, key: {key}}}}}]"),
        format!(
            "sinks: [{{name: a, type: webhook, url: 'htp://u:{}@x/?key={}', headers: {{A: {}, B: 7}}, nope: 1}}]",
            OWN[3], OWN[4], OWN[2]
        ),
        format!(
            "sinks: [{{name: a, type: webhook, url: 'http://x', bearer_token: {}, bearer_token_file: {}}}]",
            OWN[5], OWN[0]
        ),
        format!("sinks: [{{name: a, type: slack, tokn: {}}}]", OWN[5]),
        format!("admin: {{token: {}, listen: nowhere}}", OWN[1]),
        format!("admin: {{token: [{}]}}", OWN[1]),
        format!("admin: {{token: {}", OWN[1]),
    ] {
        let file = configure(home.path(), &text.replace("admin:", "log: {level: trace}\nadmin:"));
        let fixed = std::fs::read_to_string(&file).expect("read");
        let fixed =
            if text.starts_with("admin") { fixed.replacen("admin: {listen: 127.0.0.1:0}\n", "", 1) } else { fixed };
        std::fs::write(&file, fixed).expect("written");
        let file = file.display().to_string();
        for args in
            [&["config", "check", &file][..], &["config", "check", "--offline", &file], &["run", "--config", &file]]
        {
            let (code, text) = given.command(args, b"");
            assert!(code == 2 || args.contains(&"--offline"), "{code} {text}");
        }
    }
    let mut command = kubesiren();
    command.args(["config", "check", "--offline"]).arg(configure(home.path(), ""));
    let output = command
        .env("KUBESIREN_ADMIN__TOKEN", format!("[{}", OWN[6]))
        .env("KUBESIREN_SINKS__0__BEARER_TOKN", OWN[5])
        .output()
        .expect("it runs");
    given.add("a wrong variable", [output.stdout, output.stderr].concat());
    given.check();
}
