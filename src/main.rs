//! The `kubesiren` binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    kubesiren::cli::main()
}
