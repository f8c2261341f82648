//! The options that RocksDB runs with, as it wrote them down itself; and what opening must refuse.

use std::collections::BTreeMap;
use std::path::Path;

use wasm_host::state::{Db, DbError, DbOptions, Durability, Family};

/// The values of the newest OPTIONS file: by section and name.
fn written_options(database: &Path) -> BTreeMap<(String, String), String> {
    let files = std::fs::read_dir(database).expect("the folder can be read");
    let newest = files
        .map(|file| file.expect("the folder can be read").path())
        .filter_map(|path| {
            let number = path
                .file_name()?
                .to_str()?
                .strip_prefix("OPTIONS-")?
                .parse::<u64>()
                .ok()?;
            Some((number, path))
        })
        .max();
    let (_, path) = newest.expect("RocksDB writes down its options");
    let text = std::fs::read_to_string(path).expect("the file can be read");
    let mut section = String::new();
    let mut values = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else if let Some((name, value)) = line.split_once('=') {
            values.insert((section.clone(), name.to_owned()), value.to_owned());
        }
    }
    values
}

fn check(database: &Path, options: &DbOptions) {
    let written = written_options(database);
    let value = |section: &str, name: &str| {
        let value = written.get(&(section.to_owned(), name.to_owned()));
        value
            .unwrap_or_else(|| panic!("{name} is not in section {section}"))
            .as_str()
    };
    let wal_bytes_max = options.wal_bytes_max.to_string();
    let write_buffer_bytes = options.write_buffer_bytes.to_string();
    for (name, expected) in [
        ("max_bgerror_resume_count", "0"),
        ("paranoid_checks", "true"),
        ("track_and_verify_wals_in_manifest", "true"),
        ("verify_sst_unique_id_in_manifest", "true"),
        ("error_if_exists", "false"),
        ("max_total_wal_size", &wal_bytes_max),
        ("db_write_buffer_size", &write_buffer_bytes),
        ("max_open_files", "512"),
        // A write is on the disk in the order in which it was made, or refused.
        ("unordered_write", "false"),
        ("allow_mmap_writes", "false"),
        ("wal_recovery_mode", "kPointInTimeRecovery"),
    ] {
        let on_create =
            name == "error_if_exists" && value("DBOptions", "create_if_missing") == "true";
        let expected = if on_create { "true" } else { expected };
        assert_eq!(value("DBOptions", name), expected, "{name}");
    }
    for (family, bottommost) in [
        ("state", "kDisableCompressionOption"),
        ("log", "kDisableCompressionOption"),
        ("meta", "kDisableCompressionOption"),
    ] {
        let section = format!("CFOptions \"{family}\"");
        assert_eq!(
            value(&section, "compression"),
            "kLZ4Compression",
            "{family}"
        );
        assert_eq!(
            value(&section, "bottommost_compression"),
            bottommost,
            "{family}"
        );
        assert_eq!(value(&section, "compaction_filter"), "nullptr", "{family}");
        assert_eq!(value(&section, "merge_operator"), "nullptr", "{family}");
        let range_deletes = value(&section, "memtable_max_range_deletions");
        assert_eq!(range_deletes, "1000", "{family}");
        let section = format!("TableOptions/BlockBasedTable \"{family}\"");
        assert_eq!(value(&section, "format_version"), "6", "{family}");
        assert_ne!(value(&section, "checksum"), "kNoChecksum", "{family}");
        let partitions = (family == "state").to_string();
        assert_eq!(value(&section, "partition_filters"), partitions, "{family}");
        let filter = value(&section, "filter_policy");
        assert_eq!(
            filter.contains("bloom"),
            family == "state",
            "{family}: {filter}"
        );
    }
}

#[test]
fn rocksdb_runs_with_the_options_that_were_meant() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let path = directory.path().join("db");
    let mut options = DbOptions {
        wal_bytes_max: 5 << 20,
        write_buffer_bytes: 6 << 20,
        ..DbOptions::default()
    };
    drop(Db::create(&path, &options).expect("a new database"));
    check(&path, &options);
    options.wal_bytes_max = 7 << 20;
    drop(Db::open(&path, &options).expect("the database opens"));
    check(&path, &options);
}

#[test]
fn a_database_is_neither_made_by_opening_nor_opened_by_making() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let path = directory.path().join("db");
    let options = DbOptions::default();
    let refused = |result: Result<Db, DbError>| matches!(result, Err(DbError::Open { .. }));
    assert!(refused(Db::open(&path, &options)));
    assert!(refused(Db::open_read_only(&path, &options)));
    let db = Db::create(&path, &options).expect("a new database");
    let mut writes = db.write_set();
    writes.put(Family::Meta, b"key", b"value");
    writes
        .commit(Durability::Sync)
        .expect("the database can be written");
    assert!(refused(Db::create(&path, &options)), "it is open");
    drop(db);
    assert!(refused(Db::create(&path, &options)), "it exists");
    let read = Db::open_read_only(&path, &options).expect("the database opens");
    assert_eq!(
        read.get(Family::Meta, b"key").expect("it can be read"),
        Some(b"value".to_vec())
    );
}
