//! Links `wasm-host-steps` as `host/build.rs` links the binary, so that what its panics show holds for both.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,--compress-debug-sections=zlib");
}
