//! `swap`: how new code of a stage is watched, with defaults and their reasons.

use std::time::Duration;

use serde::Serialize;

use super::setting::{FromText, Problem, Setting, Written};
use super::units::ByteSize;
use crate::model::ProbationLength;

/// `swap`: how new code of a stage is watched.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Swap {
    /// How long the code before is at hand. Default: 1 min, and at least 100 messages, because what is wrong with code shows soon.
    pub probation: Setting<ProbationText>,
    /// How many times as much processor time a message may take as before. Default: `off`, because a machine that does other work
    /// too says little.
    pub max_slowdown: Setting<Slowdown>,
    /// How many bytes of output and of old state may be held, where new code begins with its output held: beyond that the code before
    /// comes back. Default: 1 GiB.
    pub hold_bytes: Setting<ByteSize>,
    /// How long a migration of the state may take before the code before comes back. Default: 10 min, because nothing of the stage is
    /// processed meanwhile.
    pub migration_timeout: Setting<Duration>,
}

impl Default for Swap {
    fn default() -> Swap {
        Swap {
            probation: ProbationText(Some(ProbationLength::Time(60_000))).into(),
            max_slowdown: Slowdown(0).into(),
            hold_bytes: ByteSize::mib(1024).into(),
            migration_timeout: Duration::from_secs(600).into(),
        }
    }
}

/// How long new code is watched, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbationText(pub Option<ProbationLength>);

impl Written for ProbationText {
    fn written(&self) -> String {
        match self.0 {
            None => "none".to_owned(),
            Some(ProbationLength::Time(ms)) => Duration::from_millis(ms).written(),
            Some(length) => length.to_string(),
        }
    }
}

impl FromText for ProbationText {
    const WHAT: &'static str = "a probation";

    fn from_text(text: &str) -> Result<ProbationText, Problem> {
        if text == "none" {
            return Ok(ProbationText(None));
        }
        if let Ok(length) = text.parse() {
            return Ok(ProbationText(Some(length)));
        }
        match Duration::from_text(text) {
            Ok(time) => {
                let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                Ok(ProbationText(Some(ProbationLength::Time(ms))))
            }
            Err(_) => Err(Problem::new(format!("{text:?} is not a probation")).help(
                "write a duration (\"1m\"), a number of messages (\"10000\"), of checkpoints (\"5cp\"), or \"none\"",
            )),
        }
    }
}

/// How many hundredths of the processor time before a message may take; 0: any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slowdown(pub u32);

impl Written for Slowdown {
    fn written(&self) -> String {
        match (self.0, self.0 % 100) {
            (0, _) => "off".to_owned(),
            (percent, 0) => format!("{}x", percent / 100),
            (percent, _) => format!("{}x", f64::from(percent) / 100.0),
        }
    }
}

impl FromText for Slowdown {
    const WHAT: &'static str = "a slowdown";

    fn from_text(text: &str) -> Result<Slowdown, Problem> {
        if text == "off" {
            return Ok(Slowdown(0));
        }
        let factor = text
            .strip_suffix('x')
            .and_then(|text| text.parse::<f64>().ok());
        match factor {
            Some(factor) if (1.0..=1_000.0).contains(&factor) => {
                let percent = (factor * 100.0).round();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "it is from 100 to 100,000"
                )]
                let percent = percent as u32;
                Ok(Slowdown(percent))
            }
            _ => Err(Problem::new(format!("{text:?} is not a slowdown"))
                .help("write a factor from 1 to 1000 (\"3x\", \"1.5x\"), or \"off\"")),
        }
    }
}

/// What a command line says of a time.
///
/// # Errors
/// What is wrong, and what to write.
pub fn duration(text: &str) -> Result<Duration, String> {
    match Duration::from_text(text).map_err(Problem::sentence)? {
        Duration::ZERO => Err("write more than no time".to_owned()),
        time => Ok(time),
    }
}

/// What a command line says of a probation.
///
/// # Errors
/// What is wrong, and what to write.
pub fn probation(text: &str) -> Result<Option<ProbationLength>, String> {
    ProbationText::from_text(text)
        .map(|probation| probation.0)
        .map_err(Problem::sentence)
}

/// What a command line says of a slowdown, percent.
///
/// # Errors
/// What is wrong, and what to write.
pub fn slowdown(text: &str) -> Result<u32, String> {
    Slowdown::from_text(text)
        .map(|slowdown| slowdown.0)
        .map_err(Problem::sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (text, length) in [
            ("none", None),
            ("1m", Some(ProbationLength::Time(60_000))),
            ("1h30m", Some(ProbationLength::Time(5_400_000))),
            ("10000", Some(ProbationLength::Messages(10_000))),
            ("5cp", Some(ProbationLength::Checkpoints(5))),
        ] {
            assert_eq!(
                ProbationText::from_text(text).ok(),
                Some(ProbationText(length))
            );
            assert_eq!(ProbationText(length).written(), text);
        }
        for (text, percent) in [("off", 0), ("3x", 300), ("1.5x", 150)] {
            assert_eq!(Slowdown::from_text(text).ok(), Some(Slowdown(percent)));
            assert_eq!(Slowdown(percent).written(), text);
        }
        for text in ["", "x", "3", "0.5x", "-1x", "1e9x", "NaNx", "infx"] {
            assert!(Slowdown::from_text(text).is_err(), "{text}");
        }
        for text in ["", "0", "5 cp", "soon"] {
            assert!(ProbationText::from_text(text).is_err(), "{text}");
        }
    }
}
