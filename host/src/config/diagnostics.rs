//! What is wrong with a job file, where, and what to do: collected, and rendered for a terminal without colours.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::model::shown;

/// Whether a finding stops the job from being loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The job file is refused.
    Error,
    /// The job runs, but a person should look at it.
    Warning,
}

/// A place in the job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The line as it stands in the file; control characters are replaced. Only a part of it if it is very long.
    pub text: String,
    /// The column at which the text begins.
    pub text_from: usize,
    /// The number of characters that the finding is about; at least 1.
    pub width: usize,
}

/// The most characters of a line that are shown.
const TEXT_MAX: usize = 240;

impl Place {
    /// The place of a byte range of `source`. A range over several lines is cut to its first.
    pub(super) fn of(source: &str, span: &Range<usize>) -> Place {
        let start = source.floor_char_boundary(span.start);
        let end = source.floor_char_boundary(span.end).max(start);
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..]
            .find('\n')
            .map_or(source.len(), |at| start + at);
        let line = source[line_start..line_end].trim_end_matches('\r');
        let meant = &source[start..end.min(line_start + line.len()).max(start)];
        let column = source[line_start..start].chars().count() + 1;
        let text_from = match column > TEXT_MAX / 2 && line.len() > TEXT_MAX {
            true => column - TEXT_MAX / 4,
            false => 1,
        };
        let text = line.chars().skip(text_from - 1).take(TEXT_MAX);
        let shown = TEXT_MAX - (column - text_from);
        Place {
            line: source[..start].matches('\n').count() + 1,
            column,
            text: text.map(visible).collect(),
            text_from,
            width: meant.chars().take(shown).count().max(1),
        }
    }
}

/// A finding: one sentence, its place, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The job file, as it was named.
    pub file: PathBuf,
    /// The place in the file; `None` if the file could not be read.
    pub place: Option<Place>,
    /// Whether it stops the job from being loaded.
    pub severity: Severity,
    /// What is wrong, in lower case, without a full stop.
    pub message: String,
    /// What to do, or the nearest valid name.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(place) = &self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        writeln!(f, " {}", self.message)?;
        if let Some(place) = &self.place {
            let number = place.line.to_string();
            // A tab stays a tab below, so that the caret is in the right place at any tab width.
            let indent: String = place
                .text
                .chars()
                .take(place.column - place.text_from)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            writeln!(f, "  {number} | {}", place.text)?;
            let carets = "^".repeat(place.width);
            writeln!(f, "  {:pad$} | {indent}{carets}", "", pad = number.len())?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "  help: {help}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a job file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub(super) fn new(list: Vec<Diagnostic>) -> Diagnostics {
        assert!(!list.is_empty(), "a file was refused without a reason");
        Diagnostics(list)
    }

    /// A file that could not be read at all.
    pub(super) fn unreadable(file: &Path, message: String, help: Option<String>) -> Diagnostics {
        Diagnostics(vec![Diagnostic {
            file: file.to_owned(),
            place: None,
            severity: Severity::Error,
            message,
            help,
        }])
    }

    /// The findings, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

impl fmt::Display for Diagnostics {
    /// The findings with an empty line between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

fn visible(c: char) -> char {
    match c {
        '\t' => c,
        c if shown::is_plain(c) => c,
        _ => char::REPLACEMENT_CHARACTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str, span: Range<usize>) -> String {
        Diagnostic {
            file: PathBuf::from("job.toml"),
            place: Some(Place::of(source, &span)),
            severity: Severity::Error,
            message: "wrong".to_owned(),
            help: None,
        }
        .to_string()
    }

    #[test]
    fn the_caret_stands_under_what_is_meant() {
        assert_eq!(
            rendered("a = 1\nbé = \"x\"\n", 12..15),
            "job.toml:2:6: wrong\n  2 | bé = \"x\"\n    |      ^^^\n"
        );
    }

    #[test]
    fn tabs_stay_tabs_and_control_characters_do_not_reach_the_terminal() {
        assert_eq!(
            rendered("\ta\u{1b} = 1\r\n", 1..2),
            "job.toml:1:2: wrong\n  1 | \ta\u{fffd} = 1\n    | \t^\n"
        );
    }

    #[test]
    fn an_empty_file_and_its_end_have_a_place() {
        assert_eq!(rendered("", 0..0), "job.toml:1:1: wrong\n  1 | \n    | ^\n");
        assert_eq!(
            rendered("a = 1\n", 6..9),
            "job.toml:2:1: wrong\n  2 | \n    | ^\n"
        );
    }

    #[test]
    fn a_span_over_several_lines_is_cut_to_its_first() {
        assert_eq!(
            rendered("a = [\n  1,\n]", 4..12),
            "job.toml:1:5: wrong\n  1 | a = [\n    |     ^\n"
        );
    }
}
