//! The keyed update: one read and one write for all keys of a batch.

use std::any::Any;
use std::borrow::Borrow;

use crate::backend::types::BytesColumn;
use crate::call::Call;
use crate::column::{Column as _, RETAIN_BYTES};
use crate::scratch::{KeyScratch, Slot};
use crate::{Codec, Error, Message, Outcome, Store, packed};

impl<K: Codec, V: Codec> Store<K, V>
where
    V::Owned: Clone,
{
    /// Updates the values of the messages' keys: the way to use a store in a hot path.
    ///
    /// `key` returns the key of a message. `apply` is called for each message in order, with the value of
    /// its key as the messages before have left it: `None` is a key without a value, and a value that is `None` afterwards is
    /// deleted. It may send, too, and returns nothing or `Result<(), Error>`. However many messages and keys there are, the store is read by one `get-many` and written by one
    /// `put-many`, which holds the keys whose bytes have changed (all that were applied to, if the store was given a
    /// [`ttl_ms`](Store::ttl_ms)); with nothing to write there is no `put-many`.
    ///
    /// An error of either closure rejects that message: its change of the value and its sends are undone, and the
    /// others go on. To take a change back, a value is cloned before the second and each later message of its key.
    /// A message that has been rejected before is skipped. A message whose stored value cannot be decoded is rejected.
    ///
    /// The update itself fails, and should fail the call by `?`, when a value cannot be encoded, or when a message is
    /// rejected of which something was written before. The host then gives the messages one by one, which
    /// rejects the ones that caused it.
    ///
    /// Within `apply`, other reads of this store see what it held before the update.
    ///
    /// The contract lets one call return 16 MiB and write 16 MiB: if values are large, the job's `batch-messages` must be
    /// small enough for the values of that many keys, or the host traps.
    ///
    /// ```
    /// # use wasm_host_sdk::prelude::*;
    /// # fn count(batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
    /// let counts = cx.store::<Str, Postcard<u64>>("counts")?;
    /// let totals = cx.output::<Str, Json<u64>>("totals");
    /// counts.update(batch, |msg| msg.key_str(), |msg, count| {
    ///     let count = count.get_or_insert_default();
    ///     *count += 1;
    ///     totals.send(msg.key_str()?, count)
    /// })
    /// # }
    /// ```
    pub fn update<'a, Q: Borrow<K::Borrowed>, R: Outcome>(
        &self,
        messages: impl IntoIterator<Item = Message<'a>>,
        mut key: impl FnMut(&Message<'a>) -> Result<Q, Error>,
        mut apply: impl FnMut(&Message<'a>, &mut Option<V::Owned>) -> R,
    ) -> Result<(), Error> {
        self.update_with(
            messages,
            |message| Ok((key(message)?, ())),
            |message, (), value| apply(message, value),
        )
    }

    /// Like [`update`](Self::update), for messages that are read once and used twice: `read` gives the key and anything
    /// else, which `apply` gets back with the message. A record that borrows from the batch costs no copy:
    ///
    /// ```
    /// # use wasm_host_sdk::prelude::*;
    /// # use serde::Deserialize;
    /// #[derive(Deserialize)]
    /// struct Flight<'a> {
    ///     origin: &'a str,
    ///     delay: i64,
    /// }
    ///
    /// # fn delays(batch: &Batch<'_>, cx: &Context) -> Result<(), Error> {
    /// let delays = cx.store::<Str, I64>("delays")?;
    /// delays.update_with(
    ///     batch,
    ///     |msg| msg.json::<Flight<'_>>().map(|flight| (flight.origin, flight)),
    ///     |_, flight, sum| {
    ///         if flight.delay < 0 {
    ///             reject!("{} is early", flight.origin);
    ///         }
    ///         *sum.get_or_insert_default() += flight.delay;
    ///         Ok(())
    ///     },
    /// )
    /// # }
    /// ```
    pub fn update_with<'a, Q: Borrow<K::Borrowed>, T, R: Outcome>(
        &self,
        messages: impl IntoIterator<Item = Message<'a>>,
        read: impl FnMut(&Message<'a>) -> Result<(Q, T), Error>,
        apply: impl FnMut(&Message<'a>, T, &mut Option<V::Owned>) -> R,
    ) -> Result<(), Error> {
        self.call.with_keys(|scratch| {
            let items = collect::<K, Q, T>(&self.call, scratch, messages, read)?;
            if items.is_empty() {
                return Ok(());
            }
            let stored = self.open.handle.get_many(&scratch.keys);
            let mut slots = self.slots(scratch.keys.count(), &stored);
            self.apply_all(items, scratch, &stored, &mut slots, apply)?;
            self.write_changed(scratch, &stored, &slots)?;
            self.keep(slots, stored.data.len());
            Ok(())
        })
    }

    /// Gives each message to `apply` with the value of its key.
    fn apply_all<'a, T, R: Outcome>(
        &self,
        items: Vec<Item<'a, T>>,
        scratch: &KeyScratch,
        stored: &BytesColumn,
        slots: &mut [Slot<V::Owned>],
        mut apply: impl FnMut(&Message<'a>, T, &mut Option<V::Owned>) -> R,
    ) -> Result<(), Error> {
        let mut before: Option<V::Owned> = None;
        for Item {
            message,
            place,
            read,
        } in items
        {
            let place = place as usize;
            let Some(slot) = slots.get_mut(place) else {
                continue;
            };
            let first = !slot.loaded;
            if first {
                if let Err(error) = load::<V>(slot, stored.bytes(place)) {
                    let key = String::from_utf8_lossy(scratch.keys.bytes(place));
                    let what = format!("store {:?}: the value of key {key:?}", self.open.name);
                    self.call.reject(&message, error.context(what))?;
                    continue;
                }
            } else {
                before.clone_from(&slot.value);
            }
            if self
                .call
                .attempt(&message, true, || {
                    apply(&message, read, &mut slot.value).into_result()
                })?
                .is_some()
            {
                slot.applied = true;
            } else if first {
                slot.loaded = false;
            } else {
                std::mem::swap(&mut slot.value, &mut before);
            }
        }
        Ok(())
    }

    /// Writes what is not stored already.
    fn write_changed(
        &self,
        scratch: &mut KeyScratch,
        stored: &BytesColumn,
        slots: &[Slot<V::Owned>],
    ) -> Result<(), Error> {
        let KeyScratch {
            keys,
            write_keys,
            write_values,
            ..
        } = scratch;
        // As long as every key is written, as in most batches, the column of all keys serves.
        let mut all = true;
        for (place, slot) in slots.iter().enumerate() {
            if self.push_changed(write_values, slot, stored.bytes(place))? {
                if !all {
                    write_keys.push(keys.bytes(place));
                }
            } else if all {
                all = false;
                write_keys.extend_from_start(keys, place);
            }
        }
        if write_values.count() > 0 {
            self.call.wrote();
            let keys = if all { keys } else { write_keys };
            self.open
                .handle
                .put_many(keys, write_values, self.options());
        }
        Ok(())
    }

    /// Adds the value of a slot to those that are written, if it is to be.
    #[inline]
    fn push_changed(
        &self,
        values: &mut BytesColumn,
        slot: &Slot<V::Owned>,
        stored: &[u8],
    ) -> Result<bool, Error> {
        match &slot.value {
            _ if !slot.applied => return Ok(false),
            None if slot.absent => return Ok(false),
            None => values.push_absent(),
            Some(value) => {
                let start = values.data.len();
                V::encode(value.borrow(), &mut values.data)
                    .map_err(|error| error.context(format!("store {:?}", self.open.name)))?;
                let unchanged = !slot.absent && values.data.get(start..) == Some(stored);
                if unchanged && self.ttl_ms.is_none() {
                    values.discard();
                    return Ok(false);
                }
                values.close();
            }
        }
        Ok(true)
    }

    /// A slot for each distinct key: those of the last update, as far as they go.
    fn slots(&self, count: usize, stored: &BytesColumn) -> Vec<Slot<V::Owned>> {
        let kept: Option<Box<dyn Any>> = self.open.slots.take();
        let mut slots = kept
            .and_then(|slots| slots.downcast::<Vec<Slot<V::Owned>>>().ok())
            .map_or_else(Vec::new, |s| *s);
        slots.truncate(count);
        for slot in &mut slots {
            (slot.absent, slot.loaded, slot.applied) = (false, false, false);
        }
        slots.resize_with(count, Slot::new);
        for place in packed::iter(&stored.absent).map(u32::from_le_bytes) {
            if let Some(slot) = slots.get_mut(place as usize) {
                slot.absent = true;
            }
        }
        slots
    }

    /// Keeps the slots for the next update, with their values if that spares allocations.
    fn keep(&self, mut slots: Vec<Slot<V::Owned>>, stored_bytes: usize) {
        if !V::REUSES || stored_bytes > RETAIN_BYTES {
            slots.clear();
        }
        if slots.capacity() * size_of::<Slot<V::Owned>>() <= RETAIN_BYTES {
            self.open.slots.replace(Some(Box::new(slots)));
        }
    }
}

/// A message on its way to `apply`.
struct Item<'a, T> {
    message: Message<'a>,
    place: u32,
    read: T,
}

/// Reads all messages, and their distinct keys into the scratch.
fn collect<'a, K: Codec, Q: Borrow<K::Borrowed>, T>(
    call: &Call,
    scratch: &mut KeyScratch,
    messages: impl IntoIterator<Item = Message<'a>>,
    mut read: impl FnMut(&Message<'a>) -> Result<(Q, T), Error>,
) -> Result<Vec<Item<'a, T>>, Error> {
    let messages = messages.into_iter();
    let mut items = Vec::with_capacity(messages.size_hint().0);
    for message in messages {
        if call.is_rejected(&message) {
            continue;
        }
        // What `read` does takes part with `apply`; here it can only fail.
        let mark = call.mark();
        let placed = read(&message)
            .and_then(|(key, read)| Ok((scratch.place(|out| K::encode(key.borrow(), out))?, read)));
        let placed = call.settle(&message, &mark, placed)?;
        if let Some((place, read)) = placed {
            items.push(Item {
                message,
                place,
                read,
            });
        }
    }
    Ok(items)
}

/// Makes a slot hold the stored value of its key.
#[inline]
fn load<V: Codec>(slot: &mut Slot<V::Owned>, stored: &[u8]) -> Result<(), Error> {
    if slot.absent {
        slot.value = None;
    } else {
        match &mut slot.value {
            Some(value) if V::REUSES => V::decode_into(stored, value)?,
            value => *value = Some(V::decode(stored)?),
        }
    }
    slot.loaded = true;
    Ok(())
}
