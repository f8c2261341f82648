//! `stdin` and `stdout`: the two ends of a pipe, as streams.
//!
//! Input that was read from a pipe is gone, and output that was written to one cannot be taken back: the input cannot be rewound,
//! and the output can repeat messages after a crash.

mod stdin;
mod stdout;

pub use stdin::{StdinInput, StdinOptions};
pub use stdout::{StdoutOptions, StdoutOutput};
