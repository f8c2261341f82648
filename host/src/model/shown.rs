//! Text from outside (guests, components, files) on its way to a person: escaped, so that it cannot steer a terminal, hide, or pass
//! for a line of the host's own; and cut, so that it is as long as the host says. What is cut is never built whole.

use std::error::Error;
use std::fmt::{self, Display, Write};

/// The most bytes of a sentence about something from outside.
pub const SENTENCE_BYTES: usize = 4 << 10;
/// The most bytes of a name.
pub const NAME_BYTES: usize = 256;

/// How much of a multi-line text is shown.
#[derive(Debug, Clone, Copy)]
pub struct LinesMax {
    /// Bytes in total, without the ellipsis at its end.
    pub bytes: usize,
    /// Bytes of a line, without its ellipsis.
    pub line_bytes: usize,
    /// Lines.
    pub lines: usize,
}

/// All of it.
pub const UNCUT: LinesMax = LinesMax {
    bytes: usize::MAX,
    line_bytes: usize::MAX,
    lines: usize::MAX,
};

/// A text as one line of at most `bytes_max` bytes (and an ellipsis, if it was cut).
pub fn line(text: impl Display, bytes_max: usize) -> String {
    let bounds = LinesMax {
        bytes: bytes_max,
        line_bytes: bytes_max,
        lines: 1,
    };
    Cutter::new(bounds, Newlines::Escaped).take(text)
}

/// A text of several lines, which stay lines.
pub fn lines(text: impl Display, most: LinesMax) -> String {
    Cutter::new(most, Newlines::Kept).take(text)
}

/// An error and its causes, each once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}");
        source = cause.source();
    }
    text
}

/// A name in quotes.
pub fn name(text: &str) -> String {
    let inner = line(Escaped(text), NAME_BYTES);
    format!("\"{inner}\"")
}

/// What [`name`] shows of a text that it does not cut, without the quotes.
pub fn escaped(text: &str) -> String {
    line(Escaped(text), usize::MAX)
}

/// Whether a character is shown as it is. Escaped are control characters, changes of the writing direction, line
/// separators, and characters without width: they make one text look like another.
pub fn is_plain(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    !c.is_control() && !hidden
}

/// JSON with everything in its strings that is not plain as `\u` escapes: the same JSON, and fit for a terminal.
pub fn json(text: Vec<u8>) -> Vec<u8> {
    // Serialized JSON has escapes for all control characters of ASCII but one.
    if text.iter().all(|byte| byte.is_ascii() && *byte != 0x7f) {
        return text;
    }
    let shown = match std::str::from_utf8(&text) {
        Err(_) => return text,
        Ok(text) if text.chars().all(|c| c == '\n' || is_plain(c)) => None,
        Ok(text) => {
            let mut shown = String::with_capacity(text.len() * 2);
            for c in text.chars() {
                match c == '\n' || is_plain(c) {
                    true => shown.push(c),
                    false => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                        let _ = write!(shown, "\\u{unit:04x}");
                    }),
                }
            }
            Some(shown.into_bytes())
        }
    };
    shown.unwrap_or(text)
}

/// With quotes and backslashes escaped, to stand between quotes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| {
            if matches!(c, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(c)
        })
    }
}

#[derive(PartialEq, Eq)]
enum Newlines {
    Escaped,
    Kept,
}

/// Takes what is written to it until it is full, and then returns an error to the writer.
struct Cutter {
    out: String,
    most: LinesMax,
    newlines: Newlines,
    /// Complete lines.
    lines: usize,
    /// Where the current line begins.
    begun: usize,
    /// The current line is full.
    line_full: bool,
}

impl Cutter {
    fn new(most: LinesMax, newlines: Newlines) -> Cutter {
        Cutter {
            out: String::new(),
            most,
            newlines,
            lines: 0,
            begun: 0,
            line_full: false,
        }
    }

    fn take(mut self, text: impl Display) -> String {
        if write!(self, "{text}").is_err() && !self.out.ends_with('…') {
            self.out.push('…');
        }
        self.out
    }

    fn end_line(&mut self) -> fmt::Result {
        self.lines += 1;
        if self.lines >= self.most.lines || self.out.len() >= self.most.bytes {
            return Err(fmt::Error);
        }
        self.out.push('\n');
        self.begun = self.out.len();
        self.line_full = false;
        Ok(())
    }

    fn push(&mut self, c: char) -> fmt::Result {
        let escaped = (c != '\t' && !is_plain(c)).then(|| c.escape_default());
        let bytes = escaped
            .as_ref()
            .map_or(c.len_utf8(), ExactSizeIterator::len);
        if self.out.len() + bytes > self.most.bytes {
            return Err(fmt::Error);
        }
        if self.out.len() - self.begun + bytes > self.most.line_bytes {
            self.out.push('…');
            self.line_full = true;
            return Ok(());
        }
        match escaped {
            Some(escaped) => self.out.extend(escaped),
            None => self.out.push(c),
        }
        Ok(())
    }
}

impl Write for Cutter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| {
            if c == '\n' && self.newlines == Newlines::Kept {
                self.end_line()
            } else if self.line_full {
                Ok(())
            } else {
                self.push(c)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_or_hide_is_shown() {
        assert_eq!(line("a\u{1b}[31mred\nb\t", 100), "a\\u{1b}[31mred\\nb\t");
        assert_eq!(line("\u{9b}1m\u{7f}", 100), "\\u{9b}1m\\u{7f}");
        for hidden in
            "\u{202e}\u{2066}\u{2028}\u{2029}\u{200b}\u{200d}\u{feff}\u{ad}\u{e0041}\u{3164}"
                .chars()
        {
            let shown = line(hidden, 100);
            assert!(shown.starts_with("\\u{"), "{shown}");
        }
        assert_eq!(line("naïve ζ 漢字 \\u", 100), "naïve ζ 漢字 \\u");
        // What was cleaned once is not changed by being cleaned again.
        let once = line("\u{202e}\r\n", 100);
        assert_eq!(line(&once, 100), once);
    }

    #[test]
    fn lines_are_cut_by_themselves_and_together() {
        let most = LinesMax {
            bytes: 20,
            line_bytes: 5,
            lines: 3,
        };
        assert_eq!(lines("one\ntwo\r\n", most), "one\ntwo\\r\n");
        assert_eq!(lines("a long line\nb", most), "a lon…\nb");
        assert_eq!(lines("1\n2\n3\n4", most), "1\n2\n3…");
        assert_eq!(
            lines("1234567\n1234567\n1234567", most),
            "12345…\n12345…\n12…"
        );
        assert_eq!(line("12345", 5), "12345");
        assert_eq!(line("123456", 5), "12345…");
    }

    #[test]
    fn what_is_cut_is_not_built() {
        struct Endless;
        impl Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("and so on ")?;
                }
            }
        }
        assert_eq!(line(Endless, 12), "and so on an…");
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(name("a\"b\\c\n"), "\"a\\\"b\\\\c\\n\"");
        let long = name(&"\u{1b}".repeat(10 << 20));
        assert!(long.len() <= NAME_BYTES + 5, "{}", long.len());
    }

    #[test]
    fn json_stays_the_same_json() -> serde_json::Result<()> {
        for text in ["plain", "é漢", "\u{202e}a\u{7f}\u{9b}\u{e0041}\"\\\n"] {
            let json_text = serde_json::to_vec(text)?;
            let shown = json(json_text);
            assert_eq!(serde_json::from_slice::<String>(&shown)?, text);
            let shown = String::from_utf8_lossy(&shown);
            assert!(shown.chars().all(is_plain), "{shown}");
        }
        Ok(())
    }
}
