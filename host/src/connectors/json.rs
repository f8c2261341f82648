//! The JSON form of a message, the same wherever a message is shown or typed in. It is written and parsed here only.
//!
//! `{"stream":"delays","partition":0,"offset":12,"timestamp":1763650800000,"key":"ATL","value":"…","headers":[["name","value"]]}`
//!
//! Bytes that are UTF-8 are a string, others `{"base64":"…"}` (standard alphabet, padded), what is absent `null`.
//! Written, all members are there, in this order, without white space or line break. Parsed, `value` is required, the
//! others are optional, and an unknown member is an error.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::model::{HeadersColumn, MessageRef, Messages, Offset, TimestampMs};

/// The place of a message: its stream, partition and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageName<'a> {
    /// The stream, by its name in the job file.
    pub stream: &'a str,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: Offset,
}

/// Appends the JSON of a message, without a line end.
pub fn write_message(name: MessageName<'_>, message: MessageRef<'_>, into: &mut Vec<u8>) {
    into.extend_from_slice(b"{\"stream\":");
    write_text(name.stream.as_bytes(), into);
    // Writing to a `Vec` cannot fail.
    let _ = write!(
        into,
        ",\"partition\":{},\"offset\":{},",
        name.partition, name.offset
    );
    write_content(message, into);
}

/// Appends messages of a partition as lines of JSON. The first of them has the place `first`.
pub fn write_lines(first: MessageName<'_>, messages: &Messages, into: &mut Vec<u8>) {
    for index in 0..messages.len() {
        let name = MessageName {
            offset: first.offset + index as u64,
            ..first
        };
        write_message(name, messages.get(index), into);
        into.push(b'\n');
    }
}

/// The rest of a message's JSON, after its place.
fn write_content(message: MessageRef<'_>, into: &mut Vec<u8>) {
    let _ = write!(into, "\"timestamp\":{},\"key\":", message.timestamp);
    write_bytes(message.key, into);
    into.extend_from_slice(b",\"value\":");
    write_bytes(message.value, into);
    into.extend_from_slice(b",\"headers\":[");
    for (index, (header, value)) in message.headers().enumerate() {
        into.extend_from_slice(if index == 0 { b"[" } else { b",[" });
        write_bytes(Some(header), into);
        into.push(b',');
        write_bytes(value, into);
        into.push(b']');
    }
    into.extend_from_slice(b"]}");
}

/// Appends bytes in the form that they have in a message: a string, `{"base64":"…"}` or `null`.
pub fn write_bytes(bytes: Option<&[u8]>, into: &mut Vec<u8>) {
    match bytes {
        None => into.extend_from_slice(b"null"),
        Some(text) if std::str::from_utf8(text).is_ok() => write_text(text, into),
        Some(bytes) => {
            into.extend_from_slice(b"{\"base64\":\"");
            into.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            into.extend_from_slice(b"\"}");
        }
    }
}

/// Appends UTF-8 text as a JSON string, quotes included.
pub(super) fn write_text(text: &[u8], into: &mut Vec<u8>) {
    into.push(b'"');
    escape(text, into);
    into.push(b'"');
}

/// Appends UTF-8 text with the escapes of a JSON string, without the quotes around it.
pub(super) fn escape(text: &[u8], into: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest
        .iter()
        .position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\'))
    {
        into.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => into.extend_from_slice(&[b'\\', byte]),
            b'\n' => into.extend_from_slice(b"\\n"),
            b'\r' => into.extend_from_slice(b"\\r"),
            b'\t' => into.extend_from_slice(b"\\t"),
            byte => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (byte >> 4, byte & 15);
                into.extend_from_slice(b"\\u00");
                into.extend_from_slice(&[DIGITS[high as usize], DIGITS[low as usize]]);
            }
        }
        rest = &rest[at + 1..];
    }
    into.extend_from_slice(rest);
}

/// A message that was typed in.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonMessage {
    /// The stream, if it is named.
    #[serde(default)]
    pub stream: Option<String>,
    /// The partition, if it is given.
    #[serde(default)]
    pub partition: Option<u32>,
    /// The offset, if it is given.
    #[serde(default)]
    pub offset: Option<Offset>,
    /// Milliseconds since the Unix epoch, if they are given.
    #[serde(default)]
    pub timestamp: Option<TimestampMs>,
    /// The key.
    #[serde(default, deserialize_with = "bytes_or_null")]
    pub key: Option<Vec<u8>>,
    /// The value; `null` is a tombstone.
    #[serde(deserialize_with = "bytes_or_null")]
    pub value: Option<Vec<u8>>,
    /// Names, which are UTF-8, and values.
    #[serde(default, deserialize_with = "headers")]
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A text that is not the JSON of a message.
#[derive(Debug, thiserror::Error)]
#[error("not the JSON of a message")]
pub struct ParseMessageError(#[source] serde_json::Error);

impl JsonMessage {
    /// Parses the JSON of one message.
    ///
    /// # Errors
    /// It is not JSON, has an unknown member or one of another type, or has no `value`.
    pub fn parse(json: &[u8]) -> Result<JsonMessage, ParseMessageError> {
        serde_json::from_slice(json).map_err(ParseMessageError)
    }

    /// Parses lines of JSON, one message each. Empty lines are passed over, and counted: each message comes with the number of its
    /// line, from 1.
    pub fn parse_lines(
        lines: &[u8],
    ) -> impl Iterator<Item = (usize, Result<JsonMessage, ParseMessageError>)> {
        let lines = (1..).zip(lines.split(|byte| *byte == b'\n'));
        lines
            .filter(|(_, line)| !line.is_empty())
            .map(|(number, line)| (number, JsonMessage::parse(line)))
    }

    /// Appends a line of JSON that is parsed to the same message, to be appended to a stream: with its partition, if it names one,
    /// but without stream and offset. It gets the timestamp `now` if it has none.
    pub fn write_line(&self, now: TimestampMs, into: &mut Vec<u8>) {
        into.push(b'{');
        if let Some(partition) = self.partition {
            let _ = write!(into, "\"partition\":{partition},");
        }
        let mut one = Messages::default();
        self.push_to(&mut one, now);
        write_content(one.get(0), into);
        into.push(b'\n');
    }

    /// Appends the message to columns; it gets the timestamp `now` if it has none.
    pub fn push_to(&self, messages: &mut Messages, now: TimestampMs) {
        let mut one = Messages::default();
        one.push(MessageRef::new(
            self.key.as_deref(),
            self.value.as_deref(),
            self.timestamp.unwrap_or(now),
        ));
        if !self.headers.is_empty() {
            let mut headers = HeadersColumn::default();
            headers.push(
                self.headers
                    .iter()
                    .map(|(name, value)| (name.as_bytes(), value.as_deref())),
            );
            one.headers = Some(headers);
        }
        messages.push(one.get(0));
    }
}

/// Bytes as they stand in JSON.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string, {\"base64\":\"…\"} or null")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
        Ok(Bytes(text.as_bytes().to_vec()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bytes, A::Error> {
        let Some((name, text)) = map.next_entry::<String, String>()? else {
            return Err(A::Error::missing_field("base64"));
        };
        if name != "base64" {
            return Err(A::Error::unknown_field(&name, &["base64"]));
        }
        if let Some(second) = map.next_key::<String>()? {
            return Err(A::Error::unknown_field(&second, &["base64"]));
        }
        STANDARD
            .decode(text)
            .map(Bytes)
            .map_err(|error| A::Error::custom(format!("base64: {error}")))
    }
}

fn bytes_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    Ok(Option::<Bytes>::deserialize(deserializer)?.map(|bytes| bytes.0))
}

type Headers = Vec<(String, Option<Vec<u8>>)>;

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Headers, D::Error> {
    let pairs = Vec::<(String, Option<Bytes>)>::deserialize(deserializer)?;
    let owned = |(name, value): (String, Option<Bytes>)| (name, value.map(|bytes| bytes.0));
    Ok(pairs.into_iter().map(owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: MessageName<'static> = MessageName {
        stream: "delays",
        partition: 3,
        offset: 12,
    };

    fn written(message: MessageRef<'_>) -> String {
        let mut json = Vec::new();
        write_message(NAME, message, &mut json);
        String::from_utf8(json).unwrap()
    }

    fn parse_error(json: &str) -> String {
        let error = JsonMessage::parse(json.as_bytes()).unwrap_err();
        std::error::Error::source(&error).unwrap().to_string()
    }

    #[test]
    fn writes_the_documented_form() {
        let typed = JsonMessage::parse(
            br#"{"value":"","key":"ATL","headers":[["n","v"],["a",null],["b",{"base64":"/w=="}]]}"#,
        );
        let mut messages = Messages::default();
        typed.unwrap().push_to(&mut messages, 1_763_650_800_000);
        assert_eq!(
            written(messages.get(0)),
            r#"{"stream":"delays","partition":3,"offset":12,"timestamp":1763650800000,"key":"ATL","value":"","headers":[["n","v"],["a",null],["b",{"base64":"/w=="}]]}"#
        );
        assert_eq!(
            written(MessageRef::new(None, Some(b"\xff\x00"), -1)),
            r#"{"stream":"delays","partition":3,"offset":12,"timestamp":-1,"key":null,"value":{"base64":"/wA="},"headers":[]}"#
        );
    }

    #[test]
    fn what_is_written_is_parsed_to_the_same_message() {
        let all: Vec<u8> = (0..=255).collect();
        let texts: [Option<&[u8]>; 7] = [
            None,
            Some(b""),
            Some(b"\"\\\n\r\t\x01\x1f\x7f/"),
            Some("h\u{e9}\u{1f600}\u{2028}".as_bytes()),
            Some(&all),
            Some(b"\xff"),
            Some(b"{\"base64\":\"\"}"),
        ];
        for key in texts {
            for value in texts {
                let json = written(MessageRef::new(key, value, 7));
                assert!(!json.contains('\n'), "{json}");
                let parsed = JsonMessage::parse(json.as_bytes()).unwrap();
                assert_eq!(
                    (parsed.key.as_deref(), parsed.value.as_deref()),
                    (key, value)
                );
                let name = (parsed.stream.as_deref(), parsed.partition, parsed.offset);
                assert_eq!(name, (Some("delays"), Some(3), Some(12)));
                assert_eq!(parsed.timestamp, Some(7));
            }
        }
    }

    #[test]
    fn lines_are_parsed_to_what_was_written() {
        let typed = [
            r#"{"value":"a","key":"k","partition":2,"timestamp":5}"#,
            r#"{"value":null,"headers":[["n",{"base64":"/w=="}]],"timestamp":6}"#,
            r#"{"value":"\"partition\":0,\n","stream":"s","offset":9}"#,
        ];
        let typed = typed.map(|json| JsonMessage::parse(json.as_bytes()).unwrap());
        let mut lines = Vec::new();
        for message in &typed {
            message.write_line(7, &mut lines);
            lines.push(b'\n');
        }
        let parsed = JsonMessage::parse_lines(&lines).map(|(at, parsed)| (at, parsed.unwrap()));
        let mut expected = typed.to_vec();
        expected[2].timestamp = Some(7);
        (expected[2].stream, expected[2].offset) = (None, None);
        assert_eq!(
            parsed.collect::<Vec<_>>(),
            [1, 3, 5].into_iter().zip(expected).collect::<Vec<_>>()
        );
        let mut shown = Vec::new();
        let mut messages = Messages::default();
        typed[0].push_to(&mut messages, 7);
        typed[1].push_to(&mut messages, 7);
        write_lines(NAME, &messages, &mut shown);
        let places = JsonMessage::parse_lines(&shown).map(|(_, parsed)| parsed.unwrap());
        let places = places.map(|message| (message.partition, message.offset));
        let expected = [(Some(3), Some(12)), (Some(3), Some(13))];
        assert_eq!(places.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_line_that_is_not_a_message_is_refused_with_the_reason() {
        assert!(parse_error(r#"{"value":"","valeu":1}"#).contains("unknown field `valeu`"));
        assert!(parse_error(r#"{"key":"k"}"#).contains("missing field `value`"));
        assert!(parse_error(r#"{"value":7}"#).contains("a string, {\"base64\":\"…\"} or null"));
        assert!(parse_error(r#"{"value":{"base64":"?"}}"#).contains("base64"));
        assert!(parse_error(r#"{"value":{"base32":""}}"#).contains("base32"));
        assert!(parse_error(r#"{"value":{"base64":"","x":""}}"#).contains('x'));
        assert!(parse_error(r#"{"value":""} x"#).contains("trailing"));
    }

    #[test]
    fn members_other_than_the_value_are_optional() {
        let parsed = JsonMessage::parse(br#"{"value":null}"#).unwrap();
        assert_eq!(
            (parsed.value, parsed.key, parsed.timestamp),
            (None, None, None)
        );
        let mut messages = Messages::default();
        JsonMessage::parse(br#"{"value":"v"}"#)
            .unwrap()
            .push_to(&mut messages, 42);
        assert_eq!(messages.get(0).timestamp, 42);
        assert_eq!(messages.headers, None);
    }
}
