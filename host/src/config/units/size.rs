//! Sizes in bytes: "64MiB", "1.5GB".

use super::digits;
use crate::config::setting::{FromText, Problem, Written};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Kibibytes.
    pub(in crate::config) const fn kib(kib: u64) -> ByteSize {
        ByteSize(kib << 10)
    }

    /// Mebibytes.
    pub(in crate::config) const fn mib(mib: u64) -> ByteSize {
        ByteSize(mib << 20)
    }

    /// A greater size is a mistake.
    pub(in crate::config) const MAX: ByteSize = ByteSize(1 << 60);

    /// The number.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// Units with their bytes, binary before decimal.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

impl Written for ByteSize {
    /// In the unit that needs the fewest digits and loses nothing.
    fn written(&self) -> String {
        if self.0 == 0 {
            return "0B".to_owned();
        }
        let exact = UNITS
            .iter()
            .filter(|(_, bytes)| self.0.is_multiple_of(*bytes));
        match exact.min_by_key(|(_, bytes)| self.0 / bytes) {
            Some((unit, bytes)) => format!("{}{unit}", self.0 / bytes),
            None => format!("{}B", self.0),
        }
    }
}

impl FromText for ByteSize {
    const WHAT: &'static str = "a size";

    fn from_text(text: &str) -> Result<ByteSize, Problem> {
        let (whole, rest) = digits(text);
        let (fraction, unit) = match rest.strip_prefix('.').map(digits) {
            Some((fraction, unit)) if !fraction.is_empty() => (fraction, unit),
            Some(_) => return Err(not_a_size(text)),
            None => ("", rest),
        };
        if whole.is_empty() {
            return Err(not_a_size(text));
        }
        if unit.is_empty() {
            return Err(without_unit(whole, fraction));
        }
        let Some((_, unit_bytes)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown_unit(text, unit));
        };
        let too_large = || Problem::new(format!("{text:?} is too large for a size"));
        let fraction = fraction.trim_end_matches('0');
        // Twenty digits and a unit of 2^30 fit in 128 bits; a longer fraction is not a whole number of bytes.
        if whole.len() > 20 {
            return Err(too_large());
        }
        let fractional = || {
            Problem::new(format!("{text:?} is not a whole number of bytes"))
                .help("write it in a smaller unit")
        };
        let Some(scale) = 10u128.checked_pow(u32::try_from(fraction.len()).unwrap_or(u32::MAX))
        else {
            return Err(fractional());
        };
        let scaled = format!("{whole}{fraction}")
            .parse::<u128>()
            .ok()
            .and_then(|number| number.checked_mul(u128::from(*unit_bytes)))
            .ok_or_else(too_large)?;
        if !scaled.is_multiple_of(scale) {
            return Err(fractional());
        }
        match u64::try_from(scaled / scale) {
            Ok(bytes) if bytes <= ByteSize::MAX.0 => Ok(ByteSize(bytes)),
            _ => Err(too_large()),
        }
    }

    fn bare_number(number: &str) -> Option<Problem> {
        let (whole, rest) = digits(number);
        match rest.strip_prefix('.') {
            None if rest.is_empty() => Some(without_unit(whole, "")),
            Some(fraction) if fraction.bytes().all(|b| b.is_ascii_digit()) => {
                Some(without_unit(whole, fraction))
            }
            _ => Some(not_a_size(number)),
        }
    }
}

/// A number that is only sensible as bytes is shown as bytes and as KiB, another as the two kinds of megabytes.
fn without_unit(whole: &str, fraction: &str) -> Problem {
    let point = if fraction.is_empty() { "" } else { "." };
    let number = format!("{whole}{point}{fraction}");
    let (one, other) = match whole.parse::<u64>() {
        Ok(bytes) if bytes >= 4096 && fraction.is_empty() => ("B", "KiB"),
        _ => ("MiB", "MB"),
    };
    let read = |unit: &str| {
        let bytes = ByteSize::from_text(&format!("{number}{unit}"));
        let bytes = bytes.map_or_else(|_| "too much".to_owned(), |size| grouped(size.0));
        format!("\"{number}{unit}\" is {bytes} bytes")
    };
    Problem::new(format!(
        "a size needs a unit: {}, {}",
        read(one),
        read(other)
    ))
    .help("units: B, kB, MB, GB (1000), KiB, MiB, GiB (1024)")
}

/// With a comma between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn not_a_size(text: &str) -> Problem {
    Problem::new(format!("{text:?} is not a size")).help(
        "a number with a unit, such as \"64MiB\" or \"500kB\"; units: B, kB, MB, GB, KiB, MiB, GiB",
    )
}

fn unknown_unit(text: &str, unit: &str) -> Problem {
    if unit.starts_with(|c: char| !c.is_ascii_alphabetic()) {
        return not_a_size(text);
    }
    let number = text.strip_suffix(unit).unwrap_or(text);
    let problem = Problem::new(format!("unknown unit {unit:?} in {text:?}"));
    let both = |decimal: &str, binary: &str| {
        format!("did you mean \"{number}{binary}\" (1024) or \"{number}{decimal}\" (1000)?")
    };
    let help = match unit.to_lowercase().as_str() {
        "k" => both("kB", "KiB"),
        "m" => both("MB", "MiB"),
        "g" => both("GB", "GiB"),
        "b" | "byte" | "bytes" => format!("write \"{number}B\""),
        "tb" | "tib" | "t" => "the largest unit is GiB".to_owned(),
        lower => match UNITS.iter().find(|(name, _)| name.to_lowercase() == lower) {
            Some((name, _)) => format!("write \"{number}{name}\""),
            None => "units: B, kB, MB, GB (1000), KiB, MiB, GiB (1024)".to_owned(),
        },
    };
    problem.help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> Result<u64, String> {
        ByteSize::from_text(text)
            .map(ByteSize::bytes)
            .map_err(|problem| problem.message)
    }

    #[test]
    fn sizes_are_exact() {
        let cases = [
            ("0B", 0),
            ("1kB", 1000),
            ("1KiB", 1024),
            ("64MiB", 67_108_864),
            ("64MB", 64_000_000),
            ("1.5GiB", 1_610_612_736),
            ("0.5kB", 500),
            ("1.000B", 1),
            ("2GB", 2_000_000_000),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_written_means_the_same_and_is_short() {
        for text in [
            "0B", "64MiB", "64MB", "8KiB", "100B", "1GiB", "1536MiB", "1025B", "500kB",
        ] {
            let size = ByteSize::from_text(text).expect("valid");
            assert_eq!(size.written(), text);
        }
    }

    #[test]
    fn text_that_is_not_a_size_is_refused() {
        let bad = [
            "",
            "MiB",
            "64 MiB",
            "-1B",
            "64mb",
            "64K",
            "0.1KiB",
            "1.B",
            ".5GB",
            "1e3B",
            "1.5B",
            "99999999999999999999GiB",
            "1_000B",
            "64MiBs",
            "2000000000GiB",
        ];
        for text in bad {
            assert!(size(text).is_err(), "{text}");
        }
        let long = format!("1.{}1B", "0".repeat(60));
        assert!(size(&long).is_err(), "a fraction of a byte");
    }

    #[test]
    fn a_bare_number_is_shown_both_ways() {
        let expected =
            "a size needs a unit: \"64MiB\" is 67,108,864 bytes, \"64MB\" is 64,000,000 bytes";
        assert_eq!(size("64"), Err(expected.to_owned()));
        let problem = ByteSize::bare_number("65536").expect("always");
        assert_eq!(
            problem.message,
            "a size needs a unit: \"65536B\" is 65,536 bytes, \"65536KiB\" is 67,108,864 bytes"
        );
    }

    #[test]
    fn the_unit_that_was_meant_is_named() {
        let help = |text: &str| ByteSize::from_text(text).expect_err("wrong unit").help;
        assert_eq!(help("64mb").as_deref(), Some("write \"64MB\""));
        assert_eq!(help("8KB").as_deref(), Some("write \"8kB\""));
        assert_eq!(
            help("64M").as_deref(),
            Some("did you mean \"64MiB\" (1024) or \"64MB\" (1000)?")
        );
        assert_eq!(help("1TiB").as_deref(), Some("the largest unit is GiB"));
    }
}
