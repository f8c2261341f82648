//! `new`: a project that builds and runs as it is. The binary carries the SDK and the WIT.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use include_dir::{Dir, include_dir};

use super::{Failure, exit, stderr};

static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../wit");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../guest-sdk/rust");
static PROJECT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates/rust");

#[derive(Args)]
pub(super) struct NewArgs {
    /// The project's name, and its folder
    name: PathBuf,
    /// The language of its task
    #[arg(long, default_value = "rust")]
    lang: Language,
}

#[derive(Clone, Copy, ValueEnum)]
enum Language {
    Rust,
}

pub(super) fn new(args: &NewArgs) -> Result<(), Failure> {
    let Language::Rust = args.lang;
    let name = args
        .name
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase())
        || !name.chars().all(good)
        || name.len() > 64
    {
        return Err(Failure::new(
            exit::USAGE,
            format!(
                "{name:?} is no name for a project: use a-z, 0-9 and -, a letter first, at most 64 characters"
            ),
        ));
    }
    let folder = &args.name;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::new(
            exit::USAGE,
            format!("{} exists and is not empty", folder.display()),
        ));
    }
    write(&PROJECT, folder, &|text| {
        text.replace("{{name}}", name)
            .replace("{{module}}", &name.replace('-', "_"))
    })?;
    write(&WIT, &folder.join("vendor/wit"), &|text| text)?;
    write(&SDK, &folder.join("vendor/guest-sdk/rust"), &|text| text)?;
    let shown = folder.display();
    stderr::say(format_args!(
        "{shown} is ready:\n  cd {shown}\n  cargo build --release --target wasm32-wasip2\n  wasm-host run"
    ));
    Ok(())
}

fn write(dir: &Dir<'_>, to: &Path, edit: &dyn Fn(String) -> String) -> Result<(), Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        Failure::new(exit::HOST, format!("write {}: {error}", path.display()))
    };
    for file in dir.files() {
        let relative = file.path();
        // Cargo would take a manifest below the sources for a package of its own.
        let name = relative
            .to_string_lossy()
            .replace("Cargo.toml.in", "Cargo.toml")
            .replace("gitignore.in", ".gitignore");
        let path = to.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        }
        let bytes = match file.contents_utf8() {
            Some(text) => edit(text.to_owned()).into_bytes(),
            None => file.contents().to_vec(),
        };
        fs::write(&path, bytes).map_err(|error| failed(&path, error))?;
    }
    for dir in dir.dirs() {
        write(dir, to, edit)?;
    }
    Ok(())
}
