//! Counts in the form of version 1, to which it migrates those of earlier ones.

use wasm_host_sdk::prelude::*;
use wasm_host_test_guests::{count_in_form, migrate_counts};

struct Migrating;

#[task]
impl Migrating {
    const STATE_VERSION: u32 = 1;

    fn migrate(migration: &Migration<'_>, cx: &Context) -> Result<Migrated, Error> {
        migrate_counts(Self::STATE_VERSION, migration, cx)
    }

    fn open(cx: &Context) -> Result<Self, Error> {
        // State of another form is none for `open`.
        for entry in cx.store::<Raw, Str>("counts")?.range().scan()? {
            let (_, count) = entry?;
            assert!(count.starts_with("1:"), "{count:?} before the migration");
        }
        Ok(Self)
    }

    fn message(&mut self, message: &Message<'_>, cx: &Context) -> Result<(), Error> {
        let value = message.need_value()?;
        count_in_form(Self::STATE_VERSION, value, message.key(), cx)
    }
}
