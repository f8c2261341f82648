//! The one error of the SDK: why a message, or a whole call, was refused.

use std::fmt;

/// Why something was not done, for a person to read.
///
/// Returned for one message (by the closures of [`Store::update`](crate::Store::update) and
/// [`Context::for_each`](crate::Context::for_each), or by a `message` handler), it rejects that message: what the
/// message did is undone, and it goes where the job's `on-rejected` says. Returned by a `batch` handler, it undoes
/// the call, and the host gives the same messages again, one in each call.
///
/// `?` makes one of any [`std::error::Error`]; [`reject!`](crate::reject) and [`OrReject`] make one of a sentence.
pub struct Error {
    reason: String,
    detail: Option<Vec<u8>>,
}

impl Error {
    /// An error with a reason, which the host cuts at 1 KiB.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            detail: None,
        }
    }

    /// Adds what may help to handle a rejected message later. The host cuts it at 16 KiB, and drops it if the message is
    /// rejected by failing its call: the contract has a place for it in the rejections of a batch only.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Vec<u8>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds what was being done in front of the reason.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.reason = format!("{doing}: {}", self.reason);
        self
    }

    /// Why.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What was added by [`with_detail`](Self::with_detail).
    pub fn detail(&self) -> Option<&[u8]> {
        self.detail.as_deref()
    }

    /// The reason and the detail.
    pub(crate) fn into_parts(self) -> (String, Option<Vec<u8>>) {
        (self.reason, self.detail)
    }
}

// `Error` itself is not a `std::error::Error`, or this conversion would overlap with the reflexive one.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Many errors repeat their cause in their own text.
            if !reason.ends_with(&cause_text) {
                reason.push_str(": ");
                reason.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self::new(reason)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            None => write!(f, "{:?}", self.reason),
            Some(detail) => write!(f, "{:?} ({} bytes of detail)", self.reason, detail.len()),
        }
    }
}

/// Turns what is missing or wrong into an [`Error`] with a reason.
pub trait OrReject<T> {
    /// The value, or an error with this reason; a cause that is known follows it after a colon.
    fn or_reject(self, reason: &str) -> Result<T, Error>;
}

impl<T> OrReject<T> for Option<T> {
    fn or_reject(self, reason: &str) -> Result<T, Error> {
        self.ok_or_else(|| Error::new(reason))
    }
}

impl<T, E: Into<Error>> OrReject<T> for Result<T, E> {
    fn or_reject(self, reason: &str) -> Result<T, Error> {
        self.map_err(|error| error.into().context(reason))
    }
}

/// What the work on one message may return: nothing, if it cannot fail, or `Result<(), Error>`.
pub trait Outcome {
    /// As a result.
    fn into_result(self) -> Result<(), Error>;
}

impl Outcome for () {
    #[inline]
    fn into_result(self) -> Result<(), Error> {
        Ok(())
    }
}

// For `Error` only: a closure that ends in `Ok(())` leaves no other choice, and so needs no annotation.
impl Outcome for Result<(), Error> {
    #[inline]
    fn into_result(self) -> Result<(), Error> {
        self
    }
}

/// Returns from the enclosing function or closure with an [`Error`] made of a format string.
///
/// ```
/// # use wasm_host_sdk::prelude::*;
/// fn positive(n: i64) -> Result<i64, Error> {
///     if n < 0 {
///         reject!("{n} is negative");
///     }
///     Ok(n)
/// }
/// assert_eq!(positive(-1).unwrap_err().reason(), "-1 is negative");
/// ```
#[macro_export]
macro_rules! reject {
    ($($arg:tt)+) => {
        return ::core::result::Result::Err($crate::Error::new(::std::format!($($arg)+)))
    };
}
