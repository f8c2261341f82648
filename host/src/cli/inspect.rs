//! `inspect`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Failure, Global, assemble, output};
use crate::model::shown;
use crate::runtime::{self, World};

#[derive(Args)]
pub(super) struct InspectArgs {
    /// The component
    component: PathBuf,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Shown {
    sha256: String,
    bytes: u64,
    world: Option<&'static str>,
    unfit: Option<String>,
    imports: Vec<String>,
    exports: Vec<String>,
    capabilities: Vec<String>,
    needs: BTreeMap<&'static str, Vec<String>>,
}

/// Interfaces that do nothing without a grant: files and sockets.
fn granted(needs: &BTreeMap<&'static str, Vec<String>>) -> Vec<String> {
    let granted = ["directories", "network"].into_iter();
    let granted = granted.filter_map(|key| needs.get(key));
    granted.flatten().cloned().collect()
}

/// Where a key stands in a job file.
fn place(key: &str) -> String {
    match key {
        "config" => "[stage.config]".to_owned(),
        "stores" => "[stage.stores.NAME]".to_owned(),
        "outputs" => "`outputs` of [[stage]]".to_owned(),
        _ => format!("`{key}` of [stage.capabilities]"),
    }
}

pub(super) fn inspect(global: &Global, args: &InspectArgs) -> Result<(), Failure> {
    let runtime = assemble::runtime(None)?;
    let found = runtime::inspect(&runtime, &args.component)?;
    let shown = Shown {
        sha256: found.sha256,
        bytes: found.bytes,
        world: match &found.world {
            Ok(World::Message) => Some("message-handler"),
            Ok(World::Batch) => Some("batch-handler"),
            Err(_) => None,
        },
        unfit: found.world.err(),
        imports: found.imports,
        exports: found.exports,
        capabilities: granted(&found.needs),
        needs: found.needs,
    };
    if global.json {
        return output::json(&shown);
    }
    let list = |title: &str, lines: &[String]| {
        let lines: String = lines
            .iter()
            .map(|line| format!("\n  {}", shown::line(line, 1 << 10)))
            .collect();
        format!(
            "{title}:{}\n",
            if lines.is_empty() {
                "\n  none".into()
            } else {
                lines
            }
        )
    };
    let needs = shown.needs.iter().map(|(key, interfaces)| {
        let interfaces = interfaces.join(", ");
        format!("{}, for {interfaces}", place(key))
    });
    let needs: Vec<String> = needs.collect();
    let world = match (&shown.world, &shown.unfit) {
        (Some(world), _) => format!("handler: {world}\n"),
        (None, why) => format!("not a task: {}\n", why.as_deref().unwrap_or_default()),
    };
    let text = format!(
        "sha256: {}\nsize: {} bytes\n{world}{}{}{}",
        shown.sha256,
        shown.bytes,
        list("imports", &shown.imports),
        list("exports", &shown.exports),
        list("of use only if the job gives it", &needs),
    );
    output::text(&text)
}
