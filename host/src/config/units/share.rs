//! Shares: "50%".

use super::digits;
use crate::config::setting::{FromText, Problem, Written};

/// A whole number of hundredths, from 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share(pub u32);

impl Written for Share {
    fn written(&self) -> String {
        format!("{}%", self.0)
    }
}

impl FromText for Share {
    const WHAT: &'static str = "a share";

    fn from_text(text: &str) -> Result<Share, Problem> {
        let (number, unit) = digits(text);
        match number.parse() {
            Ok(share @ 1..=100) if unit == "%" => Ok(Share(share)),
            _ => Err(Problem::new(format!("{text:?} is not a share"))
                .help("write a whole number from 1 to 100 and a percent sign: \"50%\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_whole_number_of_hundredths() {
        for (text, share) in [("1%", 1), ("50%", 50), ("100%", 100)] {
            assert_eq!(Share::from_text(text).ok(), Some(Share(share)));
            assert_eq!(Share(share).written(), text);
        }
        for text in ["", "%", "50", "0%", "101%", "0.5%", "50 %", "99999999999%"] {
            assert!(Share::from_text(text).is_err(), "{text}");
        }
    }
}
