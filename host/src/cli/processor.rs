//! What the processor must be able to do. RocksDB is compiled for it, and would end the process with an illegal instruction.

use super::exit::{self, Failure};

/// Refuses a processor that lacks what this binary was built for.
pub(super) fn check() -> Result<(), Failure> {
    refuse_without(&needed())
}

/// Instructions that scripts/rocksdb lets the compiler use, and whether they are there.
#[cfg(target_arch = "x86_64")]
fn needed() -> Vec<(&'static str, bool)> {
    use std::arch::is_x86_feature_detected;
    vec![
        ("SSE4.2", is_x86_feature_detected!("sse4.2")),
        ("POPCNT", is_x86_feature_detected!("popcnt")),
        ("PCLMULQDQ", is_x86_feature_detected!("pclmulqdq")),
    ]
}

/// Instructions that scripts/rocksdb lets the compiler use, and whether they are there. RocksDB asks for the others itself.
#[cfg(target_arch = "aarch64")]
fn needed() -> Vec<(&'static str, bool)> {
    vec![("CRC32", std::arch::is_aarch64_feature_detected!("crc"))]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn needed() -> Vec<(&'static str, bool)> {
    Vec::new()
}

fn refuse_without(needed: &[(&str, bool)]) -> Result<(), Failure> {
    let lacking: Vec<&str> = needed
        .iter()
        .filter(|(_, is_there)| !is_there)
        .map(|(name, _)| *name)
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        exit::HOST,
        format!(
            "this processor lacks {}, which this binary was built for: take one made after 2012; in a virtual machine, give it a CPU model that does not hide them",
            lacking.join(" and ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_lacking_is_named() {
        let refused =
            |needed| refuse_without(needed).map_err(|failure| (failure.code, failure.text));
        assert_eq!(refused(&[("ONE", true), ("TWO", true)]), Ok(()));
        let (code, text) = refused(&[("ONE", false), ("TWO", true), ("THREE", false)]).unwrap_err();
        assert_eq!(code, exit::HOST);
        assert!(
            text.starts_with("this processor lacks ONE and THREE, which"),
            "{text}"
        );
    }

    #[test]
    fn what_rocksdb_is_compiled_with_is_needed() {
        let script = include_str!("../../../scripts/rocksdb");
        for flags in [
            "x86_64) flags+=(-msse4.2 -mpclmul) ;;",
            "aarch64) flags+=(-march=armv8-a+crc+aes+crypto) ;;",
        ] {
            assert!(script.contains(flags), "`needed` names what `{flags}` uses");
        }
    }
}
