//! The contract's imports, natively: modules of the shape that `wit-bindgen` gives them, over the [`Host`](super::host::Host).

/// `state`.
pub(crate) mod state {
    use std::cell::RefCell;
    use std::rc::Rc;

    use crate::backend::types::BytesColumn;
    pub(crate) use crate::bindings::imports::wasm_host::task::state::{
        Entries, OpenError, PutOptions, Range, ScanOptions,
    };
    use crate::column::Column as _;
    use crate::testing::host::{self, Calls, Host, Shared};
    use crate::testing::limits::{
        CALL_BYTES, CURSORS, KEY_BYTES, STORE_HANDLES, at_most, check_column, trap,
    };
    use crate::testing::stores::Found;

    pub(crate) struct Store {
        name: String,
        host: Shared,
    }

    impl Store {
        pub(crate) fn open(name: &str) -> Result<Self, OpenError> {
            let shared = host::current();
            let mut host = shared.borrow_mut();
            host.calls.open += 1;
            if !host.stores.is_declared(name) {
                return Err(OpenError::NoSuchStore);
            }
            host.open_stores += 1;
            at_most(
                "the number of store handles",
                STORE_HANDLES,
                host.open_stores,
            );
            drop(host);
            Ok(Self {
                name: name.to_owned(),
                host: shared,
            })
        }

        /// Counts a call and gives the host to it.
        fn call<R>(
            &self,
            count: impl FnOnce(&mut Calls),
            work: impl FnOnce(&mut Host, &str) -> R,
        ) -> R {
            let mut host = self.host.borrow_mut();
            count(&mut host.calls);
            work(&mut host, &self.name)
        }

        pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
            at_most("key-bytes", KEY_BYTES, key.len());
            self.call(
                |calls| calls.get += 1,
                |host, name| host.stores.get(name, key, host.now_ms).map(<[u8]>::to_vec),
            )
        }

        pub(crate) fn put(&self, key: &[u8], value: &[u8], options: Option<PutOptions>) {
            self.call(
                |calls| calls.put += 1,
                |host, name| {
                    host.stage("put", 1, key.len() + value.len());
                    host.stores
                        .write(name, key, Some(value), expires_ms(host.now_ms, options));
                },
            );
        }

        pub(crate) fn delete(&self, key: &[u8]) {
            self.call(
                |calls| calls.delete += 1,
                |host, name| {
                    host.stage("delete", 1, key.len());
                    host.stores.write(name, key, None, None);
                },
            );
        }

        pub(crate) fn increment(&self, key: &[u8], by: i64) -> i64 {
            self.call(
                |calls| calls.increment += 1,
                |host, name| {
                    host.stage("increment", 1, key.len() + 8);
                    host.stores.increment(name, key, by, host.now_ms)
                },
            )
        }

        pub(crate) fn get_many(&self, keys: &BytesColumn) -> BytesColumn {
            check_keys(keys);
            self.call(
                |calls| calls.get_many += 1,
                |host, name| {
                    let mut values = BytesColumn::empty();
                    for place in 0..keys.count() {
                        match host.stores.get(name, keys.bytes(place), host.now_ms) {
                            Some(value) => values.push(value),
                            None => values.push_absent(),
                        }
                    }
                    at_most(
                        "what one call returns, in bytes,",
                        CALL_BYTES,
                        values.data.len(),
                    );
                    values
                },
            )
        }

        pub(crate) fn put_many(
            &self,
            keys: &BytesColumn,
            values: &BytesColumn,
            options: Option<PutOptions>,
        ) {
            check_keys(keys);
            check_column("values", values);
            if keys.count() != values.count() {
                trap(format_args!(
                    "{} values for {} keys",
                    values.count(),
                    keys.count()
                ));
            }
            self.call(
                |calls| calls.put_many += 1,
                |host, name| {
                    let bytes = keys.data.len() + values.data.len();
                    host.stage("put-many", keys.count(), bytes);
                    for place in 0..keys.count() {
                        let expires_ms = expires_ms(host.now_ms, options);
                        host.stores
                            .write(name, keys.bytes(place), values.entry(place), expires_ms);
                    }
                },
            );
        }

        pub(crate) fn delete_range(&self, range: &Range) {
            self.call(
                |calls| calls.delete_range += 1,
                |host, name| {
                    let bound = |key: &Option<Vec<u8>>| key.as_ref().map_or(0, Vec::len);
                    host.stage("delete-range", 2, bound(&range.start) + bound(&range.end));
                    // Expired entries may stay: they read as absent.
                    for (key, _) in host.stores.scan(name, range, false, host.now_ms) {
                        host.stores.write(name, &key, None, None);
                    }
                },
            );
        }

        pub(crate) fn scan(&self, range: &Range, options: ScanOptions) -> Cursor {
            self.call(
                |calls| calls.scan += 1,
                |host, name| {
                    host.open_cursors += 1;
                    at_most("the number of open cursors", CURSORS, host.open_cursors);
                    let mut left = host.stores.scan(name, range, options.reverse, host.now_ms);
                    // Pages are taken from the end.
                    left.reverse();
                    Cursor {
                        host: Rc::clone(&self.host),
                        guest_call: host.guest_call,
                        keys_only: options.keys_only,
                        left: RefCell::new(left),
                    }
                },
            )
        }
    }

    impl Drop for Store {
        fn drop(&mut self) {
            // A trap, which is a panic here, may hold the host.
            if let Ok(mut host) = self.host.try_borrow_mut() {
                host.open_stores -= 1;
            }
        }
    }

    pub(crate) struct Cursor {
        host: Shared,
        guest_call: u64,
        keys_only: bool,
        /// What is left of the view of the moment when it was opened, the next entry last.
        left: RefCell<Found>,
    }

    impl Cursor {
        pub(crate) fn next(&self, max_entries: u32, max_bytes: u32) -> Entries {
            let mut host = self.host.borrow_mut();
            host.calls.next += 1;
            if host.guest_call != self.guest_call {
                trap("a cursor ends with the call that opened it");
            }
            if max_entries == 0 {
                trap("next: max-entries is 0");
            }
            let mut entries = Entries {
                keys: BytesColumn::empty(),
                values: BytesColumn::empty(),
            };
            let mut left = self.left.borrow_mut();
            let mut bytes = 0;
            while let Some((key, value)) = left.last() {
                bytes += key.len() + if self.keys_only { 0 } else { value.len() };
                let count = entries.keys.count();
                if count > 0 && (count >= max_entries as usize || bytes > max_bytes as usize) {
                    break;
                }
                entries.keys.push(key);
                if !self.keys_only {
                    entries.values.push(value);
                }
                left.pop();
            }
            entries
        }
    }

    impl Drop for Cursor {
        fn drop(&mut self) {
            if let Ok(mut host) = self.host.try_borrow_mut()
                && host.guest_call == self.guest_call
            {
                host.open_cursors -= 1;
            }
        }
    }

    fn check_keys(keys: &BytesColumn) {
        check_column("keys", keys);
        if !keys.absent.is_empty() {
            trap("an absent key");
        }
        for place in 0..keys.count() {
            at_most("key-bytes", KEY_BYTES, keys.bytes(place).len());
        }
    }

    fn expires_ms(now_ms: i64, options: Option<PutOptions>) -> Option<i64> {
        options?
            .ttl_ms
            .map(|ttl_ms| now_ms.saturating_add_unsigned(ttl_ms))
    }
}

/// `output`.
pub(crate) mod output {
    use crate::backend::types::Messages;
    use crate::testing::host;

    pub(crate) fn send_many(port: &str, messages: &Messages, partitions: Option<&[u8]>) {
        let shared = host::current();
        let host = &mut *shared.borrow_mut();
        host.calls.send_many += 1;
        host.stage("sending", 0, 0);
        host.check_sending();
        let (entries, bytes) =
            host.ports
                .send_many(port, messages, partitions, host.default_timestamp_ms);
        host.stage("sending", entries, bytes);
    }
}

/// `context`.
pub(crate) mod context {
    pub(crate) use crate::bindings::imports::wasm_host::task::context::{Input, InputKind};
    use crate::testing::host;
    use crate::testing::limits::trap;

    pub(crate) fn job() -> String {
        host::current().borrow().job.clone()
    }

    pub(crate) fn stage() -> String {
        host::current().borrow().stage.clone()
    }

    pub(crate) fn task() -> String {
        let shared = host::current();
        let host = shared.borrow();
        format!("{}/{}", host.stage, host.partition)
    }

    pub(crate) fn partition() -> u32 {
        host::current().borrow().partition
    }

    pub(crate) fn partitions() -> u32 {
        host::current().borrow().partitions
    }

    pub(crate) fn inputs() -> Vec<Input> {
        let shared = host::current();
        let host = shared.borrow();
        host.inputs
            .iter()
            .map(|port| Input {
                port: port.clone(),
                kind: InputKind::Partitioned,
            })
            .collect()
    }

    /// There is no component: the version is that of no bytes.
    pub(crate) fn component_version() -> String {
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned()
    }

    pub(crate) fn now_ms() -> i64 {
        host::current().borrow().now_ms
    }

    pub(crate) fn request_checkpoint() {
        host::current().borrow_mut().checkpoint_requested = true;
    }

    pub(crate) fn request_stop(reason: &str) {
        let shared = host::current();
        let mut host = shared.borrow_mut();
        if !host.may_stop {
            trap("the job does not grant request-stop");
        }
        host.stop = Some(reason.to_owned());
    }
}

/// `metrics`.
pub(crate) mod metrics {
    use crate::testing::host::{Figure, current};

    pub(crate) fn counter_add(name: &str, by: u64) {
        if let Figure::Counter(sum) = current().borrow_mut().figure(name, Figure::Counter(0)) {
            *sum = sum.saturating_add(by);
        }
    }

    pub(crate) fn gauge_set(name: &str, value: f64) {
        *current().borrow_mut().figure(name, Figure::Gauge(value)) = Figure::Gauge(value);
    }

    pub(crate) fn histogram_record(name: &str, value: f64) {
        if let Figure::Histogram(values) = current()
            .borrow_mut()
            .figure(name, Figure::Histogram(Vec::new()))
        {
            values.push(value);
        }
    }
}

/// `wasi:config/store`.
pub(crate) mod config {
    pub(crate) use crate::bindings::imports::wasi::config::store::Error;
    use crate::testing::host;

    pub(crate) fn get(key: &str) -> Result<Option<String>, Error> {
        Ok(host::current().borrow().config.get(key).cloned())
    }
}

/// `wasi:logging/logging`.
pub(crate) mod logging {
    pub(crate) use crate::bindings::imports::wasi::logging::logging::Level;
    use crate::testing::host::{self, Line};

    pub(crate) fn log(level: Level, context: &str, message: &str) {
        let level = match level {
            Level::Trace => crate::log::Level::Trace,
            Level::Debug => crate::log::Level::Debug,
            Level::Info => crate::log::Level::Info,
            Level::Warn => crate::log::Level::Warn,
            Level::Error => crate::log::Level::Error,
            Level::Critical => crate::log::Level::Critical,
        };
        let line = Line {
            level,
            context: context.to_owned(),
            message: message.to_owned(),
        };
        host::current().borrow_mut().lines.push(line);
    }
}
