//! Values that are written as text in the job file. Text may hold something from the environment, which is then used
//! but never shown: a [`Setting`] remembers what the file says and prints that.

use std::cmp::Ordering;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::substitute::Taken;

/// Why a text is not a value of some type, for a person. `help` may repeat the text, so neither is used if the text
/// came from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// What is wrong.
    pub(super) message: String,
    /// What to write instead.
    pub(super) help: Option<String>,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>) -> Problem {
        Problem {
            message: message.into(),
            help: None,
        }
    }

    /// All of it, for a command line.
    pub(super) fn sentence(self) -> String {
        match self.help {
            Some(help) => format!("{}: {help}", self.message),
            None => self.message,
        }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Problem {
        Problem {
            help: Some(help.into()),
            ..self
        }
    }
}

/// A value that can be shown as it would be written in a job file.
pub trait Written {
    /// The text that means this value.
    fn written(&self) -> String;
}

/// A value that is written as a string in the job file.
pub(super) trait FromText: Written + Sized {
    /// What it is, with an article: "a duration".
    const WHAT: &'static str;

    /// The value that `text` means.
    fn from_text(text: &str) -> Result<Self, Problem>;

    /// The problem with a number without quotes, which may lack a unit.
    fn bare_number(_number: &str) -> Option<Problem> {
        None
    }
}

/// A value written as text. It is used like the value itself; `Display`, `Debug` and `Serialize` show the text of the
/// job file if that contains a `${…}`, and so never what came from the environment.
#[derive(Clone)]
pub struct Setting<T> {
    value: T,
    shown: Option<Box<str>>,
    /// What came from outside of the file, and the reference to each.
    secrets: Box<[(String, String)]>,
}

impl<T> Setting<T> {
    pub(super) fn substituted(value: T, text: &str, taken: Vec<Taken>) -> Setting<T> {
        let pair = |taken: Taken| (taken.value, taken.reference);
        Setting {
            value,
            shown: Some(text.into()),
            secrets: taken.into_iter().map(pair).collect(),
        }
    }

    /// What came from the environment or a file, and the reference to each.
    pub fn secrets(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.secrets.iter();
        pairs.map(|(value, reference)| (value.as_str(), reference.as_str()))
    }

    /// Whether the text had a `${…}` in it. Such a value must not be printed.
    pub fn is_substituted(&self) -> bool {
        self.shown.is_some()
    }

    /// Another value in place of this one, shown in the same way.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Setting<U> {
        Setting {
            value: change(self.value),
            shown: self.shown,
            secrets: self.secrets,
        }
    }
}

impl<T: PartialEq> PartialEq for Setting<T> {
    fn eq(&self, other: &Setting<T>) -> bool {
        self.value == other.value
    }
}

impl<T> From<T> for Setting<T> {
    fn from(value: T) -> Setting<T> {
        Setting {
            value,
            shown: None,
            secrets: Box::default(),
        }
    }
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialOrd> PartialOrd for Setting<T> {
    fn partial_cmp(&self, other: &Setting<T>) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<T: Written> fmt::Display for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shown {
            Some(text) => f.write_str(text),
            None => f.write_str(&self.value.written()),
        }
    }
}

impl<T: Written> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl<T: Written> Serialize for Setting<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Written for String {
    fn written(&self) -> String {
        self.clone()
    }
}

impl FromText for String {
    const WHAT: &'static str = "a string";

    fn from_text(text: &str) -> Result<String, Problem> {
        Ok(text.to_owned())
    }
}

impl Written for PathBuf {
    fn written(&self) -> String {
        self.to_string_lossy().into_owned()
    }
}

impl FromText for PathBuf {
    const WHAT: &'static str = "a path";

    fn from_text(text: &str) -> Result<PathBuf, Problem> {
        if text.is_empty() {
            return Err(Problem::new("a path cannot be empty"));
        }
        if text.contains('\0') {
            return Err(Problem::new("a path cannot contain a zero byte"));
        }
        if text == "~" || text.starts_with("~/") {
            return Err(Problem::new("`~` has no meaning in a job file")
                .help(format!("write \"${{HOME}}{}\"", &text[1..])));
        }
        Ok(PathBuf::from(text))
    }
}

impl Written for SocketAddr {
    fn written(&self) -> String {
        self.to_string()
    }
}

impl FromText for SocketAddr {
    const WHAT: &'static str = "an address";

    fn from_text(text: &str) -> Result<SocketAddr, Problem> {
        text.parse().map_err(|_| {
            Problem::new(format!("{text:?} is not an IP address with a port"))
                .help("such as \"127.0.0.1:9464\", or \"[::1]:9464\"")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_substituted_value_is_used_and_not_shown() {
        let secret = Setting::substituted("hunter2".to_owned(), "${PASSWORD}", Vec::new());
        assert_eq!(secret.as_str(), "hunter2");
        assert!(secret.is_substituted());
        assert_eq!(secret.to_string(), "${PASSWORD}");
        assert_eq!(format!("{secret:?}"), "\"${PASSWORD}\"");
        let shown = serde_json::to_string(&secret).expect("a string");
        assert_eq!(shown, "\"${PASSWORD}\"");
        assert_eq!(*secret.map(|s| s.len()), 7);
    }

    #[test]
    fn a_home_folder_is_not_expanded_silently() {
        let problem = PathBuf::from_text("~/data").expect_err("a tilde");
        assert_eq!(problem.help.as_deref(), Some("write \"${HOME}/data\""));
    }
}
