//! Walks over ranges of keys.

use rocksdb::{DBRawIterator, ErrorKind, ReadOptions};

use super::snapshot::At;
use super::{Db, DbError, Family};
use crate::state::keys::Order;
use crate::state::pieces::Pieces;

/// The number of deleted keys passed over in a piece of a range: half a millisecond.
const PASSED_IN_PIECE: u64 = 1 << 10;
impl Db {
    /// Walks over keys from `lower`, inclusive, to `upper`, exclusive.
    pub fn walk(&self, family: Family, lower: Vec<u8>, upper: Vec<u8>, order: Order) -> Walk<'_> {
        self.walk_at(None, family, lower, upper, order)
    }

    /// `at`: as it was at a moment.
    pub(super) fn walk_at<'a>(
        &'a self,
        at: Option<&'a At<'_>>,
        family: Family,
        lower: Vec<u8>,
        upper: Vec<u8>,
        order: Order,
    ) -> Walk<'a> {
        Walk {
            iterator: self.iterator(at, family, lower, upper, order, 0),
            order,
        }
    }

    /// Walks over keys as [`Db::walk`] does, by steps between which it can look at the time.
    pub fn walk_in_steps(
        &self,
        family: Family,
        lower: Vec<u8>,
        upper: Vec<u8>,
        order: Order,
    ) -> SteppedWalk<'_> {
        self.walk_in_steps_at(None, family, lower, upper, order)
    }

    /// `at`: as it was at a moment.
    pub(super) fn walk_in_steps_at<'a>(
        &'a self,
        at: Option<&'a At<'a>>,
        family: Family,
        lower: Vec<u8>,
        upper: Vec<u8>,
        order: Order,
    ) -> SteppedWalk<'a> {
        let iterator = self.iterator(
            at,
            family,
            lower.clone(),
            upper.clone(),
            order,
            self.passed_keys_max,
        );
        SteppedWalk {
            db: self,
            at,
            family,
            walk: Walk { iterator, order },
            lower,
            upper,
            last: None,
        }
    }

    /// An iterator at the first entry of a range. `passed_max`: it is incomplete if more deleted keys come one after another; 0:
    /// no limit.
    fn iterator(
        &self,
        at: Option<&At<'_>>,
        family: Family,
        lower: Vec<u8>,
        upper: Vec<u8>,
        order: Order,
        passed_max: u64,
    ) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(lower);
        options.set_iterate_upper_bound(upper);
        options.set_max_skippable_internal_keys(passed_max);
        if let Some(At(snapshot)) = at {
            options.set_snapshot(snapshot);
            options.fill_cache(false);
        }
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(family), options);
        match order {
            Order::Up => iterator.seek_to_first(),
            Order::Down => iterator.seek_to_last(),
        }
        iterator
    }
}

/// A key and its value.
pub type Stored<'a> = (&'a [u8], &'a [u8]);

/// A walk over a range of keys.
pub struct Walk<'a> {
    iterator: DBRawIterator<'a>,
    order: Order,
}

impl Walk<'_> {
    /// The entry at which the walk stands: key and value. `None`: it is at its end.
    ///
    /// # Errors
    /// RocksDB could not read on.
    pub fn entry(&self) -> Result<Option<Stored<'_>>, DbError> {
        match self.iterator.item() {
            Some(entry) => Ok(Some(entry)),
            None => self.iterator.status().map(|()| None).map_err(DbError::Read),
        }
    }

    /// Goes on to the first entry whose key is not below `key`. Only in a walk up.
    pub fn seek(&mut self, key: &[u8]) {
        assert!(self.order == Order::Up, "a walk down goes on to a key");
        self.iterator.seek(key);
    }

    /// Goes to the last entry whose key is not above `key`. Only in a walk up.
    pub fn seek_back(&mut self, key: &[u8]) {
        assert!(self.order == Order::Up, "a walk down goes back to a key");
        self.iterator.seek_for_prev(key);
    }

    /// Goes on to the next entry.
    pub fn advance(&mut self) {
        match self.order {
            Order::Up => self.iterator.next(),
            Order::Down => self.iterator.prev(),
        }
    }
}

/// A walk whose steps are bounded: without a bound RocksDB passes over any number of deleted keys in one call, however long that
/// takes.
pub struct SteppedWalk<'a> {
    db: &'a Db,
    at: Option<&'a At<'a>>,
    family: Family,
    walk: Walk<'a>,
    lower: Vec<u8>,
    upper: Vec<u8>,
    /// The key of the last entry that it has passed.
    last: Option<Vec<u8>>,
}

impl SteppedWalk<'_> {
    /// Goes to the next entry or to the end. Asks `over` after each step whether the time is up; returns false if it is.
    ///
    /// # Errors
    /// RocksDB could not read on.
    pub fn arrive(&mut self, over: &mut dyn FnMut() -> bool) -> Result<bool, DbError> {
        if !is_incomplete(&self.walk.iterator)? {
            return Ok(true);
        }
        let order = self.walk.order;
        let (mut lower, mut upper) = (self.lower.clone(), self.upper.clone());
        match (&self.last, order) {
            (None, _) => {}
            (Some(last), Order::Up) => {
                lower.clone_from(last);
                lower.push(0);
            }
            (Some(last), Order::Down) => upper.clone_from(last),
        }
        // RocksDB does not report how far it came, so the range is cut into pieces that it can finish.
        let limit = PASSED_IN_PIECE.min(self.db.passed_keys_max);
        let mut pieces = Pieces::new(lower, upper, order, limit);
        loop {
            if over() {
                return Ok(false);
            }
            let (from, to, limit) = pieces.next();
            let (from, to) = (from.to_vec(), to.to_vec());
            let iterator = self
                .db
                .iterator(self.at, self.family, from, to, order, limit);
            if let Some(key) = iterator.key() {
                self.go_on_at(key.to_vec(), limit)?;
                return Ok(true);
            }
            if is_incomplete(&iterator)? {
                pieces.full();
            } else if !pieces.empty() {
                self.walk.iterator = iterator;
                return Ok(true);
            }
        }
    }

    /// Stands at the entry with `key`, which was found by passing over `limit` deleted keys or versions at most.
    fn go_on_at(&mut self, key: Vec<u8>, limit: u64) -> Result<(), DbError> {
        match self.walk.order {
            Order::Up => self.lower = key,
            Order::Down => {
                self.upper = key;
                self.upper.push(0);
            }
        }
        self.last = None;
        let mut limit = limit.max(self.db.passed_keys_max);
        loop {
            let (lower, upper) = (self.lower.clone(), self.upper.clone());
            let order = self.walk.order;
            self.walk.iterator = self
                .db
                .iterator(self.at, self.family, lower, upper, order, limit);
            if !is_incomplete(&self.walk.iterator)? {
                return Ok(());
            }
            // A commit came in between, and there is one more version of it.
            limit = limit.saturating_mul(2);
        }
    }

    /// As [`Walk::entry`]; the walk must have arrived.
    ///
    /// # Errors
    /// RocksDB could not read on.
    pub fn entry(&self) -> Result<Option<Stored<'_>>, DbError> {
        self.walk.entry()
    }

    /// Goes on to the first entry whose key is not below `key`; [`SteppedWalk::arrive`] must follow. Only in a walk up, and not back.
    pub fn seek(&mut self, key: &[u8]) {
        let stands_there = |(at, _): Stored<'_>| at >= key;
        if self.walk.iterator.item().is_some_and(stands_there) {
            return;
        }
        self.lower.clear();
        self.lower.extend_from_slice(key);
        self.last = None;
        self.walk.seek(key);
    }

    /// Goes on; [`SteppedWalk::arrive`] must follow.
    pub fn advance(&mut self) {
        if let Some(key) = self.walk.iterator.key() {
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
        }
        self.walk.advance();
    }
}

/// Whether an iterator stopped because it had passed over too many deleted keys.
fn is_incomplete(iterator: &DBRawIterator<'_>) -> Result<bool, DbError> {
    if iterator.valid() {
        return Ok(false);
    }
    match iterator.status() {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::Incomplete => Ok(true),
        Err(error) => Err(DbError::Read(error)),
    }
}
