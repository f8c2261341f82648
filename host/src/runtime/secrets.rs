//! Values from the environment and from files that a component is given: whatever it says to the log, or of a failure, shows the reference
//! in the job file in their place.
//!
//! This guards against a slip, such as a panic with a whole address in it, and not against a component that means to tell.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::memmem;

/// A shorter value is everywhere in a text.
const LEAST_BYTES: usize = 4;

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
                replaced.extend_from_slice(&rest[..at]);
                replaced.extend_from_slice(shown.as_bytes());
                rest = &rest[at + value.len()..];
            }
            if !replaced.is_empty() {
                replaced.extend_from_slice(rest);
                hidden = Cow::Owned(replaced);
            }
        }
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_replaced_by_what_is_shown() {
        let secrets = Secrets::new([
            ("hunter2", "${PASSWORD}".to_owned()),
            ("hunter2-and-more", "${LONG}".to_owned()),
            ("abc", "${SHORT}".to_owned()),
            ("-----BEGIN\nline-two", "${file:key}".to_owned()),
        ]);
        assert_eq!(secrets.longest(), 19);
        let hide = |text: &'static str| secrets.hide(text).into_owned();
        assert_eq!(hide("hunter2hunter2!"), "${PASSWORD}${PASSWORD}!");
        assert_eq!(hide("x hunter2-and-more"), "x ${LONG}");
        assert_eq!(hide("abc and line-two"), "abc and ${file:key}");
        assert!(matches!(secrets.hide("nothing"), Cow::Borrowed("nothing")));
        assert_eq!(
            &*secrets.hide_bytes(b"\xffhunter2\xff"),
            b"\xff${PASSWORD}\xff"
        );
        assert!(!format!("{secrets:?}").contains("hunter"));
    }
}
