//! Timestamps as they are written in records.

use jiff::Timestamp;
use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::Offset;

use crate::model::TimestampMs;

/// The place of a record's timestamp, and how it is written.
#[derive(Debug, Clone)]
pub struct TimestampSpec {
    /// A CSV column, or of JSON a pointer (`/a/b`) or the name of a top-level member.
    pub field: String,
    /// How it is written.
    pub format: TimestampFormat,
}

/// How timestamps are written. Fractions of a millisecond are cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimestampFormat {
    /// `unix-ms`: milliseconds since the Unix epoch, an integer.
    UnixMs,
    /// `unix-s`: seconds since the Unix epoch, with or without a fraction.
    UnixS,
    /// `rfc3339`: `2025-11-20T18:00:00Z`, or with an offset.
    Rfc3339,
    /// A format of `strftime`, as `%Y%m%d%H%M`. Without a time of day it is midnight, without an offset or zone UTC.
    Strftime(String),
}

impl TimestampFormat {
    /// The format of that name, or the `strftime` format.
    ///
    /// # Errors
    /// It is neither a name nor a format that yields a date; the text says which names there are.
    pub fn parse(text: &str) -> Result<TimestampFormat, String> {
        match text {
            "unix-ms" => return Ok(TimestampFormat::UnixMs),
            "unix-s" => return Ok(TimestampFormat::UnixS),
            "rfc3339" => return Ok(TimestampFormat::Rfc3339),
            _ => {}
        }
        let expected = "expected unix-ms, unix-s, rfc3339 or a strftime format with a date, as %Y-%m-%dT%H:%M:%S";
        if !text.contains('%') {
            return Err(format!("unknown timestamp format `{text}`: {expected}"));
        }
        // A format that can read back what it wrote can read at all.
        let sample = Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC);
        let format = TimestampFormat::Strftime(text.to_owned());
        let written = strtime::format(text, &sample)
            .map_err(|error| format!("timestamp format `{text}`: {error}"))?;
        match format.read(&written) {
            Ok(_) => Ok(format),
            Err(error) => Err(format!("timestamp format `{text}`: {error}; {expected}")),
        }
    }

    /// Reads a timestamp.
    ///
    /// # Errors
    /// Why the text is not one.
    pub(super) fn read(&self, text: &str) -> Result<TimestampMs, String> {
        match self {
            TimestampFormat::UnixMs => text.parse().map_err(|_| "not an integer".to_owned()),
            TimestampFormat::UnixS => {
                read_seconds(text).ok_or_else(|| "not a number of seconds".to_owned())
            }
            TimestampFormat::Rfc3339 => match text.parse::<Timestamp>() {
                Ok(timestamp) => Ok(timestamp.as_millisecond()),
                Err(error) => Err(error.to_string()),
            },
            TimestampFormat::Strftime(format) => match read_strftime(format, text) {
                Ok(timestamp) => Ok(timestamp.as_millisecond()),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

fn read_strftime(format: &str, text: &str) -> Result<Timestamp, jiff::Error> {
    let parts = BrokenDownTime::parse(format, text)?;
    if parts.iana_time_zone().is_some() {
        return Ok(parts.to_zoned()?.timestamp());
    }
    if parts.offset().is_some() || parts.timestamp().is_some() {
        return parts.to_timestamp();
    }
    Offset::UTC.to_timestamp(parts.to_datetime()?)
}

/// Seconds with a decimal fraction, as milliseconds towards negative infinity.
fn read_seconds(text: &str) -> Option<TimestampMs> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let ms = digits.fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
    let finer = fraction.bytes().skip(3).any(|digit| digit != b'0');
    let seconds_ms = seconds.checked_mul(1000)?;
    match negative {
        true => seconds_ms.checked_sub(ms + i64::from(finer)),
        false => seconds_ms.checked_add(ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, text: &str) -> Result<i64, String> {
        TimestampFormat::parse(format).unwrap().read(text)
    }

    #[test]
    fn every_format_reads_its_form() {
        assert_eq!(read("unix-ms", "1763650800123"), Ok(1_763_650_800_123));
        assert_eq!(read("unix-s", "1763650800"), Ok(1_763_650_800_000));
        assert_eq!(read("unix-s", "1763650800.1239"), Ok(1_763_650_800_123));
        assert_eq!(read("unix-s", "-0.5"), Ok(-500));
        assert_eq!(read("unix-s", "-1.0001"), Ok(-1001));
        assert_eq!(read("rfc3339", "1970-01-01T01:00:00.002+01:00"), Ok(2));
        assert_eq!(read("%Y%m%d%H%M", "197001020001"), Ok(86_460_000));
        assert_eq!(read("%Y-%m-%d", "1970-01-02"), Ok(86_400_000));
        assert_eq!(read("%Y-%m-%d %H:%M %z", "1970-01-01 02:00 +0200"), Ok(0));
    }

    #[test]
    fn text_that_is_not_a_timestamp_is_refused() {
        for (format, text) in [
            ("unix-ms", "1.5"),
            ("unix-s", "1.x"),
            ("unix-s", ""),
            ("rfc3339", "1970-01-01"),
            ("%Y%m%d%H%M", "197001022400"),
            ("%Y%m%d", "19700102 "),
        ] {
            assert!(read(format, text).is_err(), "{format} {text}");
        }
        assert!(
            TimestampFormat::parse("unix")
                .unwrap_err()
                .contains("unix-ms")
        );
        assert!(TimestampFormat::parse("%H:%M").is_err());
        assert!(TimestampFormat::parse("%Y-%m-%d %!").is_err());
    }
}
