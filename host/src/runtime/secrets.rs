//! Values from the environment and from files that a component is given: whatever it says to the log, or of a failure, shows the reference
//! in the job file in their place.
//!
//! This guards against a slip, such as a panic with a whole address in it, and not against a component that means to tell.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::memmem;

use crate::model::shown;

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
    /// Values, and what is shown instead. Each line of a value of several is one too, and so is what a sentence of the host makes of it.
    pub fn new<'a>(values: impl IntoIterator<Item = (&'a str, String)>) -> Secrets {
        let mut secrets = Vec::new();
        for (value, shown) in values {
            let lines = value.lines().filter(|line| *line != value);
            for value in lines.chain([value]).filter(|v| v.len() >= LEAST_BYTES) {
                let mut forms = [
                    value.to_owned(),
                    shown::line(value, usize::MAX),
                    shown::escaped(value),
                ];
                forms.sort_unstable();
                secrets.extend(forms.into_iter().map(|form| Secret {
                    value: form.into_bytes(),
                    shown: shown.clone(),
                }));
            }
        }
        secrets.dedup_by(|a, b| a.value == b.value);
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
        self.begun(bytes).map_or(0, |(length, _)| length)
    }

    /// The longest beginning that the bytes end with, and of which.
    fn begun(&self, bytes: &[u8]) -> Option<(usize, &Secret)> {
        let longest = |secret: &Secret| {
            let most = secret.value.len().saturating_sub(1).min(bytes.len());
            (1..=most)
                .rev()
                .find(|n| bytes.ends_with(&secret.value[..*n]))
        };
        let begun = self.0.iter();
        let begun = begun.filter_map(|secret| longest(secret).map(|length| (length, secret)));
        begun.max_by_key(|(length, _)| *length)
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

    /// A sentence of the host without them: it may have cut one, and says so by an ellipsis.
    pub(super) fn hide_in_sentence(&self, sentence: &str) -> String {
        let mut hidden = sentence.to_owned();
        let mut from = 0;
        while let Some(at) = hidden[from..].find('…') {
            let cut = from + at;
            let begun = self.begun(&hidden.as_bytes()[..cut]);
            if let Some((length, secret)) = begun.filter(|(length, _)| *length >= LEAST_BYTES) {
                hidden.replace_range(cut - length..cut, &secret.shown);
                from = cut - length + secret.shown.len();
            } else {
                from = cut;
            }
            from += '…'.len_utf8();
        }
        self.hide(&hidden).into_owned()
    }

    /// Cuts bytes to so many, without them. What follows the cut is not looked at.
    pub(super) fn cut(&self, bytes: &mut Vec<u8>, most: usize) {
        if bytes.len() > most + self.longest() {
            bytes.truncate(most + self.longest());
            bytes.truncate(bytes.len() - self.begun_in(bytes));
        }
        if let Cow::Owned(hidden) = self.hide_bytes(bytes) {
            *bytes = hidden;
        }
        bytes.truncate(most);
    }

    /// A line of a guest without them. A long one may have been cut by the guest.
    pub(super) fn hide_in_line<'a>(&self, line: &'a str) -> Cow<'a, str> {
        /// Beginnings as short as these are parts of many words, and a line that ends like that is seldom cut.
        const CUT_BYTES: usize = 1 << 10;
        let least = if line.len() >= CUT_BYTES {
            LEAST_BYTES
        } else {
            WORD_BYTES
        };
        let at_end = |secret: &&Secret| line.as_bytes().ends_with(&secret.value);
        let whole = self.0.iter().find(at_end);
        let whole = whole.map_or(0, |secret| secret.value.len());
        let begun = self.begun(line.as_bytes());
        match begun.filter(|(length, _)| *length >= least && *length > whole) {
            // The bytes that are left out are whole characters, because a secret is text.
            Some((length, secret)) => {
                let whole = self.hide(&line[..line.len() - length]);
                Cow::Owned(format!("{whole}{}", secret.shown))
            }
            None => self.hide(line),
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
        // The line break as a sentence shows it.
        assert_eq!(secrets.longest(), 20);
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
        let sentence = secrets.hide_in_sentence("no store \"x-hunter-2-and…\", hunt… and hun…");
        assert_eq!(sentence, "no store \"x-${LONG}…\", ${PASSWORD}… and hun…");
        let line = format!("{} hunter-2-an", "x".repeat(5_000));
        assert!(secrets.hide_in_line(&line).ends_with("x ${LONG}"));
        assert_eq!(
            secrets.hide_in_line("a short line: hunt"),
            "a short line: hunt"
        );
        assert_eq!(secrets.hide_in_line("hunter-2"), "${PASSWORD}");
        for most in 1..60 {
            let mut cut = b"hunter-2-and-more".repeat(8);
            secrets.cut(&mut cut, most);
            let left = String::from_utf8(cut).expect("text").replace("${LONG}", "");
            assert!(!left.contains("hunt"), "{most}: {left}");
        }
        let quoted = Secrets::new([("pass\"word\u{7}1", "${QUOTED}".to_owned())]);
        let said = |value: &str| quoted.hide_in_sentence(&shown::name(value));
        assert_eq!(said("my pass\"word\u{7}1"), "\"my ${QUOTED}\"");
        let said = quoted.hide_in_sentence(&shown::line("my pass\"word\u{7}1", 100));
        assert_eq!(said, "my ${QUOTED}");
        assert_eq!(secrets.begun_in(b"said: hunter-2-a"), 10);
        assert_eq!(secrets.begun_in(b"said: nothing "), 0);
        assert_eq!(secrets.ended_in(b"er-2 and on"), 4);
        assert_eq!(secrets.ended_in(b"whole"), 0);
    }
}
