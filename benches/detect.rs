//! What detection costs, as a ratio to parsing the same bytes into `serde_json::Value` in the same run, and how that
//! grows: with many rules, with Falco's, with input that was made to be slow, with two threads.
//!
//! `cargo bench --bench detect` prints Criterion's figures for each part and, last, the ratios. See `benches/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a benchmark, not the product"
)]

mod corpus;
mod measure;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, Throughput};
use kubesiren::correlate::{Limits, REPEAT_AFTER};
use kubesiren::engine::{Detected, Detector, RuleSet};
use kubesiren::rule::load::load_text;
use kubesiren::rule::{self, Options, Rules};
use kubesiren::scan::{Input, Scan};
use measure::{cpu, ratio, wall};

/// A named corpus, one event a line.
type Corpus = (&'static str, Arc<[u8]>);

fn compiled(rules: Rules) -> Arc<RuleSet> {
    Arc::new(RuleSet::compile(rules, REPEAT_AFTER))
}

fn builtin() -> Rules {
    rule::load(&Options { builtin: true, ..Options::default() }).rules
}

/// Every line to a DOM, which is dropped.
fn dom(lines: &[u8]) -> u64 {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| black_box(serde_json::from_slice::<serde_json::Value>(line).unwrap()).is_object())
        .filter(|x| *x)
        .count() as u64
}

fn events(lines: &[u8]) -> f64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as f64
}

fn found(rules: &RuleSet, lines: &[u8]) -> Detected {
    let (mut detector, mut found) = (Detector::default(), Detected::default());
    detector.body(rules, &"bench".into(), lines, &mut found).unwrap();
    assert_eq!(found.rejects.count(), 0, "{:?}", found.rejects.kept().first());
    found
}

fn detect(rules: &RuleSet, lines: &[u8]) -> u64 {
    black_box(found(rules, lines).events)
}

/// All that `kubesiren scan` does between opening the file and printing.
fn scan(rules: &Arc<RuleSet>, lines: &Arc<[u8]>, threads: usize) -> u64 {
    let scan = Scan { rules: Arc::clone(rules), cluster: "bench".into(), limits: Limits::default(), threads };
    let reader = Box::new(Cursor::new(Arc::clone(lines)));
    scan.run(vec![Input { name: "bench".to_owned(), reader }]).stats.events
}

fn corpora() -> Vec<Corpus> {
    let mut corpora: Vec<Corpus> = vec![("synthetic", corpus::synthetic(20_000).into())];
    match corpus::lab() {
        Some(lab) => corpora.push(("lab", lab.into())),
        None => println!("SKIPPED: no lab recording beside the project; only the synthetic corpus is measured"),
    }
    corpora
}

/// One row: ours against the DOM, on one thread.
fn against_dom(name: &str, part: &str, turns: usize, lines: &[u8], run: &dyn Fn() -> u64) {
    let (ours, theirs) = ratio(turns, cpu, run, &|| dom(lines));
    let events = events(lines);
    let (per_event, dom_per_event) = (ours / events * 1e9, theirs / events * 1e9);
    let (rate, times) = (lines.len() as f64 / ours / 1e6, theirs / ours);
    println!(
        "{name:<10} {part:<8} {per_event:>12.0} {dom_per_event:>13.0} {:>6.2} {times:>8.1} {rate:>6.0}",
        ours / theirs
    );
}

fn builtin_against_dom(corpora: &[Corpus], turns: usize) {
    let rules = compiled(builtin());
    println!("\nbuilt-in   part     CPU ns/event  DOM ns/event  ratio  times  MB/s");
    for (name, lines) in corpora {
        let matches = found(&rules, lines).matches.len();
        println!("{name}: {} bytes, {} events, {matches} matches", lines.len(), events(lines));
        against_dom(name, "detect", turns, lines, &|| detect(&rules, lines));
        against_dom(name, "scan", turns, lines, &|| scan(&rules, lines, 1));
    }
}

/// Falco's official rules, where its file lies beside the project.
fn falco_against_dom(corpora: &[Corpus], turns: usize) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/falco/k8s_audit_rules.yaml");
    let Ok(text) = std::fs::read_to_string(&file) else {
        return println!("SKIPPED: no rule file of Falco's beside the project");
    };
    let rules = compiled(load_text(&file, &text).rules);
    println!("\nFalco's    part     CPU ns/event  DOM ns/event  ratio  times  MB/s");
    for (name, lines) in corpora {
        println!("{name}: {} matches", found(&rules, lines).matches.len());
        against_dom(name, "detect", turns, lines, &|| detect(&rules, lines));
    }
}

/// How much more all detections cost than those that the first release had, over a whole scan.
fn all_against_first(corpora: &[Corpus], turns: usize) {
    let ids: BTreeSet<&str> = include_str!("corpus/first-detections.txt").lines().collect();
    let mut first = builtin();
    first.rules.retain(|rule| ids.contains(&*rule.info.id));
    first.correlations.retain(|correlation| ids.contains(&*correlation.info.id));
    let of = |rules: &Rules| rules.rules.len() + rules.correlations.len();
    let all = builtin();
    assert!(of(&first) == ids.len() && of(&all) > of(&first), "a detection of the first release has another id");
    println!("\n{} rules and correlations against the first {}", of(&all), of(&first));
    let (all, first) = (compiled(all), compiled(first));
    for (name, lines) in corpora {
        let quiet = quiet(&all, lines);
        for (which, lines) in [("all", lines), ("quiet", &quiet)] {
            let (ours, theirs) = ratio(turns, cpu, &|| scan(&all, lines, 1), &|| scan(&first, lines, 1));
            let per_event = |seconds: f64| seconds / events(lines) * 1e9;
            let (ours, theirs) = (per_event(ours), per_event(theirs));
            println!("{name:<10} {which:<6} {ours:>6.0} ns/event, {theirs:>6.0}: {:.2}", ours / theirs);
        }
    }
}

/// The lines of which no rule is true.
fn quiet(rules: &RuleSet, lines: &[u8]) -> Arc<[u8]> {
    let (mut detector, mut found) = (Detector::default(), Detected::default());
    let quiet = lines.split_inclusive(|byte| *byte == b'\n').filter(|line| {
        found.clear();
        detector.body(rules, &"bench".into(), line, &mut found).unwrap();
        found.matches.is_empty()
    });
    quiet.collect::<Vec<_>>().concat().into()
}

/// How much more many rules cost than few, over a whole scan.
fn many_rules(lines: &Arc<[u8]>, turns: usize) {
    let few = compiled(corpus::rules::rules(50));
    println!("\nrules    scan ns/event  of 50 rules  matches  to load and compile");
    for count in [50, 1_000, 5_000] {
        let text = corpus::rules::text(count);
        let start = Instant::now();
        let many = compiled(load_text(Path::new("made-up.yml"), &text).rules);
        let made = start.elapsed();
        let (ours, theirs) = ratio(turns, cpu, &|| scan(&many, lines, 1), &|| scan(&few, lines, 1));
        let (per_event, matches) = (ours / events(lines) * 1e9, found(&many, lines).matches.len());
        println!("{count:<8} {per_event:>13.0} {:>12.2} {matches:>8} {:>17.2} s", ours / theirs, made.as_secs_f64());
    }
}

/// Bytes a second of what was made to be slow, against the ordinary.
fn worst_cases(lines: &Arc<[u8]>, turns: usize) {
    let mut rules = builtin();
    rules.rules.extend(load_text(Path::new("worst.yml"), corpus::worst::RULES).rules.rules);
    let rules = compiled(rules);
    println!("\nworst case                  ns/kB  of the ordinary  matches");
    for (name, worst) in corpus::worst::corpora() {
        let (theirs, ordinary) = ratio(turns, cpu, &|| detect(&rules, &worst), &|| detect(&rules, lines));
        let per_kb = |seconds: f64, bytes: usize| seconds / bytes as f64 * 1e12;
        let (theirs, ordinary) = (per_kb(theirs, worst.len()), per_kb(ordinary, lines.len()));
        let matches = found(&rules, &worst).matches.len();
        println!("{name:<26} {theirs:>6.0} {:>16.2} {matches:>8}", theirs / ordinary);
    }
}

/// Wall time of two threads against one.
fn threads(lines: &Arc<[u8]>, turns: usize) {
    let rules = compiled(builtin());
    let large: Arc<[u8]> = lines.repeat(8).into();
    let (two, one) = ratio(turns, wall, &|| scan(&rules, &large, 2), &|| scan(&rules, &large, 1));
    println!("\ntwo threads take {:.2} of the time of one: {:.2} times as fast", two / one, one / two);
}

fn main() {
    let smoke = std::env::args().any(|arg| arg == "--test");
    let corpora = corpora();
    let rules = compiled(builtin());
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    for (name, lines) in &corpora {
        let mut group = criterion.benchmark_group(*name);
        group.throughput(Throughput::Bytes(lines.len() as u64));
        group.bench_function("dom", |bencher| bencher.iter(|| dom(lines)));
        group.bench_function("detect", |bencher| bencher.iter(|| detect(&rules, lines)));
        group.bench_function("scan", |bencher| bencher.iter(|| scan(&rules, lines, 1)));
        group.finish();
    }
    criterion.final_summary();
    let turns = if smoke { 1 } else { 11 };
    builtin_against_dom(&corpora, turns);
    falco_against_dom(&corpora, turns);
    all_against_first(&corpora, turns);
    let (_, synthetic) = &corpora[0];
    many_rules(synthetic, turns);
    worst_cases(synthetic, turns);
    threads(synthetic, turns);
}
