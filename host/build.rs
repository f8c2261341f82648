//! Reads the versions of wasmtime and RocksDB from the lock file, for `--version`. Compresses the binary's line tables.

use std::path::Path;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let manifest = std::env::var("CARGO_MANIFEST_DIR")?;
    let lock = Path::new(&manifest).join("../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let text =
        std::fs::read_to_string(&lock).with_context(|| format!("read {}", lock.display()))?;
    let version = |package: &str| {
        let name = format!("name = \"{package}\"");
        let mut lines = text.lines().skip_while(|line| *line != name);
        let line = lines.nth(1).unwrap_or_default();
        line.trim_start_matches("version = ")
            .trim_matches('"')
            .to_owned()
    };
    println!(
        "cargo::rustc-env=WASM_HOST_WASMTIME_VERSION={}",
        version("wasmtime")
    );
    // The crate's version is its own, a plus sign, and RocksDB's.
    let rocksdb = version("librocksdb-sys");
    let rocksdb = rocksdb.split('+').nth(1).unwrap_or("unknown");
    println!("cargo::rustc-env=WASM_HOST_ROCKSDB_VERSION={rocksdb}");
    // A third of the binary otherwise. A panic that shows a backtrace unpacks them.
    println!("cargo::rustc-link-arg-bins=-Wl,--compress-debug-sections=zlib");
    Ok(())
}
