//! An event that no rule is true of costs no allocation, once the scratch has grown.

#![expect(unsafe_code, reason = "an allocator that counts has to implement an unsafe trait; it only passes calls on")]
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use kubesiren::correlate::REPEAT_AFTER;
use kubesiren::engine::{Detected, Detector, RuleSet};
use kubesiren::rule::{self, Options};

/// Counts what the current thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn builtin() -> RuleSet {
    let loaded = rule::load(&Options { builtin: true, ..Options::default() });
    RuleSet::compile(loaded.rules, REPEAT_AFTER)
}

struct Worker {
    rules: RuleSet,
    cluster: Arc<str>,
    detector: Detector,
    found: Detected,
}

impl Worker {
    fn new() -> Self {
        Self { rules: builtin(), cluster: "c".into(), detector: Detector::default(), found: Detected::default() }
    }

    /// What looking at a body allocates, and how many matches and refused pieces it has.
    fn look(&mut self, body: &[u8]) -> (u64, u64) {
        self.found.clear();
        let before = ALLOCATIONS.with(Cell::get);
        self.detector.body(&self.rules, &self.cluster, body, &mut self.found).unwrap();
        let allocated = ALLOCATIONS.with(Cell::get) - before;
        (allocated, self.found.matches.len() as u64 + self.found.rejects.count())
    }
}

fn event(number: u32, verb: &str, resource: &str, name: &str, body: &str) -> String {
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"00000000-0000-4000-8000-{number:012}","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/default/{resource}/{name}?labelSelector=a\u003db\u0026limit=500","verb":"{verb}","user":{{"username":"system:serviceaccount:kube-system:replicaset-controller","groups":["system:serviceaccounts","system:authenticated"],"extra":{{"a.b/c":["\u003cx\u003e"]}}}},"sourceIPs":["10.0.0.1"],"userAgent":"kube-controller-manager/v1.36.0 \"quoted\"","objectRef":{{"resource":"{resource}","namespace":"default","name":"{name}","apiGroup":"apps","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":200}},"requestObject":{body},"responseObject":{body},"requestReceivedTimestamp":"2026-11-21T04:15:56.715875Z","stageTimestamp":"2026-11-21T04:15:56.725875Z","annotations":{{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"RBAC: \"x\""}}}}"#
    )
}

/// Everyday requests, with bodies that are large, deep, and full of escapes.
fn everyday() -> Vec<String> {
    let big = format!(r#"{{"kind":"Deployment","data":["{}"]}}"#, "x\\n\\u003c".repeat(2_000));
    let deep = format!("{}1{}", "{\"a\":[".repeat(40), "]}".repeat(40));
    let pod = r#"{"spec":{"containers":[{"name":"\u003ca\u003e","image":"registry.k8s.io/pause:3.9","command":["a","b"],"securityContext":{"runAsNonRoot":true}}]}}"#;
    (0..60)
        .map(|number| {
            let (verb, resource) =
                [("get", "deployments"), ("update", "replicasets"), ("watch", "deployments"), ("patch", "deployments")]
                    [number as usize % 4];
            let body = [big.as_str(), deep.as_str(), pod, "{}"][number as usize / 4 % 4];
            event(number, verb, resource, "web", body)
        })
        .collect()
}

#[test]
fn events_that_match_nothing_allocate_nothing() {
    let mut worker = Worker::new();
    let events = everyday();
    let lines = events.join("\n");
    let list = format!(
        r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{}]}}"#,
        events.join(",")
    );
    for body in [lines, list] {
        assert_eq!(worker.look(body.as_bytes()).1, 0, "{:?}", worker.found);
        assert_eq!(worker.found.events, events.len() as u64);
        assert_eq!(worker.look(body.as_bytes()), (0, 0));
    }
}

#[test]
fn recorded_events_that_match_nothing_allocate_nothing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/lab/benign.jsonl.zst");
    let Ok(packed) = std::fs::File::open(&path) else {
        eprintln!("SKIPPED: no recorded events beside the project");
        return;
    };
    let mut text = String::new();
    zstd::Decoder::new(packed).unwrap().read_to_string(&mut text).unwrap();
    let mut worker = Worker::new();
    // Grows the scratch as far as this log can.
    worker.look(text.as_bytes());
    let mut quiet = 0;
    for line in text.lines() {
        let (allocated, found) = worker.look(line.as_bytes());
        if found == 0 {
            quiet += 1;
            assert_eq!(allocated, 0, "{line}");
        }
    }
    assert!(quiet > 20_000, "{quiet}");
}
