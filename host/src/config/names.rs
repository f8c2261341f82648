//! Names: which ones are valid, and which valid one a wrong name may have meant.

use super::setting::Problem;

/// The longest name, in bytes: names become parts of file names and labels of metrics.
const NAME_BYTES_MAX: usize = 64;

/// Checks the name of a job, stage, stream, store or port.
///
/// # Errors
/// It is not `[a-z0-9][a-z0-9._-]*`, or too long.
pub(super) fn check(what: &str, name: &str) -> Result<(), Problem> {
    if name.is_empty() {
        return Err(Problem::new(format!("the name of a {what} is empty")));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Problem::new(format!(
            "the name of a {what} has at most {NAME_BYTES_MAX} characters, this one has {}",
            name.chars().count()
        )));
    }
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if first && name.chars().all(is_name_char) {
        return Ok(());
    }
    let problem = Problem::new(format!("{name:?} cannot be the name of a {what}"));
    let rule = "a name is made of a-z, 0-9, `.`, `_` and `-`, and begins with a letter or digit";
    Err(match corrected(name) {
        Some(corrected) => problem.help(format!("{rule}, such as \"{corrected}\"")),
        None => problem.help(rule),
    })
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
}

/// The valid name that looks most like `name`.
fn corrected(name: &str) -> Option<String> {
    let replaced: String = name
        .trim()
        .to_lowercase()
        .chars()
        .map(|c| if is_name_char(c) { c } else { '-' })
        .collect();
    let trimmed = replaced.trim_matches(['-', '.', '_']);
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// The candidate that `wrong` most likely stands for, if one is similar enough to suggest.
pub(super) fn nearest<'a>(wrong: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let wrong = folded(wrong);
    let bound = (wrong.chars().count() / 3).max(1);
    candidates
        .iter()
        .map(|candidate| {
            let folded = folded(candidate);
            let distance = strsim::damerau_levenshtein(&wrong, &folded);
            // A missing or extra plural, unit or prefix counts as similar, however long it is.
            let contained = wrong.len() >= 3
                && folded.len() >= 3
                && (folded.starts_with(&wrong) || wrong.starts_with(&folded));
            (
                if contained {
                    distance.min(bound)
                } else {
                    distance
                },
                *candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= bound && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn folded(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

/// "`a`, `b`, `c`".
pub(super) fn ticked(names: &[&str]) -> String {
    joined(names, '`')
}

/// "\"a\", \"b\", \"c\"".
pub(super) fn quoted(names: &[&str]) -> String {
    joined(names, '"')
}

fn joined(names: &[&str], quote: char) -> String {
    let quoted: Vec<_> = names
        .iter()
        .map(|name| format!("{quote}{name}{quote}"))
        .collect();
    quoted.join(", ")
}

/// "1 partition", "2 partitions".
pub(super) fn counted(number: impl std::fmt::Display, one: &str) -> String {
    let number = number.to_string();
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {one}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_file_systems_and_metrics_can_bear() {
        for good in ["a", "0", "flight-delays", "orders.v2_eu", &"a".repeat(64)] {
            assert_eq!(check("stream", good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-a",
            ".hidden",
            "A",
            "a/b",
            "a b",
            "é",
            "..",
            &"a".repeat(65),
        ] {
            assert!(check("stream", bad).is_err(), "{bad}");
        }
        let problem = check("job", "Flight Delays").expect_err("upper case and a space");
        assert_eq!(
            problem.message,
            "\"Flight Delays\" cannot be the name of a job"
        );
        assert!(
            problem
                .help
                .as_deref()
                .is_some_and(|help| help.ends_with("such as \"flight-delays\"")),
            "{problem:?}"
        );
    }

    #[test]
    fn the_nearest_name_is_near() {
        let keys = [
            "interval",
            "bytes",
            "min-pause",
            "timeout",
            "tolerate-failures",
            "durability",
        ];
        assert_eq!(nearest("intervall", &keys), Some("interval"));
        assert_eq!(nearest("min_pause", &keys), Some("min-pause"));
        assert_eq!(nearest("Timeout", &keys), Some("timeout"));
        assert_eq!(nearest("tolerate", &keys), Some("tolerate-failures"));
        assert_eq!(nearest("durabiltiy", &keys), Some("durability"));
        assert_eq!(nearest("colour", &keys), None);
        assert_eq!(
            nearest("x", &["y"]),
            None,
            "one letter is not similar enough"
        );
    }

    #[test]
    fn lists_and_numbers_are_readable() {
        assert_eq!(ticked(&["a"]), "`a`");
        assert_eq!(quoted(&["a", "b"]), "\"a\", \"b\"");
        assert_eq!(counted(1, "partition"), "1 partition");
        assert_eq!(counted(2, "partition"), "2 partitions");
    }
}
