//! Closed vocabularies: strings of the job file with a fixed set of valid values.

use super::names;
use super::setting::Problem;

/// Why `text` is none of `words`; `later` are words that are reserved for a later version.
pub(super) fn unknown_word(text: &str, what: &str, words: &[&str], later: &[&str]) -> Problem {
    let valid = names::quoted(words);
    if later.contains(&text) {
        return Problem::new(format!("{what} {text:?} is not supported yet"))
            .help(format!("valid now: {valid}"));
    }
    let problem = Problem::new(format!("unknown {what} {text:?}"));
    match names::nearest(text, words) {
        Some(word) if words.len() > 1 => {
            problem.help(format!("did you mean \"{word}\"? valid: {valid}"))
        }
        _ => problem.help(format!("valid: {valid}")),
    }
}

/// Declares an enum whose variants are written as the given words, and words that are not supported yet.
macro_rules! words {
    (
        $(#[$doc:meta])* $name:ident, $what:literal, $with_article:literal {
            $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)?
        } later [$($later:literal),*]
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// Every word, in the order in which they are documented.
            pub(super) const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word that is written in the job file.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl $crate::config::setting::Written for $name {
            fn written(&self) -> String {
                self.as_str().to_owned()
            }
        }

        impl $crate::config::setting::FromText for $name {
            const WHAT: &'static str = $with_article;

            fn from_text(text: &str) -> Result<Self, $crate::config::setting::Problem> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::config::words::unknown_word(
                        text, $what, Self::WORDS, &[$($later),*],
                    )),
                }
            }
        }
    };
}

pub(super) use words;
