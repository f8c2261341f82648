//! Values from the environment and from files that a component is given: whatever it says to the log, or of a failure, shows the reference
//! in the job file in their place.
//!
//! This guards against a slip, such as a panic with a whole address in it, and not against a component that means to tell.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::memmem;

/// A shorter value is everywhere in a text.
const LEAST_BYTES: usize = 4;
/// A shorter value is hidden as a whole word only: `info` is a part of many others.
const WORD_BYTES: usize = 8;

/// Values that are not shown.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Arc<[Secret]>);

#[derive(Clone)]
struct Secret {
    value: Vec<u8>,
    shown: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Secrets {
    /// Values, and what is shown instead. Each line of a value of several is one too.
    pub fn new<'a>(values: impl IntoIterator<Item = (&'a str, String)>) -> Secrets {
        let mut secrets = Vec::new();
        for (value, shown) in values {
            let lines = value.lines().filter(|line| *line != value);
            for value in lines.chain([value]).filter(|v| v.len() >= LEAST_BYTES) {
                secrets.push(Secret {
                    value: value.as_bytes().to_vec(),
                    shown: shown.clone(),
                });
            }
        }
        // One may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.value.len()));
        Secrets(secrets.into())
    }

    /// The length of the longest.
    pub(super) fn longest(&self) -> usize {
        self.0.first().map_or(0, |secret| secret.value.len())
    }

    /// How many bytes at the end may be the beginning of one.
    pub(super) fn begun_in(&self, bytes: &[u8]) -> usize {
        let longest = |secret: &Secret| {
            let most = secret.value.len().saturating_sub(1).min(bytes.len());
            (1..=most)
                .rev()
                .find(|n| bytes.ends_with(&secret.value[..*n]))
        };
        self.0.iter().filter_map(longest).max().unwrap_or(0)
    }

    /// How many bytes at the beginning may be the end of one.
    pub(super) fn ended_in(&self, bytes: &[u8]) -> usize {
        let longest = |secret: &Secret| {
            let value = &secret.value;
            let most = value.len().saturating_sub(1).min(bytes.len());
            (1..=most)
                .rev()
                .find(|n| bytes.starts_with(&value[value.len() - n..]))
        };
        self.0.iter().filter_map(longest).max().unwrap_or(0)
    }

    /// A text without them.
    pub(super) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.hide_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(hidden) => Cow::Owned(String::from_utf8_lossy(&hidden).into_owned()),
        }
    }

    /// Bytes without them.
    pub(super) fn hide_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut hidden = Cow::Borrowed(bytes);
        for Secret { value, shown } in &*self.0 {
            let mut rest = &*hidden;
            let mut replaced = Vec::new();
            while let Some(at) = memmem::find(rest, value) {
                let end = at + value.len();
                let before = rest[..at].last().or(replaced.last());
                let is_hidden = value.len() >= WORD_BYTES
                    || ![before, rest.get(end)]
                        .into_iter()
                        .flatten()
                        .any(is_of_a_word);
                replaced.extend_from_slice(&rest[..at]);
                replaced.extend_from_slice(match is_hidden {
                    true => shown.as_bytes(),
                    false => value,
                });
                rest = &rest[end..];
            }
            if !replaced.is_empty() {
                replaced.extend_from_slice(rest);
                hidden = Cow::Owned(replaced);
            }
        }
        hidden
    }
}

fn is_of_a_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_replaced_by_what_is_shown() {
        let secrets = Secrets::new([
            ("hunter-2", "${PASSWORD}".to_owned()),
            ("info", "${LEVEL}".to_owned()),
            ("hunter-2-and-more", "${LONG}".to_owned()),
            ("abc", "${SHORT}".to_owned()),
            ("-----BEGIN\nline-two", "${file:key}".to_owned()),
        ]);
        assert_eq!(secrets.longest(), 19);
        let hide = |text: &'static str| secrets.hide(text).into_owned();
        assert_eq!(hide("hunter-2hunter-2!"), "${PASSWORD}${PASSWORD}!");
        assert_eq!(
            hide("info: information, info"),
            "${LEVEL}: information, ${LEVEL}"
        );
        assert_eq!(hide("x hunter-2-and-more"), "x ${LONG}");
        assert_eq!(hide("abc and line-two"), "abc and ${file:key}");
        assert!(matches!(secrets.hide("nothing"), Cow::Borrowed("nothing")));
        assert_eq!(
            &*secrets.hide_bytes(b"\xffhunter-2\xff"),
            b"\xff${PASSWORD}\xff"
        );
        assert!(!format!("{secrets:?}").contains("hunter"));
        assert_eq!(secrets.begun_in(b"said: hunter-2-a"), 10);
        assert_eq!(secrets.begun_in(b"said: nothing "), 0);
        assert_eq!(secrets.ended_in(b"er-2 and on"), 4);
        assert_eq!(secrets.ended_in(b"whole"), 0);
    }
}
