//! `${NAME}`, `${file:PATH}` and `${…:-default}` in strings. Values from the environment and from files are used, and never repeated
//! in a message.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::paths::resolved;
use super::setting::Problem;

/// Where values come from: the environment, or a test's.
pub(super) type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The outcome for a string.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Substituted {
    /// It has no `${`, and is taken literally.
    Unchanged,
    /// It means this; show the original.
    Changed(String, Vec<Taken>),
}

/// A value that came from outside of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    /// The reference, as it is written.
    pub(super) reference: String,
    /// What it stands for.
    pub(super) value: String,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    /// An environment variable.
    Variable(String),
    /// A file: its path without links.
    File(PathBuf),
}

/// Why nothing may be taken from there, if it may not.
pub(super) type Refuses<'a> = dyn Fn(&From) -> Option<Problem> + 'a;

/// A reference that cannot be resolved: the piece of the string that holds it, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadReference {
    /// From `${` on, as far as it was understood.
    pub(super) piece: String,
    /// What is wrong with it.
    pub(super) problem: Problem,
}

/// Replaces every `${NAME}` in `text`; `$${` stands for a plain `${`.
///
/// # Errors
/// Every reference that cannot be resolved.
pub(super) fn substitute(
    text: &str,
    env: &Env<'_>,
    folder: &Path,
    refuses: &Refuses<'_>,
) -> Result<Substituted, Vec<BadReference>> {
    if !text.contains("${") {
        return Ok(Substituted::Unchanged);
    }
    let mut out = String::new();
    let (mut bad, mut taken) = (Vec::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let reference = &rest[at..];
        let Some(end) = reference.find('}') else {
            bad.push(BadReference {
                piece: reference.to_owned(),
                problem: Problem::new("`${` without a closing `}`")
                    .help("write `$${` for a plain `${`"),
            });
            rest = "";
            break;
        };
        match resolve(&reference[2..end], env, folder, refuses) {
            Ok(Resolved::Default(value)) => out.push_str(value),
            Ok(Resolved::Taken(value)) => {
                out.push_str(&value);
                taken.push(Taken {
                    reference: reference[..=end].to_owned(),
                    value,
                });
            }
            Err(problem) => bad.push(BadReference {
                piece: reference[..=end].to_owned(),
                problem,
            }),
        }
        rest = &reference[end + 1..];
    }
    out.push_str(rest);
    if bad.is_empty() {
        Ok(Substituted::Changed(out, taken))
    } else {
        Err(bad)
    }
}

/// What a reference stands for.
enum Resolved<'a> {
    /// What the file itself says.
    Default(&'a str),
    Taken(String),
}

/// What stands between the braces, resolved. As in a shell, `:-` also takes the place of an empty variable.
fn resolve<'a>(
    inside: &'a str,
    env: &Env<'_>,
    folder: &Path,
    refuses: &Refuses<'_>,
) -> Result<Resolved<'a>, Problem> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if default.is_some_and(|default| default.contains("${")) {
        return Err(Problem::new("a default cannot hold another `${`"));
    }
    if let Some(path) = name.strip_prefix("file:") {
        let value = value_of(&folder.join(path), refuses);
        return match (value, default) {
            (Ok(value), _) => Ok(Resolved::Taken(value)),
            (Err(NoValue::Refused(problem)), _) => Err(problem),
            (Err(NoValue::Failed(error)), Some(default)) if error.kind() == ErrorKind::NotFound => {
                Ok(Resolved::Default(default))
            }
            (Err(NoValue::Failed(error)), _) => Err(Problem::new(format!(
                "the file {path:?} cannot be read: {error}"
            ))
            .help("it holds one value, as text; a line end after it does not count")),
        };
    }
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err(Problem::new(format!(
            "{name:?} cannot be the name of an environment variable"
        ))
        .help("write `${NAME}` or `${NAME:-default}`, and `$${` for a plain `${`"));
    }
    if let Some(problem) = refuses(&From::Variable(name.to_owned())) {
        return Err(problem);
    }
    let taken = Resolved::Taken;
    match (env(name), default) {
        (Some(value), None) => Ok(taken(value)),
        (Some(value), Some(_)) if !value.is_empty() => Ok(taken(value)),
        (_, Some(default)) => Ok(Resolved::Default(default)),
        (None, None) => Err(
            Problem::new(format!("the environment variable `{name}` is not set"))
                .help(format!("set it, or give a default: `${{{name}:-…}}`")),
        ),
    }
}

/// Why a file has no value.
enum NoValue {
    Refused(Problem),
    Failed(io::Error),
}

impl std::convert::From<io::Error> for NoValue {
    fn from(error: io::Error) -> NoValue {
        NoValue::Failed(error)
    }
}

/// The value in a file. One that nothing may be taken from is not read, and not told from one that is not there.
fn value_of(path: &Path, refuses: &Refuses<'_>) -> Result<String, NoValue> {
    let refused = |real: PathBuf| refuses(&From::File(real)).map_or(Ok(()), Err);
    refused(resolved(path)).map_err(NoValue::Refused)?;
    // A pipe would be waited for.
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(nonblocking).open(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(io::Error::from(ErrorKind::IsADirectory).into());
    } else if !found.is_file() {
        let why = "it is no regular file";
        return Err(io::Error::new(ErrorKind::InvalidInput, why).into());
    }
    // The path may have come to lead elsewhere before it was opened.
    let opened = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    refused(opened.unwrap_or_else(|_| resolved(path))).map_err(NoValue::Refused)?;
    Ok(content(file)?)
}

fn content(file: File) -> io::Result<String> {
    /// More is not a value.
    const BYTES_MAX: u64 = 64 << 10;
    let mut text = String::new();
    let read = file.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > BYTES_MAX {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_value() -> io::Result<()> {
        let folder = std::env::temp_dir().join(format!("wasm-host-values-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("token"), "hunter2\r\n")?;
        std::fs::write(folder.join("large"), vec![b'a'; 70_000])?;
        std::fs::write(folder.join("binary"), [0xff, 0xfe])?;
        let run = |text: &str| text_of(text, substitute(text, &|_| None, &folder, &|_| None));
        assert_eq!(run("<${file:token}>"), changed("<hunter2>"));
        let absolute = format!("${{file:{}/token}}", folder.display());
        assert_eq!(run(&absolute), changed("hunter2"));
        assert_eq!(run("${file:none:-x}"), changed("x"));
        assert_eq!(run("${file:none:-}"), changed(""));
        for bad in ["none", "large", "binary", "", "binary:-x", "."] {
            let refused = run(&format!("${{file:{bad}}}")).expect_err(bad);
            let message = &refused[0].problem.message;
            assert!(message.contains("cannot be read"), "{message}");
        }
        std::fs::remove_dir_all(folder)
    }

    #[test]
    fn what_is_refused_is_not_read() -> io::Result<()> {
        let name = format!("wasm-host-refused-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("secret"), "hunter2")?;
        std::os::unix::fs::symlink("secret", folder.join("link"))?;
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.join("pipe"), 0o600.into())?;
        let refuses = |from: &From| {
            let name = match from {
                From::Variable(name) => name.as_str(),
                From::File(path) => path.file_name()?.to_str()?,
            };
            ["secret", "missing", "HOME"]
                .contains(&name)
                .then(|| Problem::new("no"))
        };
        let run = |text: &str| {
            let done = substitute(text, &|_| panic!("it is looked at"), &folder, &refuses);
            text_of(text, done).map_err(|bad| bad[0].problem.message.clone())
        };
        // Whether they exist or not, and by whatever name.
        for text in [
            "${file:secret}",
            "${file:link}",
            "${file:missing:-x}",
            "${HOME:-x}",
        ] {
            assert_eq!(run(text), Err("no".to_owned()), "{text}");
        }
        let pipe = run("${file:pipe}").expect_err("a pipe");
        assert!(pipe.contains("no regular file"), "{pipe}");
        std::fs::remove_dir_all(folder)
    }

    fn run(text: &str) -> Result<String, Vec<BadReference>> {
        let env = |name: &str| match name {
            "USER" => Some("ann".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLARS" => Some("${USER}".to_owned()),
            _ => None,
        };
        text_of(text, substitute(text, &env, Path::new(""), &|_| None))
    }

    fn text_of(
        text: &str,
        outcome: Result<Substituted, Vec<BadReference>>,
    ) -> Result<String, Vec<BadReference>> {
        Ok(match outcome? {
            Substituted::Unchanged => text.to_owned(),
            Substituted::Changed(changed, _) => changed,
        })
    }

    fn changed(text: &str) -> Result<String, Vec<BadReference>> {
        Ok(text.to_owned())
    }

    #[test]
    fn what_was_taken_is_told_and_defaults_are_not() {
        let env = |name: &str| (name == "USER").then(|| "ann".to_owned());
        let text = "${USER}:${NOPE:-x}";
        let done = substitute(text, &env, Path::new(""), &|_| None);
        let Ok(Substituted::Changed(changed, taken)) = done else {
            panic!("it has references");
        };
        assert_eq!(changed, "ann:x");
        let user = Taken {
            reference: "${USER}".to_owned(),
            value: "ann".to_owned(),
        };
        assert_eq!(taken, [user]);
    }

    #[test]
    fn references_are_replaced_once() {
        assert_eq!(run("plain $5 {x}"), changed("plain $5 {x}"));
        assert_eq!(run("a-${USER}-${USER}!"), changed("a-ann-ann!"));
        assert_eq!(run("${DOLLARS}"), changed("${USER}"));
        assert_eq!(run("${EMPTY}"), changed(""));
    }

    #[test]
    fn a_default_is_for_what_is_unset_or_empty() {
        assert_eq!(run("${NOPE:-x y}"), changed("x y"));
        assert_eq!(run("${EMPTY:-x}"), changed("x"));
        assert_eq!(run("${USER:-x}"), changed("ann"));
        assert_eq!(run("${NOPE:-}"), changed(""));
    }

    #[test]
    fn a_doubled_dollar_is_not_a_reference() {
        assert_eq!(run("$${USER} ${USER}"), changed("${USER} ann"));
    }

    #[test]
    fn every_bad_reference_is_reported() {
        let bad = run("${A} ${USER} ${b c} ${B:-${C}} ${D").expect_err("four are bad");
        let pieces: Vec<_> = bad.iter().map(|bad| bad.piece.as_str()).collect();
        assert_eq!(pieces, ["${A}", "${b c}", "${B:-${C}", "${D"]);
        assert_eq!(
            bad[0].problem.message,
            "the environment variable `A` is not set"
        );
    }
}
