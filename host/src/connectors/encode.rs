//! Messages as lines of text, as files and the standard output get them.

use super::json::{MessageName, write_bytes, write_message};
use crate::model::{Messages, Offset};

/// What one message becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// The value as it is. A tombstone is an empty line. A value with line breaks becomes several lines: if values
    /// may have them, use another format.
    Lines,
    /// The value, which should be JSON, on one line. A tombstone is `null`. In a value with a line break the breaks
    /// become spaces if it is JSON, which means the same; if it is not, it becomes a JSON string, or `{"base64":"…"}`.
    Jsonl,
    /// The message as JSON: see [`write_message`].
    Message,
}

/// Appends the lines of messages, the first of which has offset `first`.
pub(super) fn encode(
    format: OutputFormat,
    stream: &str,
    partition: u32,
    first: Offset,
    messages: &Messages,
    into: &mut Vec<u8>,
) {
    match format {
        OutputFormat::Lines => {
            into.reserve(messages.values.data_len() + messages.len());
            for value in messages.values.iter() {
                into.extend_from_slice(value.unwrap_or_default());
                into.push(b'\n');
            }
        }
        OutputFormat::Jsonl => {
            into.reserve(messages.values.data_len() + messages.len());
            for value in messages.values.iter() {
                match value {
                    None => into.extend_from_slice(b"null"),
                    Some(value) if !value.contains(&b'\n') => into.extend_from_slice(value),
                    Some(value) => one_line(value, into),
                }
                into.push(b'\n');
            }
        }
        OutputFormat::Message => {
            for (offset, index) in (first..).zip(0..messages.len()) {
                let name = MessageName {
                    stream,
                    partition,
                    offset,
                };
                write_message(name, messages.get(index), into);
                into.push(b'\n');
            }
        }
    }
}

/// Appends a value with line breaks as one line of JSON.
fn one_line(value: &[u8], into: &mut Vec<u8>) {
    // In JSON a line break is white space between tokens: within a string it must be escaped.
    if std::str::from_utf8(value).is_ok()
        && serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok()
    {
        let space = |byte: &u8| match byte {
            b'\n' | b'\r' => b' ',
            byte => *byte,
        };
        into.extend(value.iter().map(space));
    } else {
        write_bytes(Some(value), into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MessageRef;

    fn encoded(format: OutputFormat, values: &[Option<&[u8]>]) -> String {
        let mut messages = Messages::default();
        for value in values {
            messages.push(MessageRef::new(Some(b"k"), *value, 5));
        }
        let mut into = Vec::new();
        encode(format, "s", 2, 40, &messages, &mut into);
        String::from_utf8(into).unwrap()
    }

    #[test]
    fn every_format_writes_its_lines() {
        let values: [Option<&[u8]>; 3] = [Some(b"{\"a\":1}"), None, Some(b"")];
        assert_eq!(encoded(OutputFormat::Lines, &values), "{\"a\":1}\n\n\n");
        assert_eq!(encoded(OutputFormat::Jsonl, &values), "{\"a\":1}\nnull\n\n");
        assert_eq!(
            encoded(OutputFormat::Message, &values[..2]),
            "{\"stream\":\"s\",\"partition\":2,\"offset\":40,\"timestamp\":5,\"key\":\"k\",\"value\":\"{\\\"a\\\":1}\",\"headers\":[]}\n\
             {\"stream\":\"s\",\"partition\":2,\"offset\":41,\"timestamp\":5,\"key\":\"k\",\"value\":null,\"headers\":[]}\n"
        );
    }

    #[test]
    fn a_line_break_never_breaks_a_line_of_json() {
        let values: [Option<&[u8]>; 3] = [
            Some(b"{\"a\":\r\n[1,\n\"\\n\"]}"),
            Some(b"two\nlines"),
            Some(b"\xff\n"),
        ];
        assert_eq!(
            encoded(OutputFormat::Jsonl, &values),
            "{\"a\":  [1, \"\\n\"]}\n\"two\\nlines\"\n{\"base64\":\"/wo=\"}\n"
        );
        assert_eq!(encoded(OutputFormat::Lines, &values[1..2]), "two\nlines\n");
    }
}
