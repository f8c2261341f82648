//! Dead letters: a message whose last headers say where it came from and why it is here.
//!
//! The message's own headers come first and are unchanged; those of the letter begin with [`JOB`]. A message may itself have been a
//! letter of another job, so the last header of a name counts.

use super::{MessageRef, Offset, PartitionId};

/// The job; the first header of a letter.
pub const JOB: &str = "wasm-host.job";
/// The stage.
pub const STAGE: &str = "wasm-host.stage";
/// The task: stage, slash, partition.
pub const TASK: &str = "wasm-host.task";
/// The stream that the message was read from.
pub const STREAM: &str = "wasm-host.stream";
/// Its partition.
pub const PARTITION: &str = "wasm-host.partition";
/// Its offset.
pub const OFFSET: &str = "wasm-host.offset";
/// A word: why it is here.
pub const KIND: &str = "wasm-host.kind";
/// A sentence: why it is here.
pub const REASON: &str = "wasm-host.reason";
/// The guest's own detail.
pub const DETAIL: &str = "wasm-host.detail";
/// How often it was tried.
pub const ATTEMPTS: &str = "wasm-host.attempts";
/// When it became a letter, milliseconds since the Unix epoch.
pub const TIME: &str = "wasm-host.time";
/// The group of equal errors: eight hexadecimal digits.
pub const GROUP: &str = "wasm-host.group";
/// The SHA-256 of the component.
pub const COMPONENT: &str = "wasm-host.component";
/// How often it was a letter before.
pub const REPLAYS: &str = "wasm-host.replays";
/// The guest's stack.
pub const BACKTRACE: &str = "wasm-host.backtrace";
/// The end of what the guest wrote to standard error.
pub const STDERR: &str = "wasm-host.stderr";
/// The letter is given up: only in a replay queue.
pub const DROPPED: &str = "wasm-host.dropped";
/// The value is not whole: its length, and its SHA-256 if that is known.
pub const CUT: &str = "wasm-host.cut";

/// The headers of a letter.
#[derive(Debug, Clone)]
pub struct Letter<'a> {
    message: MessageRef<'a>,
    /// How many headers are the message's own.
    own: usize,
}

impl<'a> Letter<'a> {
    /// The letter that a message is, if it is one.
    pub fn of(message: MessageRef<'a>) -> Option<Letter<'a>> {
        let job = |(name, _): (&[u8], _)| name == JOB.as_bytes();
        let headers = message.headers().enumerate();
        let last = headers.filter(|(_, header)| job(*header)).last();
        last.map(|(own, _)| Letter { message, own })
    }

    /// The headers that the message had before it was a letter.
    pub fn own_headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + 'a {
        self.message.headers().take(self.own)
    }

    /// The value of one of the letter's headers.
    pub fn bytes(&self, name: &str) -> Option<&'a [u8]> {
        let headers = self.message.headers().skip(self.own);
        let found = headers.filter(|(header, _)| *header == name.as_bytes());
        found.last().and_then(|(_, value)| value)
    }

    /// The same, if it is text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(name)?).ok()
    }

    /// The same, if it is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// Where the message was read first, and how often it was a letter before.
    ///
    /// # Errors
    /// What of it the letter does not say.
    pub fn origin(&self) -> Result<LetterOrigin<'a>, String> {
        let missing = |name: &str| format!("it has no header `{name}`, or none that can be read");
        let partition = self.number(PARTITION).and_then(|at| u32::try_from(at).ok());
        let replays = self.number(REPLAYS).unwrap_or(0);
        Ok(LetterOrigin {
            stream: self.text(STREAM).ok_or_else(|| missing(STREAM))?,
            partition: PartitionId(partition.ok_or_else(|| missing(PARTITION))?),
            offset: self.number(OFFSET).ok_or_else(|| missing(OFFSET))?,
            replays: u32::try_from(replays).unwrap_or(u32::MAX),
        })
    }
}

/// Where the message of a letter was read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetterOrigin<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The partition.
    pub partition: PartitionId,
    /// The offset.
    pub offset: Offset,
    /// How often it was a letter before.
    pub replays: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HeadersColumn;

    #[test]
    fn a_letter_of_a_letter_is_the_last_one() {
        let mut column = HeadersColumn::default();
        let header =
            |name: &'static str, value: &'static str| (name.as_bytes(), Some(value.as_bytes()));
        column.push(
            [
                header("own", "1"),
                header(JOB, "first"),
                header(STREAM, "far"),
                header(JOB, "second"),
                header(STREAM, "near"),
                header(PARTITION, "3"),
                header(OFFSET, "70"),
                header(STREAM, "nearest"),
            ]
            .into_iter(),
        );
        let message = MessageRef::new(None, Some(b"value"), 0).with_headers(&column, 0);
        let letter = Letter::of(message).expect("a letter");
        assert_eq!(letter.own_headers().count(), 3);
        assert_eq!(letter.text(JOB), Some("second"));
        let origin = letter.origin().expect("an origin");
        assert_eq!((origin.stream, origin.partition.0), ("nearest", 3));
        assert_eq!((origin.offset, origin.replays), (70, 0));
        assert!(Letter::of(MessageRef::new(None, None, 0)).is_none());
    }
}
