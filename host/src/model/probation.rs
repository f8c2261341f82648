//! How long new code is watched.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How long new code is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbationLength {
    /// So many messages.
    Messages(u64),
    /// So many milliseconds, and at least [`ProbationLength::LEAST_MESSAGES`].
    Time(u64),
    /// So many checkpoints.
    Checkpoints(u64),
}

impl ProbationLength {
    /// However long it is, so many messages say whether code works.
    pub const LEAST_MESSAGES: u64 = 100;
}

/// `500`, `30000ms`, `5cp`.
impl fmt::Display for ProbationLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbationLength::Messages(messages) => write!(f, "{messages}"),
            ProbationLength::Time(ms) => write!(f, "{ms}ms"),
            ProbationLength::Checkpoints(checkpoints) => write!(f, "{checkpoints}cp"),
        }
    }
}

/// What [`ProbationLength`] is shown as, or seconds: `30s`.
impl FromStr for ProbationLength {
    type Err = ();

    fn from_str(text: &str) -> Result<ProbationLength, ()> {
        let end = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(end.unwrap_or(text.len()));
        let number: u64 = number.parse().map_err(|_| ())?;
        match unit {
            "" if number > 0 => Ok(ProbationLength::Messages(number)),
            "cp" if number > 0 => Ok(ProbationLength::Checkpoints(number)),
            "ms" => Ok(ProbationLength::Time(number)),
            "s" => Ok(ProbationLength::Time(number.saturating_mul(1_000))),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read() {
        for length in [
            ProbationLength::Messages(500),
            ProbationLength::Time(30_000),
            ProbationLength::Checkpoints(5),
        ] {
            assert_eq!(length.to_string().parse(), Ok(length));
        }
        assert_eq!("30s".parse(), Ok(ProbationLength::Time(30_000)));
        for text in [
            "",
            "none",
            "0",
            "0cp",
            "-1",
            "5 cp",
            "1h",
            "99999999999999999999",
        ] {
            assert_eq!(text.parse::<ProbationLength>(), Err(()), "{text}");
        }
    }
}
