//! Migrating state that code of another version has left.

use std::borrow::Borrow as _;
use std::rc::Rc;

use crate::call::Call;
use crate::codec::Codec;
use crate::{Context, Error, Store, Task};

/// What one call migrates at most, so that it stays within the deadline and the limits of a call.
const CHUNK_ENTRIES: usize = 4_096;
const CHUNK_BYTES: usize = 1 << 20;

/// What is to be migrated: the state of one task, in as many calls as it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration<'a> {
    old: u32,
    resume: Option<&'a [u8]>,
}

/// How far a migration has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// The state of the task is migrated.
    Done,
    /// Call again: these bytes, at most 1 MiB, are what the next call finds in [`Migration::resume`].
    More(Vec<u8>),
}

impl From<()> for Migrated {
    fn from((): ()) -> Self {
        Self::Done
    }
}

impl<'a> Migration<'a> {
    /// The version of the state; 0 if the code that left it did not name one. It is lower than `STATE_VERSION`.
    pub fn old(&self) -> u32 {
        self.old
    }

    /// What the call before has returned; `None` in the first call for a task.
    pub fn resume(&self) -> Option<&'a [u8]> {
        self.resume
    }

    /// Migrates the entries of a store in the order of their keys, some in each call. `migrate` is given each entry once, and may write to
    /// any store. A greater key that it adds to this one comes to it as well.
    ///
    /// ```
    /// # use wasm_host_sdk::prelude::*;
    /// # struct Counter;
    /// # impl Counter {
    /// fn migrate(migration: &Migration<'_>, cx: &Context) -> Result<Migrated, Error> {
    ///     let old = cx.store::<Str, I64>("counts")?;
    ///     let new = cx.store::<Str, Json<(i64, i64)>>("counts")?;
    ///     migration.entries(&old, |airport, count| new.put(&airport, &(count, 0)))
    /// }
    /// # }
    /// ```
    pub fn entries<K: Codec, V: Codec>(
        &self,
        store: &Store<K, V>,
        mut migrate: impl FnMut(K::Owned, V::Owned) -> Result<(), Error>,
    ) -> Result<Migrated, Error> {
        let (mut entries, mut bytes) = (0, 0);
        let mut scan = store.range().start_at(self.resume).scan()?;
        while let Some(entry) = scan.next() {
            let (key, value) = entry?;
            let mut last = Vec::new();
            K::encode(key.borrow(), &mut last)?;
            entries += 1;
            bytes += scan.bytes_of_last();
            migrate(key, value)?;
            if entries >= CHUNK_ENTRIES || bytes >= CHUNK_BYTES {
                // The least key above it.
                last.push(0);
                return Ok(Migrated::More(last));
            }
        }
        Ok(Migrated::Done)
    }
}

/// One call of a task that migrates: of the type, because no instance of it is open. `Some`: there is more.
pub fn migrate<T: Task>(old: u32, resume: Option<&[u8]>) -> Result<Option<Vec<u8>>, Error> {
    #[cfg(target_family = "wasm")]
    {
        static REPORTED: std::sync::Once = std::sync::Once::new();
        REPORTED.call_once(crate::log::report_panics);
    }
    let call = Rc::new(Call::default());
    let mut context = Context::new(Rc::clone(&call));
    call.begin(0);
    let migrated = T::migrate(&Migration { old, resume }, &mut context);
    let (migrated, _) = call.finish(migrated)?;
    Ok(match migrated {
        Migrated::Done => None,
        Migrated::More(resume) => Some(resume),
    })
}
