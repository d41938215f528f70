//! What detection costs, as a ratio to parsing the same bytes into `serde_json::Value` in the same run.
//!
//! `cargo bench --bench detect` prints Criterion's figures for each part and, last, the ratios: user CPU of one thread,
//! the two sides taking turns, the median of many turns. See `benches/README.md`.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a benchmark, not the product")]

mod corpus;

use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use kubesiren::correlate::{Limits, REPEAT_AFTER};
use kubesiren::engine::{Detected, Detector, RuleSet};
use kubesiren::rule::{self, Options};
use kubesiren::scan::{Input, Scan};

fn builtin() -> Arc<RuleSet> {
    let loaded = rule::load(&Options { builtin: true, ..Options::default() });
    Arc::new(RuleSet::compile(loaded.rules, REPEAT_AFTER))
}

/// Every line to a DOM, which is dropped.
fn dom(lines: &[u8]) -> usize {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| black_box(serde_json::from_slice::<serde_json::Value>(line).unwrap()).is_object())
        .filter(|x| *x)
        .count()
}

fn detect(rules: &RuleSet, lines: &[u8]) -> u64 {
    let (mut detector, mut found) = (Detector::default(), Detected::default());
    detector.body(rules, &"bench".into(), lines, &mut found).unwrap();
    black_box(found.events)
}

fn matches(rules: &RuleSet, lines: &[u8]) -> usize {
    let (mut detector, mut found) = (Detector::default(), Detected::default());
    detector.body(rules, &"bench".into(), lines, &mut found).unwrap();
    found.matches.len()
}

/// All that `kubesiren scan --threads 1` does between opening the file and printing.
fn scan(rules: &Arc<RuleSet>, lines: &Arc<[u8]>) -> u64 {
    let scan = Scan { rules: Arc::clone(rules), cluster: "bench".into(), limits: Limits::default(), threads: 1 };
    let reader = Box::new(Cursor::new(Arc::clone(lines)));
    scan.run(vec![Input { name: "bench".to_owned(), reader }], &mut |_| {}).stats.events
}

fn corpora() -> Vec<(&'static str, Arc<[u8]>)> {
    let mut corpora: Vec<(&'static str, Arc<[u8]>)> = vec![("synthetic", corpus::synthetic(20_000).into())];
    match corpus::lab() {
        Some(lab) => corpora.push(("lab", lab.into())),
        None => println!("SKIPPED: no lab recording beside the project; only the synthetic corpus is measured"),
    }
    corpora
}

/// User CPU of this thread so far, from the kernel's accounting.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

/// The two sides take turns, so that a machine that is slow for a while is slow for both.
fn ratio(turns: usize, ours: impl Fn() -> u64, theirs: impl Fn() -> usize) -> (f64, f64) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        let start = cpu();
        black_box(ours());
        let middle = cpu();
        black_box(theirs());
        a.push(middle - start);
        b.push(cpu() - middle);
    }
    (median(a), median(b))
}

fn ratios(rules: &Arc<RuleSet>, corpora: &[(&str, Arc<[u8]>)], turns: usize) {
    println!("\ncorpus      part     CPU ns/event   DOM ns/event   ratio   MB/s");
    for (name, lines) in corpora {
        let events = dom(lines) as f64;
        println!("{name}: {} bytes, {events} events, {} matches", lines.len(), matches(rules, lines));
        let parts: [(&str, &dyn Fn() -> u64); 2] =
            [("detect", &|| detect(rules, lines)), ("scan", &|| scan(rules, lines))];
        for (part, run) in parts {
            let (ours, theirs) = ratio(turns, run, || dom(lines));
            let (per_event, dom_per_event) = (ours / events * 1e9, theirs / events * 1e9);
            let rate = lines.len() as f64 / ours / 1e6;
            println!("{name:<11} {part:<8} {per_event:>12.0} {dom_per_event:>14.0} {:>7.2} {rate:>6.0}", ours / theirs);
        }
    }
}

/// How much more many rules cost than few.
fn many_rules(lines: &Arc<[u8]>, turns: usize) {
    let compiled = |count| Arc::new(RuleSet::compile(corpus::rules::rules(count), REPEAT_AFTER));
    let few = compiled(50);
    let events = dom(lines) as f64;
    println!("\nrules     scan ns/event   of 50 rules   matches");
    for count in [50, 1_000, 5_000] {
        let many = compiled(count);
        let (ours, theirs) = ratio(turns, || scan(&many, lines), || usize::try_from(scan(&few, lines)).unwrap());
        println!("{count:<8} {:>14.0} {:>13.2} {:>9}", ours / events * 1e9, ours / theirs, matches(&many, lines));
    }
}

fn main() {
    if std::env::var_os("ONLY_MANY").is_some() {
        return many_rules(&corpora()[0].1, 5);
    }
    let smoke = std::env::args().any(|arg| arg == "--test");
    let rules = builtin();
    let corpora = corpora();
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    for (name, lines) in &corpora {
        let mut group = criterion.benchmark_group(*name);
        group.throughput(Throughput::Bytes(lines.len() as u64));
        group.bench_function("dom", |bencher| bencher.iter(|| dom(lines)));
        group.bench_function("detect", |bencher| bencher.iter(|| detect(&rules, lines)));
        group.bench_function("scan", |bencher| bencher.iter(|| scan(&rules, lines)));
        group.finish();
    }
    criterion.final_summary();
    let turns = if smoke { 1 } else { 21 };
    ratios(&rules, &corpora, turns);
    many_rules(&corpora[0].1, turns);
}
