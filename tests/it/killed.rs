//! The fault harness, for some seconds; `examples/faults.rs` runs it for longer.

use std::path::PathBuf;

use crate::faults::{Options, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_at_any_moment_loses_and_invents_nothing() {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_kubesiren"));
    let report = run(Options { program, kills: 12, seed: 7, progress: |_, _| {} }).await;
    assert!(report.expected > 0, "{report}");
    let broken = (report.missing, report.invented, report.duplicates, report.undelivered);
    assert_eq!(broken, (0, 0, 0, 0), "{report}");
    assert!(report.errors.is_empty(), "{:?}", report.errors);
}
