//! The container's RocksDB: one database, three column families. No type of RocksDB leaves this module.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType,
    Env, LogLevel, Options, WriteBatch, WriteOptions,
};

mod snapshot;
mod walk;

pub use snapshot::Snapshot;
pub use walk::{SteppedWalk, Stored, Walk};

/// The column families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Entries of stores.
    State,
    /// Chunks of log streams and of outboxes.
    Log,
    /// Names, positions, stamps, the commit key.
    Meta,
}

impl Family {
    const ALL: [Family; 3] = [Family::State, Family::Log, Family::Meta];

    fn name(self) -> &'static str {
        match self {
            Family::State => "state",
            Family::Log => "log",
            Family::Meta => "meta",
        }
    }
}

/// The database failed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It could not be opened.
    #[error("open database {}", path.display())]
    Open {
        /// Where.
        path: PathBuf,
        /// RocksDB's reason.
        #[source]
        source: rocksdb::Error,
    },
    /// It could not be read.
    #[error("read from the database")]
    Read(#[source] rocksdb::Error),
    /// The disk refused.
    #[error("write to the database")]
    Disk(#[source] std::io::Error),
    /// It could not be written. After this the content of the disk is unknown.
    #[error("write to the database")]
    Write(#[source] rocksdb::Error),
}

impl DbError {
    /// Whether the disk is full.
    pub fn no_space(&self) -> bool {
        self.says(&["No space left on device", "NoSpace"])
    }

    /// Whether the operating system refused, which says nothing about the files.
    pub fn is_environment(&self) -> bool {
        self.says(&[
            "Permission denied",
            "Too many open files",
            "Read-only file system",
            "Cannot allocate memory",
            // Another process has the database open.
            "While lock file",
        ])
    }

    /// RocksDB tells the system's errors apart in its text only.
    fn says(&self, reasons: &[&str]) -> bool {
        let text = match self {
            DbError::Open { source, .. } | DbError::Read(source) | DbError::Write(source) => {
                source.to_string()
            }
            DbError::Disk(source) => source.to_string(),
        };
        reasons.iter().any(|reason| text.contains(reason))
    }
}

/// How the database is set up.
#[derive(Debug, Clone)]
pub struct DbOptions {
    /// RocksDB's own block cache: index, filter and data blocks beneath the values at hand.
    pub block_cache_bytes: usize,
    /// Memtables of all families together.
    pub write_buffer_bytes: usize,
    /// Write-ahead log kept before memtables are flushed: what a reopen replays.
    pub wal_bytes_max: u64,
    /// Threads for flushes and compactions.
    pub background_jobs: i32,
    /// The number of deleted keys that a walk in steps passes over before it looks at the time.
    pub passed_keys_max: u64,
}

impl Default for DbOptions {
    fn default() -> DbOptions {
        DbOptions {
            block_cache_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            wal_bytes_max: 64 << 20,
            background_jobs: 2,
            // Some milliseconds.
            passed_keys_max: 1 << 14,
        }
    }
}

/// Bytes a second where RocksDB wants to slow writes down: as good as unlimited.
const DELAYED_WRITE_RATE: u64 = 1 << 30;
/// Memtables of a family that may wait to be flushed, before writes are stopped: an epoch is written in one go.
const MEMTABLES: i32 = 6;
/// A file is compacted if half of this many entries in a row, or of all of them, are deletes.
const DELETES_WINDOW: usize = 4 << 10;
/// A memtable with this many range deletes is flushed: each read of it pays for them.
const RANGE_DELETES_MAX: u32 = 1_000;

/// An open database.
pub struct Db {
    db: DB,
    passed_keys_max: u64,
    /// Dropped after the database is closed, because fields are dropped in their order.
    _right: Option<Arc<dyn Any + Send + Sync>>,
}

impl Db {
    /// Makes a new database in a folder that does not exist yet.
    ///
    /// # Errors
    /// The folder exists, or RocksDB's reason.
    pub fn create(path: &Path, options: &DbOptions) -> Result<Db, DbError> {
        let mut db_options = database_options(options);
        db_options.create_if_missing(true);
        db_options.create_missing_column_families(true);
        db_options.set_error_if_exists(true);
        Self::open_with(path, &db_options, options)
    }

    /// Opens an existing database; never makes one.
    ///
    /// # Errors
    /// RocksDB's reason.
    pub fn open(path: &Path, options: &DbOptions) -> Result<Db, DbError> {
        Self::open_with(path, &database_options(options), options)
    }

    /// Opens an existing database and changes nothing on disk: the write-ahead log is replayed in memory.
    ///
    /// # Errors
    /// RocksDB's reason.
    pub fn open_read_only(path: &Path, options: &DbOptions) -> Result<Db, DbError> {
        let families = Family::ALL.map(|family| {
            ColumnFamilyDescriptor::new(family.name(), family_options(family, options, None))
        });
        DB::open_cf_descriptors_read_only(&database_options(options), path, families, false)
            .map(|db| Self::new(db, options))
            .map_err(|source| open_error(path, source))
    }

    fn open_with(path: &Path, db_options: &Options, options: &DbOptions) -> Result<Db, DbError> {
        let cache = Cache::new_hyper_clock_cache(options.block_cache_bytes, 0);
        let families = Family::ALL.map(|family| {
            let options = family_options(family, options, Some(&cache));
            ColumnFamilyDescriptor::new(family.name(), options)
        });
        DB::open_cf_descriptors(db_options, path, families)
            .map(|db| Self::new(db, options))
            .map_err(|source| open_error(path, source))
    }

    fn new(db: DB, options: &DbOptions) -> Db {
        Db {
            db,
            passed_keys_max: options.passed_keys_max,
            _right: None,
        }
    }

    /// Keeps the right to use the files until the database is closed, even if parts of it are still held elsewhere.
    #[must_use]
    pub fn with_right(mut self, right: Arc<dyn Any + Send + Sync>) -> Db {
        self._right = Some(right);
        self
    }

    fn family(&self, family: Family) -> &rocksdb::ColumnFamily {
        match self.db.cf_handle(family.name()) {
            Some(handle) => handle,
            None => panic!("column family {} was not opened", family.name()),
        }
    }

    /// Reads a key and hands its value to `read`.
    ///
    /// # Errors
    /// RocksDB's reason; `read` was not called.
    pub fn get_with<R>(
        &self,
        family: Family,
        key: &[u8],
        read: impl FnOnce(Option<&[u8]>) -> R,
    ) -> Result<R, DbError> {
        let value = self
            .db
            .get_pinned_cf(self.family(family), key)
            .map_err(DbError::Read)?;
        Ok(read(value.as_deref()))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// RocksDB's reason.
    pub fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, DbError> {
        self.get_with(family, key, |value| value.map(<[u8]>::to_vec))
    }

    /// Reads keys, which are in order, and hands the value of each to `read`, with its place.
    ///
    /// # Errors
    /// RocksDB's reason; `read` may have been called for some.
    pub fn get_each<K: AsRef<[u8]>>(
        &self,
        family: Family,
        keys: &[K],
        mut read: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), DbError> {
        let found = self
            .db
            .batched_multi_get_cf(self.family(family), keys, true);
        for (index, value) in found.into_iter().enumerate() {
            read(index, value.map_err(DbError::Read)?.as_deref());
        }
        Ok(())
    }

    /// An empty set of writes.
    pub fn write_set(&self) -> WriteSet<'_> {
        WriteSet {
            db: self,
            batch: WriteBatch::default(),
        }
    }

    /// A property of a column family as a number; `None` if RocksDB does not know it.
    pub fn property(&self, family: Family, name: &str) -> Option<u64> {
        self.db
            .property_int_value_cf(self.family(family), name)
            .ok()
            .flatten()
    }
}

/// Writes that become durable together.
pub struct WriteSet<'a> {
    db: &'a Db,
    batch: WriteBatch,
}

impl WriteSet<'_> {
    /// Sets a key.
    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.db.family(family), key, value);
    }

    /// Removes a key.
    pub fn delete(&mut self, family: Family, key: &[u8]) {
        self.batch.delete_cf(self.db.family(family), key);
    }

    /// Removes the keys from `start`, inclusive, to `end`, exclusive.
    pub fn delete_range(&mut self, family: Family, start: &[u8], end: &[u8]) {
        self.batch
            .delete_range_cf(self.db.family(family), start, end);
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.batch.size_in_bytes()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Writes everything at once. `sync`: returns only when it is on the disk.
    ///
    /// # Errors
    /// RocksDB's reason. Whether the writes happened is then unknown.
    pub fn commit(self, sync: Durability) -> Result<(), DbError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync == Durability::Sync);
        self.db
            .db
            .write_opt(self.batch, &options)
            .map_err(DbError::Write)
    }
}

/// What a write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The loss of power.
    Sync,
    /// The end of the process.
    Process,
}

fn open_error(path: &Path, source: rocksdb::Error) -> DbError {
    DbError::Open {
        path: path.to_owned(),
        source,
    }
}

fn database_options(options: &DbOptions) -> Options {
    // Options without a setter in the crate come first, as text; the setters work on top of them. A background error is
    // never resumed from: the process ends, and recovery reads what is on the disk.
    // Writes come from one thread, an epoch at a time, and what an epoch may hold is bounded: slowing them down by the byte
    // would only make guests stand.
    // Files are not given room before they are written: on a full disk a write-ahead log would hold 64 MiB that nobody else gets.
    let text = format!(
        "max_bgerror_resume_count=0;verify_sst_unique_id_in_manifest=true;track_and_verify_wals_in_manifest=true;\
         delayed_write_rate={DELAYED_WRITE_RATE};allow_fallocate=false"
    );
    let mut db = options_of(&text);
    db.set_paranoid_checks(true);
    db.set_max_total_wal_size(options.wal_bytes_max);
    db.set_db_write_buffer_size(options.write_buffer_bytes);
    db.set_max_background_jobs(options.background_jobs);
    db.set_max_open_files(512);
    db.set_keep_log_file_num(2);
    db.set_bytes_per_sync(1 << 20);
    let logger = rocksdb::InfoLogger::new_callback_logger(LogLevel::Warn, |level, line| {
        let line = line.trim_end();
        match level {
            LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "rocksdb", "{line}"),
            LogLevel::Warn => tracing::warn!(target: "rocksdb", "{line}"),
            _ => tracing::trace!(target: "rocksdb", "{line}"),
        }
    });
    db.set_info_logger(logger);
    if let Ok(mut env) = Env::new() {
        env.lower_thread_pool_cpu_priority();
        db.set_env(&env);
    }
    db
}

/// RocksDB's defaults, except for the options given as text.
fn options_of(text: &str) -> Options {
    match Options::default().get_options_from_string(text) {
        Ok(options) => options,
        Err(error) => panic!("RocksDB does not know its own options: {error}"),
    }
}

fn family_options(family: Family, options: &DbOptions, cache: Option<&Cache>) -> Options {
    let mut cf = options_of(&format!("memtable_max_range_deletions={RANGE_DELETES_MAX}"));
    let mut table = BlockBasedOptions::default();
    if let Some(cache) = cache {
        table.set_block_cache(cache);
    }
    table.set_format_version(6);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    cf.set_level_compaction_dynamic_level_bytes(true);
    cf.set_max_write_buffer_number(MEMTABLES);
    cf.set_compression_type(DBCompressionType::Lz4);
    match family {
        Family::State => {
            table.set_bloom_filter(10.0, false);
            // Filters and indexes in separate blocks, of which a read needs one or two: in one piece those of a large
            // file would evict everything else.
            table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
            table.set_partition_filters(true);
            table.set_metadata_block_size(32 << 10);
            table.set_pin_top_level_index_and_filter(true);
            // Remove deleted keys soon: the consumer of a queue finds them before its first entry.
            cf.add_compact_on_deletion_collector_factory(DELETES_WINDOW, DELETES_WINDOW / 2, 0.5);
            cf.set_write_buffer_size(options.write_buffer_bytes / 2);
            // A key that was never written costs a probe of this filter instead of a walk down each memtable.
            cf.set_memtable_prefix_bloom_ratio(0.04);
            cf.set_memtable_whole_key_filtering(true);
        }
        Family::Log => {
            table.set_block_size(64 << 10);
            cf.set_write_buffer_size(options.write_buffer_bytes / 2);
        }
        Family::Meta => cf.set_write_buffer_size(4 << 20),
    }
    cf.set_block_based_table_factory(&table);
    cf
}
