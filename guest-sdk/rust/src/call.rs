//! The current call of the guest: what it has sent and rejected, and whether a message can still be rejected
//! on its own.
//!
//! A rejection in a batch's answer promises that nothing was written or sent for the message. Sends wait in the
//! [`Sends`] and can be taken back; writes have gone to the host. So a message that fails after something was written for
//! it fails the call instead: the host undoes all of it and gives the messages again one by one, where the failing call
//! holds that message only. Whichever way it goes, the outcome is the one that the contract has for a rejected message.

use std::any::Any;
use std::cell::{Cell, Ref, RefCell, RefMut};
use std::rc::Rc;

use crate::backend::{state, types};
use crate::column::index;
use crate::scratch::KeyScratch;
use crate::sends::Sends;
use crate::{Error, Message};

/// The message was rejected.
const REJECTED: u8 = 1;
/// Something of the message is in the call's effects.
const TOOK_PART: u8 = 2;

/// What the handles of one instance share.
#[derive(Default)]
pub(crate) struct Call {
    sends: RefCell<Sends>,
    verdicts: RefCell<Verdicts>,
    any_rejected: Cell<bool>,
    writes: Cell<u64>,
    stores: RefCell<Vec<Rc<OpenStore>>>,
    bytes: RefCell<Vec<u8>>,
    keys: RefCell<KeyScratch>,
}

#[derive(Default)]
struct Verdicts {
    of_messages: Vec<u8>,
    rejections: Vec<types::Rejection>,
    failed: Option<String>,
}

/// How much a call had sent and written at some moment.
#[derive(PartialEq)]
pub(crate) struct Mark {
    sends: usize,
    writes: u64,
}

impl Call {
    pub(crate) fn sends(&self) -> RefMut<'_, Sends> {
        self.sends.borrow_mut()
    }

    /// Begins a call with this many messages.
    pub(crate) fn begin(&self, messages: usize) {
        self.sends().undo(0);
        self.any_rejected.set(false);
        let mut verdicts = self.verdicts.borrow_mut();
        verdicts.of_messages.clear();
        verdicts.of_messages.resize(messages, 0);
        verdicts.rejections.clear();
        verdicts.failed = None;
    }

    /// Ends a call: hands what was sent to the host and what was rejected to the caller, or drops both.
    pub(crate) fn finish<T>(
        &self,
        result: Result<T, Error>,
    ) -> Result<(T, Vec<types::Rejection>), Error> {
        let (failed, rejections) = {
            let mut verdicts = self.verdicts.borrow_mut();
            (
                verdicts.failed.take(),
                std::mem::take(&mut verdicts.rejections),
            )
        };
        match (result, failed) {
            (Ok(value), None) => {
                self.sends().flush();
                Ok((value, rejections))
            }
            // A handler may have swallowed the error, or wrapped it: the first reason is the most useful.
            (_, Some(reason)) => self.drop_all(Error::new(reason)),
            (Err(error), None) => self.drop_all(error),
        }
    }

    fn drop_all<T>(&self, error: Error) -> Result<T, Error> {
        self.sends().undo(0);
        Err(error)
    }

    /// Notes a write that has gone to the host.
    pub(crate) fn wrote(&self) {
        self.writes.set(self.writes.get().wrapping_add(1));
    }

    pub(crate) fn is_rejected(&self, message: &Message<'_>) -> bool {
        self.any_rejected.get() && self.verdict(message) & REJECTED != 0
    }

    fn verdict(&self, message: &Message<'_>) -> u8 {
        let verdicts: Ref<'_, Verdicts> = self.verdicts.borrow();
        verdicts
            .of_messages
            .get(message.index())
            .copied()
            .unwrap_or(0)
    }

    /// Rejects a message, or the whole call if the message can no longer be rejected on its own.
    pub(crate) fn reject(&self, message: &Message<'_>, error: Error) -> Result<(), Error> {
        let verdict = self.verdict(message);
        if verdict & REJECTED != 0 {
            return Ok(());
        }
        if verdict & TOOK_PART != 0 {
            return Err(self.fail(error));
        }
        let (reason, detail) = error.into_parts();
        let mut verdicts = self.verdicts.borrow_mut();
        if let Some(verdict) = verdicts.of_messages.get_mut(message.index()) {
            *verdict |= REJECTED;
            self.any_rejected.set(true);
            verdicts.rejections.push(types::Rejection {
                index: index(message.index()),
                reason,
                detail,
            });
        }
        Ok(())
    }

    /// Why a message was rejected, as an error.
    fn rejection_of(&self, message: &Message<'_>) -> Error {
        let verdicts = self.verdicts.borrow();
        let rejection = verdicts
            .rejections
            .iter()
            .find(|rejection| rejection.index as usize == message.index());
        Error::new(rejection.map_or("rejected", |rejection| rejection.reason.as_str()))
    }

    /// The first rejection of the call, as an error.
    pub(crate) fn first_rejection(&self) -> Option<Error> {
        let verdicts = self.verdicts.borrow();
        verdicts
            .rejections
            .first()
            .map(|rejection| Error::new(rejection.reason.as_str()))
    }

    /// Makes the whole call an `err`, whatever the handler returns.
    fn fail(&self, error: Error) -> Error {
        self.verdicts
            .borrow_mut()
            .failed
            .get_or_insert_with(|| error.reason().to_owned());
        error
    }

    /// The state of the call before the work on a message.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            sends: self.sends().mark(),
            writes: self.writes.get(),
        }
    }

    /// Does what one message asks for, all of it or nothing. `Ok(None)`: it was rejected, and nothing of it is left
    /// but what `work` itself changed in memory. `Err`: the whole call has failed.
    #[inline]
    pub(crate) fn attempt<T>(
        &self,
        message: &Message<'_>,
        participates: bool,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mark = self.mark();
        let outer_timestamp_ms = self.sends().timestamp_ms.replace(message.timestamp_ms());
        let done = work();
        self.sends().timestamp_ms = outer_timestamp_ms;
        let settled = self.settle(message, &mark, done)?;
        if settled.is_some() && (participates || self.mark() != mark) {
            self.take_part(message);
        }
        Ok(settled)
    }

    /// Ends what a message did since the mark: keeps it, or takes it back and rejects the message. The results are
    /// those of [`attempt`](Self::attempt).
    #[inline]
    pub(crate) fn settle<T>(
        &self,
        message: &Message<'_>,
        mark: &Mark,
        done: Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let error = match done {
            Ok(value) if !self.is_rejected(message) => return Ok(Some(value)),
            // The message was rejected through the context.
            Ok(_) => self.rejection_of(message),
            Err(error) => error,
        };
        if self.writes.get() != mark.writes {
            return Err(self.fail(error));
        }
        self.sends().undo(mark.sends);
        self.reject(message, error)?;
        Ok(None)
    }

    #[inline]
    fn take_part(&self, message: &Message<'_>) {
        if let Some(verdict) = self
            .verdicts
            .borrow_mut()
            .of_messages
            .get_mut(message.index())
        {
            *verdict |= TOOK_PART;
        }
    }

    /// A store by name, opened once per instance: its handle serves all later calls.
    pub(crate) fn store(&self, name: &str) -> Result<Rc<OpenStore>, Error> {
        if let Some(open) = self.stores.borrow().iter().find(|store| store.name == name) {
            return Ok(Rc::clone(open));
        }
        let handle = state::Store::open(name).map_err(|error| match error {
            state::OpenError::NoSuchStore => {
                Error::new(format!("the job declares no store {name:?} for this stage"))
            }
            state::OpenError::Other(reason) => Error::new(format!("store {name:?}: {reason}")),
        })?;
        let open = Rc::new(OpenStore::new(name, handle));
        self.stores.borrow_mut().push(Rc::clone(&open));
        Ok(open)
    }

    /// Lends the buffers for keys of a batch. A keyed update within another finds empty ones.
    pub(crate) fn with_keys<R>(&self, work: impl FnOnce(&mut KeyScratch) -> R) -> R {
        let mut keys = self.keys.take();
        let result = work(&mut keys);
        keys.reset();
        self.keys.replace(keys);
        result
    }

    /// Lends an empty buffer for bytes.
    pub(crate) fn with_bytes<R>(&self, work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let mut bytes = self.bytes.take();
        bytes.clear();
        let result = work(&mut bytes);
        self.bytes.replace(bytes);
        result
    }
}

/// What all handles of a store share.
pub(crate) struct OpenStore {
    pub(crate) name: String,
    pub(crate) handle: state::Store,
    /// Slots of the last update, of the type of that update's values.
    pub(crate) slots: RefCell<Option<Box<dyn Any>>>,
}

impl OpenStore {
    pub(crate) fn new(name: &str, handle: state::Store) -> Self {
        Self {
            name: name.to_owned(),
            handle,
            slots: RefCell::new(None),
        }
    }
}
