//! The binary: what was typed, to an exit code.

use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    wasm_host::cli::main(std::env::args_os(), Arc::new(()))
}
