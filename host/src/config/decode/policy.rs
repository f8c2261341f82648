//! A policy file: `[limits]` and `[capabilities]`.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use super::capabilities::names_of_variables;
use super::{limits, opened, reported};
use crate::config::diagnostics::Diagnostics;
use crate::config::paths::resolved;
use crate::config::policy::{Allowed, Policy};
use crate::config::stage::Remote;
use crate::config::table::{Context, Entry, Table};
use crate::config::{Look, setting::Setting};

/// Reads a policy that is shown as `path` and whose relative paths are in `folder`.
pub(in crate::config) fn policy(
    text: &str,
    path: &Path,
    folder: &Path,
) -> Result<Policy, Diagnostics> {
    let cx = Context {
        text,
        folder,
        // A policy says the same to everybody.
        env: &|_| None,
        is_literal: true,
        look: Look::Nothing,
        policies: &[],
        notes: RefCell::new(Vec::new()),
    };
    let policy = opened(&cx, |document| {
        let mut root = Table::new(&cx, "the policy", document, 0..0);
        let given = root.table("limits", "[limits]").map(|mut table| {
            let given = limits::given(&mut table);
            table.finish(|_| None);
            given
        });
        let capabilities = root.table("capabilities", "[capabilities]").map(allowed);
        root.finish(|_| None);
        Some(Policy {
            file: path.to_owned(),
            limits: given.unwrap_or_default(),
            capabilities: capabilities.unwrap_or_default(),
        })
    });
    let (errors, _) = reported(cx, path);
    match policy {
        Some(policy) if errors.is_empty() => Ok(policy),
        _ => Err(Diagnostics::new(errors)),
    }
}

fn allowed(mut table: Table<'_>) -> Allowed {
    let help = "write directories = [{ host = \"/…\", write = true }]";
    let entry = table.entry("directories");
    let entries = entry.and_then(|entry| entry.list(help));
    let directories = entries.map(|list| list.iter().filter_map(directory).collect());
    let environment = table.peek("environment").is_some();
    let environment = environment.then(|| names_of_variables(&mut table));
    let entry = table.entry("network");
    let network = entry.and_then(|entry| entry.list("write network = [\"HOST:PORT\"]"));
    let network = network.map(|list| {
        let remotes = list.iter().filter_map(Entry::text);
        remotes
            .map(|remote: Setting<Remote>| Remote::clone(&remote))
            .collect()
    });
    let allowed = Allowed {
        directories,
        environment,
        network,
        request_stop: table.bool("request-stop"),
    };
    table.finish(|_| None);
    allowed
}

fn directory(entry: &Entry<'_>) -> Option<(PathBuf, bool)> {
    let mut table = entry.table("{ host = \"/…\" }")?;
    let host = table.path("host");
    if table.peek("host").is_none() {
        table.missing("host", "the folder of the host");
    }
    let write = table.bool("write").unwrap_or(false);
    table.finish(|_| None);
    Some((resolved(&host?), write))
}
