//! Durations: "500ms", "1h30m".

use std::time::Duration;

use super::digits;
use crate::config::names::counted;
use crate::config::setting::{FromText, Problem, Written};

/// Units from long to short, with their milliseconds and what else people write for them.
const UNITS: [(&str, u64, &[&str]); 5] = [
    ("d", 86_400_000, &["D", "day", "days"]),
    ("h", 3_600_000, &["H", "hr", "hrs", "hour", "hours"]),
    ("m", 60_000, &["min", "mins", "minute", "minutes"]),
    ("s", 1000, &["S", "sec", "secs", "second", "seconds"]),
    (
        "ms",
        1,
        &[
            "MS",
            "Ms",
            "msec",
            "msecs",
            "millis",
            "millisecond",
            "milliseconds",
        ],
    ),
];

/// A hundred years: longer is a mistake, and adding it to a clock must not overflow.
const MS_MAX: u64 = 36_500 * 86_400_000;

impl Written for Duration {
    fn written(&self) -> String {
        let mut ms = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return "0s".to_owned();
        }
        let mut text = String::new();
        for (unit, unit_ms, _) in UNITS {
            if ms >= unit_ms {
                text.push_str(&format!("{}{unit}", ms / unit_ms));
                ms %= unit_ms;
            }
        }
        text
    }
}

impl FromText for Duration {
    const WHAT: &'static str = "a duration";

    fn from_text(text: &str) -> Result<Duration, Problem> {
        let (number, unit) = digits(text);
        if !number.is_empty() && unit.is_empty() {
            return Err(without_unit(number));
        }
        let mut rest = text;
        let mut ms: u64 = 0;
        let mut before: Option<usize> = None;
        if text.is_empty() {
            return Err(not_a_duration(text));
        }
        while !rest.is_empty() {
            let (number, after) = digits(rest);
            let unit_end = after
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            if number.is_empty() || unit.is_empty() {
                return Err(not_a_duration(text));
            }
            let Some(at) = UNITS.iter().position(|(name, ..)| *name == unit) else {
                return Err(unknown_unit(text, number, unit));
            };
            if before.is_some_and(|before| at <= before) {
                return Err(Problem::new(format!(
                    "the units of {text:?} do not go from long to short"
                ))
                .help("such as \"1d12h\" or \"1h30m\", each unit once"));
            }
            before = Some(at);
            let part = number
                .parse::<u64>()
                .ok()
                .and_then(|number| number.checked_mul(UNITS[at].1));
            match part.and_then(|part| ms.checked_add(part)) {
                Some(sum) if sum <= MS_MAX => ms = sum,
                _ => {
                    return Err(Problem::new(format!(
                        "{text:?} is more than a hundred years"
                    )));
                }
            }
            rest = after;
        }
        Ok(Duration::from_millis(ms))
    }

    fn bare_number(number: &str) -> Option<Problem> {
        Some(match number.parse::<u64>() {
            Ok(_) => without_unit(number),
            Err(_) => not_a_duration(number),
        })
    }
}

fn without_unit(number: &str) -> Problem {
    Problem::new(format!(
        "a duration needs a unit: \"{number}s\" is {}, \"{number}ms\" {}",
        counted(number, "second"),
        counted(number, "millisecond"),
    ))
    .help("units: ms, s, m, h, d")
}

fn not_a_duration(text: &str) -> Problem {
    Problem::new(format!("{text:?} is not a duration")).help(
        "whole numbers with a unit, such as \"500ms\", \"10s\" or \"1h30m\"; units: ms, s, m, h, d",
    )
}

fn unknown_unit(text: &str, number: &str, unit: &str) -> Problem {
    if unit.starts_with('.') || unit.contains([' ', '-', '_', ',']) {
        return not_a_duration(text);
    }
    let problem = Problem::new(format!("unknown unit {unit:?} in {text:?}"));
    let alias = UNITS.iter().find(|(_, _, aliases)| aliases.contains(&unit));
    match (unit, alias) {
        (_, Some((name, ..))) => problem.help(format!("write \"{number}{name}\"")),
        ("M", _) => problem.help(format!("\"{number}m\" is {}", counted(number, "minute"))),
        ("w" | "week" | "weeks", _) => problem.help("write weeks in days: \"7d\""),
        ("us" | "µs" | "ns", _) => problem.help("the shortest unit is ms"),
        _ => problem.help("units: ms, s, m, h, d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Result<u64, String> {
        Duration::from_text(text)
            .map(|duration| u64::try_from(duration.as_millis()).expect("bounded"))
            .map_err(|problem| problem.message)
    }

    #[test]
    fn durations_are_exact() {
        let cases = [
            ("0s", 0),
            ("500ms", 500),
            ("1s", 1000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("90m", 5_400_000),
        ];
        for (text, expected) in cases {
            assert_eq!(ms(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_written_means_the_same() {
        for (text, expected) in [
            ("0ms", "0s"),
            ("90m", "1h30m"),
            ("1500ms", "1s500ms"),
            ("24h", "1d"),
        ] {
            let duration = Duration::from_text(text).expect("valid");
            assert_eq!(duration.written(), expected);
            assert_eq!(Duration::from_text(expected), Ok(duration));
        }
    }

    #[test]
    fn text_that_is_not_a_duration_is_refused() {
        let bad = [
            "",
            "s",
            "10 s",
            "1.5s",
            "-1s",
            "+1s",
            "1s1s",
            "1s1h",
            "10parsec",
            "1h30",
            "10S",
            "36501d",
            "99999999999999999999s",
            "1h 30m",
            "1_000ms",
        ];
        for text in bad {
            assert!(ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_shown_both_ways() {
        let expected = "a duration needs a unit: \"10s\" is 10 seconds, \"10ms\" 10 milliseconds";
        assert_eq!(ms("10"), Err(expected.to_owned()));
        let problem = Duration::bare_number("10").expect("always");
        assert_eq!(problem.message, expected);
    }

    #[test]
    fn the_unit_that_was_meant_is_named() {
        let help = |text: &str| Duration::from_text(text).expect_err("wrong unit").help;
        assert_eq!(help("10sec").as_deref(), Some("write \"10s\""));
        assert_eq!(help("5min").as_deref(), Some("write \"5m\""));
        assert_eq!(help("1M").as_deref(), Some("\"1m\" is 1 minute"));
        assert_eq!(help("10us").as_deref(), Some("the shortest unit is ms"));
    }
}
