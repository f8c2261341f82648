//! The binary: what was typed, to an exit code.

use std::process::ExitCode;

use wasm_host::disk::Disk;

fn main() -> ExitCode {
    wasm_host::cli::main(std::env::args_os(), Disk::default())
}
