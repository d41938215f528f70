//! Integration tests: one binary, so that the library is linked once.

mod fake;
#[allow(dead_code, clippy::print_stderr, reason = "what only the example uses, and shows as it goes on")]
mod faults;

#[cfg(feature = "kafka")]
#[path = "fake/kafka.rs"]
mod broker;

#[path = "it/alertmanager.rs"]
mod alertmanager;
#[path = "it/answers.rs"]
mod answers;
#[path = "it/canary.rs"]
mod canary;
#[path = "it/cli.rs"]
mod cli;
#[path = "it/clock.rs"]
mod clock;
#[path = "it/corpora.rs"]
mod corpora;
#[path = "it/coverage.rs"]
mod coverage;
#[path = "it/crash.rs"]
mod crash;
#[path = "it/daemon.rs"]
mod daemon;
#[path = "it/demo.rs"]
mod demo;
#[path = "it/deploy.rs"]
mod deploy;
#[path = "it/disk.rs"]
mod disk;
#[path = "it/docs.rs"]
mod docs;
#[path = "it/envelopes.rs"]
mod envelopes;
#[path = "it/evasion.rs"]
mod evasion;
#[path = "it/falco.rs"]
mod falco;
#[path = "it/fences.rs"]
mod fences;
#[path = "it/file.rs"]
mod file;
#[path = "it/gates.rs"]
mod gates;
#[path = "it/helm.rs"]
mod helm;
#[path = "it/judge.rs"]
mod judge;
#[cfg(feature = "kafka")]
#[path = "it/kafka.rs"]
mod kafka;
#[cfg(feature = "kafka")]
#[path = "it/kafka_journal.rs"]
mod kafka_journal;
#[cfg(feature = "kafka")]
#[path = "it/kafka_real.rs"]
mod kafka_real;
#[path = "it/killed.rs"]
mod killed;
#[path = "it/listener.rs"]
mod listener;
#[path = "it/operators.rs"]
mod operators;
#[path = "it/order.rs"]
mod order;
#[path = "it/outbox.rs"]
mod outbox;
#[path = "it/page.rs"]
mod page;
#[path = "it/policy.rs"]
mod policy;
#[path = "it/prometheus.rs"]
mod prometheus;
#[path = "it/random.rs"]
mod random;
#[path = "it/reference.rs"]
mod reference;
#[path = "it/reload.rs"]
mod reload;
#[path = "it/replay.rs"]
mod replay;
#[path = "it/report.rs"]
mod report;
#[path = "it/rsyslog.rs"]
mod rsyslog;
#[path = "it/rules.rs"]
mod rules;
#[path = "it/scan.rs"]
mod scan;
#[path = "it/scenarios.rs"]
mod scenarios;
#[path = "it/secrets.rs"]
mod secrets;
#[path = "it/semantics.rs"]
mod semantics;
#[path = "it/silence.rs"]
mod silence;
#[path = "it/sinks.rs"]
mod sinks;
#[path = "it/support.rs"]
mod support;
#[path = "it/tools.rs"]
mod tools;
#[path = "it/tuning.rs"]
mod tuning;
#[path = "it/unwrap.rs"]
mod unwrap;
#[path = "it/vocabulary.rs"]
mod vocabulary;
