//! `[stage.capabilities]`, within the policies.

use std::ops::Range;
use std::path::{Component, Path};

use super::at_home;
use crate::config::Look;
use crate::config::paths::resolved;
use crate::config::policy::Allowed;
use crate::config::setting::{Problem, Setting};
use crate::config::stage::{Capabilities, Directory, Remote};
use crate::config::substitute::From;
use crate::config::table::{Entry, Table};

/// The capabilities, and the places of the granted folders.
pub(super) fn decode(stage: &mut Table<'_>) -> (Capabilities, Vec<Range<usize>>) {
    let Some(mut table) = stage.table("capabilities", "[stage.capabilities]") else {
        return Default::default();
    };
    let help = "write directories = [{ host = \"…\", guest = \"/…\" }]";
    let entries = table
        .entry("directories")
        .and_then(|entry| entry.list(help))
        .unwrap_or_default();
    let environment = names_of_variables(&mut table);
    let clocks = table.text("clocks").unwrap_or_default();
    let network = table
        .entry("network")
        .and_then(|entry| entry.list("write network = [\"HOST:PORT\"]"));
    let network = network.unwrap_or_default();
    let network = network.iter().filter_map(remote).collect();
    let request_stop = table.bool("request-stop").unwrap_or(false);
    if request_stop {
        table.cx.refuse(&table.span_of("request-stop"), |allowed| {
            (allowed.request_stop == Some(false)).then(|| "`request-stop`".to_owned())
        });
    }
    table.finish(|key| at_home(key, "[stage.capabilities]"));
    let (mut directories, mut spans) = (Vec::<Directory>::new(), Vec::new());
    for entry in &entries {
        let Some((directory, span)) = directory(entry) else {
            continue;
        };
        if directories
            .iter()
            .any(|other| *other.guest == *directory.guest)
        {
            entry.error(Problem::new(
                "the guest has another directory at the same place",
            ));
        }
        entry.cx.refuse(&span, |allowed| {
            let allowed = allowed.directories.as_ref()?;
            let how = if directory.write { "to write in " } else { "" };
            let what = || format!("{how}the folder {}", directory.host);
            (!Allowed::covers(allowed, &directory.real, directory.write)).then(what)
        });
        directories.push(directory);
        spans.push(span);
    }
    let capabilities = Capabilities {
        directories,
        environment,
        clocks,
        network,
        request_stop,
    };
    (capabilities, spans)
}

/// The names of variables under `environment`, each of which must be set where a component is about to run.
pub(super) fn names_of_variables(table: &mut Table<'_>) -> Vec<String> {
    let cx = table.cx;
    let entry = table.entry("environment");
    let names = entry.and_then(|entry| entry.list("write environment = [\"NAME\"]"));
    let mut environment = Vec::new();
    for entry in names.unwrap_or_default() {
        let Some(name) = entry.string() else {
            entry.wrong_type("a string", "write the name of a variable");
            continue;
        };
        if name.is_empty() || name.contains(['=', '\0']) {
            let problem = Problem::new(format!("{name:?} cannot be the name of a variable"));
            entry.error(problem);
        } else if cx.look == Look::Components && (cx.env)(name).is_none() {
            let problem = Problem::new(format!("the environment variable {name} is not set"));
            entry.error(problem.help("set it, or leave it out"));
        } else {
            let variable = From::Variable(name.to_owned());
            cx.refuse(&entry.span, |allowed| allowed.refuses(&variable));
            environment.push(name.to_owned());
        }
    }
    environment
}

fn directory(entry: &Entry<'_>) -> Option<(Directory, Range<usize>)> {
    let mut table = entry.table("{ host = \"…\", guest = \"/…\" }")?;
    let host = table.path("host");
    if table.peek("host").is_none() {
        table.missing("host", "the folder of the host");
    }
    let guest = table.text::<String>("guest");
    if table.peek("guest").is_none() {
        table.missing("guest", "where the guest finds it, such as \"/models\"");
    }
    let write = table.bool("write").unwrap_or(false);
    table.finish(|_| None);
    let guest = guest?;
    let path = Path::new(guest.as_str());
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain {
        let problem = Problem::new("`guest` is an absolute path without `..`");
        table
            .cx
            .error(&table.span_of("guest"), problem.help("such as \"/models\""));
        return None;
    }
    let host = host?;
    let directory = Directory {
        real: resolved(&host),
        host,
        guest,
        write,
    };
    Some((directory, table.span_of("host")))
}

fn remote(entry: &Entry<'_>) -> Option<Setting<Remote>> {
    let remote = entry.text::<Remote>()?;
    entry.cx.refuse(&entry.span, |allowed| {
        let allowed = allowed.network.as_ref()?;
        (!allowed.contains(&remote)).then(|| format!("connections to {remote}"))
    });
    Some(remote)
}
