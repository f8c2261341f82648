//! What the processor must be able to do. RocksDB as `scripts/rocksdb` compiles it does not ask, and would end the process with an
//! illegal instruction, in constructors before `main` already. A binary with RocksDB as cargo compiles it is held to the same.

use std::io::Write as _;

use super::exit;

/// Called by the C library, before the constructors of the C++.
#[used]
#[expect(
    unsafe_code,
    reason = "nothing else comes before the constructors of C++; what it calls needs no runtime"
)]
#[unsafe(link_section = ".init_array.00100")]
static BEFORE_CONSTRUCTORS: extern "C" fn() = check;

/// Ends the process on a processor that lacks what this binary was built for.
extern "C" fn check() {
    if let Some(refusal) = refusal(&needed()) {
        let _ = writeln!(std::io::stderr(), "error: {refusal}");
        std::process::exit(i32::from(exit::HOST));
    }
}

/// Instructions that `scripts/rocksdb` lets the compiler use, and whether they are there.
#[cfg(target_arch = "x86_64")]
fn needed() -> [(&'static str, bool); 3] {
    use std::arch::is_x86_feature_detected;
    [
        ("SSE4.2", is_x86_feature_detected!("sse4.2")),
        ("POPCNT", is_x86_feature_detected!("popcnt")),
        ("PCLMULQDQ", is_x86_feature_detected!("pclmulqdq")),
    ]
}

/// Instructions that `scripts/rocksdb` lets the compiler use, and whether they are there. RocksDB asks for the others itself.
#[cfg(target_arch = "aarch64")]
fn needed() -> [(&'static str, bool); 1] {
    [("CRC32", std::arch::is_aarch64_feature_detected!("crc"))]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn needed() -> [(&'static str, bool); 0] {
    []
}

fn refusal(needed: &[(&str, bool)]) -> Option<String> {
    let lacking: Vec<&str> = needed
        .iter()
        .filter(|(_, is_there)| !is_there)
        .map(|(name, _)| *name)
        .collect();
    (!lacking.is_empty()).then(|| {
        format!(
            "this processor lacks {}, which this binary was built for: take one made after 2012, and in a virtual machine a CPU model that does not hide them",
            lacking.join(" and ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_lacking_is_named() {
        assert_eq!(refusal(&[("ONE", true), ("TWO", true)]), None);
        let text = refusal(&[("ONE", false), ("TWO", true), ("THREE", false)]);
        let begin = "this processor lacks ONE and THREE, which";
        assert!(
            text.as_ref().is_some_and(|text| text.starts_with(begin)),
            "{text:?}"
        );
    }

    #[test]
    fn what_rocksdb_is_compiled_with_is_what_is_needed() {
        let script = include_str!("../../../scripts/rocksdb");
        for flags in [
            "x86_64) flags+=(-msse4.2 -mpclmul) ;;",
            "aarch64) flags+=(-march=armv8-a+crc+aes+crypto) ;;",
        ] {
            assert!(script.contains(flags), "`needed` names what {flags:?} uses");
        }
    }
}
