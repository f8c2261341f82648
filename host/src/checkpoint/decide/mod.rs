//! Verdicts: facts in, a decision out. No thread, clock or disk, so that every case can stand in a table.

mod code;
mod due;
mod witness;

pub use code::{Chosen, Wanted, Why, choose_code, migration};
pub use due::{BACKOFF_MAX, CadenceOptions, Due, FIRST_COST, Facts, Trigger, backoff, barrier};
pub(super) use witness::{Verdict, judge};
