//! Rates: "4000/s".

use std::cmp::Ordering;
use std::time::Duration;

use super::digits;
use crate::config::setting::{FromText, Problem, Written};

/// Messages per unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How many messages; at least 1.
    pub messages: u64,
    /// In how long.
    pub per: Per,
}

/// The time of a [`Rate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    /// `/s`.
    Second,
    /// `/m`.
    Minute,
    /// `/h`.
    Hour,
}

impl Rate {
    /// As messages per second.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a rate beyond 2^53 a second is as good as no bound"
    )]
    pub fn per_second(self) -> f64 {
        self.messages as f64 / self.per.duration().as_secs_f64()
    }
}

impl Per {
    /// How long it is.
    pub fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Per::Second => 1,
            Per::Minute => 60,
            Per::Hour => 3600,
        })
    }
}

impl PartialOrd for Rate {
    fn partial_cmp(&self, other: &Rate) -> Option<Ordering> {
        self.per_second().partial_cmp(&other.per_second())
    }
}

impl Written for Rate {
    fn written(&self) -> String {
        let per = match self.per {
            Per::Second => "s",
            Per::Minute => "m",
            Per::Hour => "h",
        };
        format!("{}/{per}", self.messages)
    }
}

impl FromText for Rate {
    const WHAT: &'static str = "a rate";

    fn from_text(text: &str) -> Result<Rate, Problem> {
        let (number, rest) = digits(text);
        if !number.is_empty() && rest.is_empty() {
            return Err(without_unit(number));
        }
        let (false, Some(unit)) = (number.is_empty(), rest.strip_prefix('/')) else {
            return Err(not_a_rate(text));
        };
        let per = match unit {
            "s" => Per::Second,
            "m" => Per::Minute,
            "h" => Per::Hour,
            _ => {
                let problem = Problem::new(format!("unknown unit {unit:?} in {text:?}"));
                return Err(match unit.to_lowercase().as_str() {
                    "sec" | "second" => problem.help(format!("write \"{number}/s\"")),
                    "min" | "minute" => problem.help(format!("write \"{number}/m\"")),
                    "hr" | "hour" => problem.help(format!("write \"{number}/h\"")),
                    _ => problem.help("units: /s, /m, /h"),
                });
            }
        };
        match number.parse() {
            Ok(0) => Err(Problem::new("a rate is at least 1 message")
                .help("a slower one has a longer unit: \"1/m\", \"1/h\"")),
            Ok(messages) => Ok(Rate { messages, per }),
            Err(_) => Err(Problem::new(format!("{text:?} is too large for a rate"))),
        }
    }

    fn bare_number(number: &str) -> Option<Problem> {
        Some(match number.parse::<u64>() {
            Ok(_) => without_unit(number),
            Err(_) => not_a_rate(number),
        })
    }
}

fn without_unit(number: &str) -> Problem {
    Problem::new(format!(
        "a rate needs a unit: \"{number}/s\" is {number} a second, \"{number}/m\" {number} a minute"
    ))
    .help("units: /s, /m, /h")
}

fn not_a_rate(text: &str) -> Problem {
    Problem::new(format!("{text:?} is not a rate"))
        .help("whole messages in a time, such as \"4000/s\", \"30/m\" or \"1/h\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_unit() {
        let rate =
            |text: &str| Rate::from_text(text).map(|rate| (rate.per_second(), rate.written()));
        assert_eq!(rate("4000/s"), Ok((4000.0, "4000/s".to_owned())));
        assert_eq!(rate("30/m"), Ok((0.5, "30/m".to_owned())));
        assert_eq!(rate("3600/h"), Ok((1.0, "3600/h".to_owned())));
        for bad in [
            "",
            "4000",
            "/s",
            "0/s",
            "1.5/s",
            "-1/s",
            "10/d",
            "10 /s",
            "10/s/s",
            "99999999999999999999/s",
        ] {
            assert!(rate(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Rate::bare_number("4000").expect("always").message,
            "a rate needs a unit: \"4000/s\" is 4000 a second, \"4000/m\" 4000 a minute"
        );
    }
}
