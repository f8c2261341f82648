//! Reads a TOML table key by key. What is wrong is noted and reading goes on, so that all of it is reported at once;
//! keys that were never read are reported as unknown at the end.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use toml::de::{DeTable, DeValue};

use super::Look;
use super::diagnostics::Severity;
use super::names;
use super::policy::{Allowed, Policy};
use super::setting::{FromText, Problem, Setting};
use super::substitute::{Env, From, Substituted, substitute};

/// Something noted while reading.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) span: Range<usize>,
    pub(super) severity: Severity,
    pub(super) problem: Problem,
}

/// What all tables of a file share.
pub(super) struct Context<'a> {
    /// The file's text, to which all spans refer.
    pub(super) text: &'a str,
    /// The file's folder.
    pub(super) folder: &'a Path,
    /// The environment.
    pub(super) env: &'a Env<'a>,
    /// What is checked in addition to the file.
    pub(super) look: Look,
    /// `${…}` means nothing in it.
    pub(super) is_literal: bool,
    /// What nothing in the file may exceed.
    pub(super) policies: &'a [Policy],
    /// What was found so far.
    pub(super) notes: RefCell<Vec<Note>>,
}

impl Context<'_> {
    /// Notes an error.
    pub(super) fn error(&self, span: &Range<usize>, problem: Problem) {
        self.note(span, Severity::Error, problem);
    }

    /// Notes what a policy does not allow; `refused` names it.
    pub(super) fn refuse(&self, span: &Range<usize>, refused: impl Fn(&Allowed) -> Option<String>) {
        self.refusals(refused)
            .for_each(|problem| self.error(span, problem));
    }

    /// What policies do not allow.
    fn refusals(
        &self,
        refused: impl Fn(&Allowed) -> Option<String>,
    ) -> impl Iterator<Item = Problem> {
        self.policies.iter().filter_map(move |policy| {
            let what = refused(&policy.capabilities)?;
            let file = policy.file.display();
            let problem = Problem::new(format!("the policy {file} does not allow {what}"));
            Some(problem.help("leave it out, or ask who keeps the policy"))
        })
    }

    /// Notes a warning.
    pub(super) fn warn(&self, span: &Range<usize>, problem: Problem) {
        self.note(span, Severity::Warning, problem);
    }

    fn note(&self, span: &Range<usize>, severity: Severity, problem: Problem) {
        self.notes.borrow_mut().push(Note {
            span: span.clone(),
            severity,
            problem,
        });
    }
}

/// A key and its value.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    /// What all tables of the file share.
    pub(super) cx: &'a Context<'a>,
    /// The key; in a list, the key of the list.
    pub(super) key: &'a str,
    /// Where the key stands.
    pub(super) key_span: Range<usize>,
    /// Where the value stands.
    pub(super) span: Range<usize>,
    value: &'a DeValue<'a>,
}

/// A table that is being read.
pub(super) struct Table<'a> {
    pub(super) cx: &'a Context<'a>,
    /// As a person would write it: "[checkpoint]".
    pub(super) title: String,
    /// Where it is declared.
    pub(super) span: Range<usize>,
    /// In the order of the file.
    entries: Vec<Entry<'a>>,
    asked: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        cx: &'a Context<'a>,
        title: impl Into<String>,
        table: &'a DeTable<'a>,
        span: Range<usize>,
    ) -> Table<'a> {
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| Entry {
                cx,
                key: key.get_ref(),
                key_span: key.span(),
                span: value.span(),
                value: value.get_ref(),
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        Table {
            cx,
            title: title.into(),
            span,
            entries,
            asked: Vec::new(),
        }
    }

    /// A table that is not in the file.
    pub(super) fn empty(cx: &'a Context<'a>, title: &str, span: Range<usize>) -> Table<'a> {
        Table {
            cx,
            title: title.to_owned(),
            span,
            entries: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// The entry of a key, which marks the key as valid.
    pub(super) fn entry(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.asked.push(key);
        self.peek(key)
    }

    /// The entry of a key, without marking it as valid.
    pub(super) fn peek(&self, key: &str) -> Option<Entry<'a>> {
        self.entries.iter().find(|entry| entry.key == key).cloned()
    }

    /// All entries, for tables whose keys are names of the user's.
    pub(super) fn into_entries(self) -> Vec<Entry<'a>> {
        self.entries
    }

    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The place of the value of `key`, or else of the table.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.peek(key).map_or(self.span.clone(), |entry| entry.span)
    }

    /// Notes that a key is missing that must be there.
    pub(super) fn missing(&self, key: &str, help: &str) {
        let problem = Problem::new(format!("`{key}` is missing in {}", self.title));
        self.cx.error(&self.span, problem.help(help));
    }

    /// A value written as text.
    pub(super) fn text<T: FromText>(&mut self, key: &'static str) -> Option<Setting<T>> {
        self.entry(key)?.text()
    }

    /// A path, joined to the file's folder.
    pub(super) fn path(&mut self, key: &'static str) -> Option<Setting<PathBuf>> {
        self.entry(key)?.path()
    }

    /// `true` or `false`.
    pub(super) fn bool(&mut self, key: &'static str) -> Option<bool> {
        self.entry(key)?.bool()
    }

    /// A whole number in a range.
    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.entry(key)?.integer(range)
    }

    /// As [`Table::integer`], for what is counted in 32 bits.
    pub(super) fn integer_u32(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let number = self.integer(key, u64::from(*range.start())..=u64::from(*range.end()))?;
        u32::try_from(number).ok()
    }

    /// A table within this one.
    pub(super) fn table(&mut self, key: &'static str, title: &str) -> Option<Table<'a>> {
        self.entry(key)?.table(title)
    }

    /// A key that is reserved for a later version and has no default that could be written.
    pub(super) fn later(&mut self, key: &'static str) {
        if let Some(entry) = self.entry(key) {
            let problem = Problem::new(format!("`{key}` is not supported yet"));
            self.cx.error(&entry.key_span, problem.help("leave it out"));
        }
    }

    /// Reports the keys that were never read. `explain` may have a better description than "unknown".
    pub(super) fn finish(&self, explain: impl Fn(&str) -> Option<Problem>) {
        for entry in &self.entries {
            if self.asked.contains(&entry.key) {
                continue;
            }
            let problem = explain(entry.key).unwrap_or_else(|| {
                let unknown =
                    Problem::new(format!("unknown key `{}` in {}", entry.key, self.title));
                match names::nearest(entry.key, &self.asked) {
                    Some(key) => unknown.help(format!("did you mean `{key}`?")),
                    None => unknown.help(format!("valid keys: {}", names::ticked(&self.asked))),
                }
            });
            self.cx.error(&entry.key_span, problem);
        }
    }
}

impl<'a> Entry<'a> {
    /// Notes an error in the value.
    pub(super) fn error(&self, problem: Problem) {
        self.cx.error(&self.span, problem);
    }

    /// A value written as text.
    pub(super) fn text<T: FromText>(&self) -> Option<Setting<T>> {
        let text = match self.value {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(_) | DeValue::Float(_) => {
                let number = self.scalar()?;
                match T::bare_number(&number) {
                    Some(problem) => self.error(problem),
                    None => self.wrong_type(T::WHAT, &format!("write \"{number}\"")),
                }
                return None;
            }
            _ => {
                self.wrong_type(T::WHAT, "write it as a string in quotes");
                return None;
            }
        };
        if self.cx.is_literal && text.contains("${") {
            self.error(Problem::new("`${…}` has no meaning here").help("write the value"));
            return None;
        }
        let refuses = |from: &From| self.cx.refusals(|allowed| allowed.refuses(from)).next();
        match substitute(text, self.cx.env, self.cx.folder, &refuses) {
            Ok(Substituted::Unchanged) => match T::from_text(text) {
                Ok(value) => Some(value.into()),
                Err(problem) => {
                    self.error(problem);
                    None
                }
            },
            Ok(Substituted::Changed(resolved, taken)) => match T::from_text(&resolved) {
                Ok(value) => Some(Setting::substituted(value, text, taken)),
                Err(_) => {
                    let what = T::WHAT;
                    self.error(
                        Problem::new(format!("what {text:?} stands for is not valid as {what}"))
                            .help(
                                "the value is not shown, because it may come from the environment",
                            ),
                    );
                    None
                }
            },
            Err(references) => {
                for bad in references {
                    self.cx.error(&self.find(&bad.piece), bad.problem);
                }
                None
            }
        }
    }

    /// The place of `piece` in the value, if it is written there literally.
    fn find(&self, piece: &str) -> Range<usize> {
        let literal = &self.cx.text[self.span.clone()];
        match literal.find(piece) {
            Some(at) => self.span.start + at..self.span.start + at + piece.len(),
            None => self.span.clone(),
        }
    }

    /// A path, joined to the file's folder.
    pub(super) fn path(&self) -> Option<Setting<PathBuf>> {
        let path = self.text::<PathBuf>()?;
        Some(path.map(|path| self.cx.folder.join(path)))
    }

    /// A time: a string, or a TOML date-time with an offset.
    pub(super) fn time(&self) -> Option<Setting<Timestamp>> {
        match self.value {
            DeValue::Datetime(time) => {
                let time = Timestamp::from_text(&time.to_string());
                self.accept(time).map(Setting::from)
            }
            _ => self.text(),
        }
    }

    /// The name of something. Names are shown everywhere, so nothing of the environment can be in one.
    pub(super) fn name(&self, what: &str) -> Option<&'a str> {
        let DeValue::String(name) = self.value else {
            self.wrong_type(
                &format!("the name of a {what}"),
                "write it as a string in quotes",
            );
            return None;
        };
        let checked = if name.contains("${") {
            Err(Problem::new(format!(
                "the name of a {what} cannot come from the environment"
            ))
            .help("names are printed, and recorded in the state directory"))
        } else {
            names::check(what, name)
        };
        self.accept(checked)?;
        Some(name.as_ref())
    }

    /// The key as the name of something.
    pub(super) fn key_name(&self, what: &str) -> Option<&'a str> {
        match names::check(what, self.key) {
            Ok(()) => Some(self.key),
            Err(problem) => {
                self.cx.error(&self.key_span, problem);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn bool(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            DeValue::String(text) if matches!(text.as_ref(), "true" | "false") => {
                self.wrong_type("true or false", &format!("write {text} without quotes"));
                None
            }
            _ => {
                self.wrong_type("true or false", "write true or false");
                None
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let (min, max) = (range.start(), range.end());
        let bounds = if *max >= i64::MAX.unsigned_abs() {
            format!("a whole number of at least {min}")
        } else {
            format!("a whole number from {min} to {max}")
        };
        let DeValue::Integer(integer) = self.value else {
            self.wrong_type("a whole number", &format!("write {bounds}, without quotes"));
            return None;
        };
        let value = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        match value.and_then(|value| u64::try_from(value).ok()) {
            Some(value) if range.contains(&value) => Some(value),
            _ => {
                self.error(Problem::new(format!("`{}` is {bounds}", self.key)));
                None
            }
        }
    }

    /// A table.
    pub(super) fn table(&self, title: &str) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(table) => Some(Table::new(self.cx, title, table, self.span.clone())),
            DeValue::Array(_) if self.cx.text[self.span.clone()].starts_with("[[") => {
                self.wrong_type("a table", &format!("write {title} with single brackets"));
                None
            }
            _ => {
                self.wrong_type("a table", &format!("write it as {title}, or in braces"));
                None
            }
        }
    }

    /// Whether the value is a table.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    /// The string as it is written, if it is one.
    pub(super) fn string(&self) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The elements of a list, each under the key of the list.
    pub(super) fn list(&self, help: &str) -> Option<Vec<Entry<'a>>> {
        let DeValue::Array(list) = self.value else {
            self.wrong_type("a list", help);
            return None;
        };
        let entries = list.iter().map(|element| Entry {
            cx: self.cx,
            key: self.key,
            key_span: self.key_span.clone(),
            span: element.span(),
            value: element.get_ref(),
        });
        Some(entries.collect())
    }

    /// The text of a number, boolean or time; `None` for what has parts, and for a string.
    pub(super) fn scalar(&self) -> Option<String> {
        match self.value {
            DeValue::Integer(integer) => {
                let value = i64::from_str_radix(integer.as_str(), integer.radix());
                Some(value.map_or_else(|_| integer.to_string(), |value| value.to_string()))
            }
            DeValue::Float(float) => Some(float.as_str().to_owned()),
            DeValue::Boolean(value) => Some(value.to_string()),
            DeValue::Datetime(time) => Some(time.to_string()),
            DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_) => None,
        }
    }

    /// Notes that the value has another type than `expected`.
    pub(super) fn wrong_type(&self, expected: &str, help: &str) {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(
            Problem::new(format!(
                "`{}`: expected {expected}, found {found}",
                self.key
            ))
            .help(help),
        );
    }

    fn accept<T>(&self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.error(problem)).ok()
    }
}
