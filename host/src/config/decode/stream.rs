//! `[streams.*]`: which keys a stream may have depends on its system and on what a stage does with it.

use std::ops::Range;

use super::cluster;
use super::stage::Draft;
use crate::config::names;
use crate::config::setting::Problem;
use crate::config::stream::Stream;
use crate::config::systems::{KINDS, System, SystemName};
use crate::config::table::Entry;

/// A declared stream, as far as it could be read.
pub(super) struct Declared<'a> {
    /// The key under which it is declared.
    pub(super) key: &'a str,
    pub(super) key_span: Range<usize>,
    /// The key, if it is a valid name.
    pub(super) name: Option<&'a str>,
    pub(super) system: Option<SystemName>,
    pub(super) stream: Option<Stream>,
}

/// Reports that a key is for streams of another kind.
fn of_another_kind(key: &str, kind: &str) -> Option<Problem> {
    let others: Vec<_> = KINDS
        .iter()
        .filter(|other| other.keys.contains(&key))
        .map(|other| other.what)
        .collect();
    let whose = match others.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
        None => return None,
    };
    Some(
        Problem::new(format!("`{key}` is not a key of {kind}"))
            .help(format!("`{key}` is for {whose}")),
    )
}

/// Reads the declaration of a stream.
pub(super) fn decode<'a>(
    entry: &Entry<'a>,
    stages: &[Draft<'a>],
    clusters: &[cluster::Declared<'a>],
) -> Declared<'a> {
    let mut declared = Declared {
        key: entry.key,
        key_span: entry.key_span.clone(),
        name: entry.key_name("stream"),
        system: None,
        stream: None,
    };
    let read = stages.iter().any(|stage| stage.reads(entry.key));
    let written = stages.iter().any(|stage| stage.writes(entry.key));
    let Some(mut table) = entry.table(&format!("[streams.{}]", entry.key)) else {
        return declared;
    };
    let Some(system) = table.entry("system") else {
        let systems = names::quoted(SystemName::WORDS);
        table.missing("system", &format!("write system = one of {systems}"));
        return declared;
    };
    if system.string().is_some_and(|text| text.contains("${")) {
        let problem = Problem::new("the system cannot come from the environment");
        system.error(problem.help("it decides which keys a stream may have"));
        return declared;
    }
    let Some(system) = system.text::<SystemName>() else {
        return declared;
    };
    declared.system = Some(*system);
    let clusters: Vec<&str> = clusters.iter().map(|cluster| cluster.key).collect();
    let context = (entry.key, clusters.as_slice());
    let (kind, system) = System::decode(*system, &mut table, context, (read, written));
    let max_rate = if kind.keys.contains(&"max-rate") {
        table.text("max-rate")
    } else {
        None
    };
    if max_rate.is_some() && written && !read {
        let problem = Problem::new("`max-rate` is for streams that are read");
        table.cx.error(&table.span_of("max-rate"), problem);
    }
    table.finish(|key| of_another_kind(key, kind.what));
    declared.stream = system.map(|system| Stream {
        read,
        written,
        system,
        max_rate,
    });
    declared
}
