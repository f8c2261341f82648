//! Quantities with a unit: durations, sizes in bytes, rates, shares. Parsing is exact: what cannot be represented is refused,
//! never rounded, and a number without a unit is never guessed at.

mod duration;
mod rate;
mod share;
mod size;

pub use rate::{Per, Rate};
pub use share::Share;
pub use size::ByteSize;

/// The leading decimal digits of `text`, and the rest.
fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}
