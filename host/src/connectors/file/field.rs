//! Finds one scalar in a JSON text without building the rest.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Which member of a JSON object: a pointer (RFC 6901, as `/a/b/0`) or the name of a top-level member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<String>);

impl Pointer {
    /// A pointer if the text begins with `/`, otherwise a name.
    pub fn parse(text: &str) -> Result<Pointer, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return match text.is_empty() {
                true => Err("an empty name of a member".to_owned()),
                false => Ok(Pointer(vec![text.to_owned()])),
            };
        };
        let tokens = rest.split('/').map(|token| {
            let plain = token.replace("~1", "/").replace("~0", "~");
            let escapes = token.matches("~0").count() + token.matches("~1").count();
            match token.matches('~').count() == escapes {
                true => Ok(plain),
                false => Err(format!(
                    "JSON pointer `{text}`: `~` is written `~0`, and `/` in a name `~1`"
                )),
            }
        });
        tokens.collect::<Result<_, _>>().map(Pointer)
    }
}

/// What the pointer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// A string.
    Text,
    /// An integer or `true`, `false`, as written.
    Exact,
    /// Another number, in the shortest form that reads back as the same double.
    Double,
    /// An object or an array.
    Compound,
    /// `null`.
    Null,
    /// Nothing.
    Missing,
}

/// Checks that `json` is one JSON text, and appends the scalar that the pointer leads to. Of repeated members
/// the last counts.
pub(crate) fn find(
    json: &[u8],
    pointer: &Pointer,
    into: &mut String,
) -> Result<Found, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    into.clear();
    let seek = Seek {
        path: &pointer.0,
        into,
    };
    let found = seek.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(found)
}

struct Seek<'p> {
    path: &'p [String],
    into: &'p mut String,
}

impl Seek<'_> {
    fn scalar(self, found: Found, text: std::fmt::Arguments<'_>) -> Found {
        if !self.path.is_empty() {
            return Found::Missing;
        }
        self.into.clear();
        // Writing to a `String` cannot fail.
        let _ = std::fmt::Write::write_fmt(self.into, text);
        found
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(match self.path.is_empty() {
            true => Found::Null,
            false => Found::Missing,
        })
    }

    fn visit_bool<E>(self, value: bool) -> Result<Found, E> {
        Ok(self.scalar(Found::Exact, format_args!("{value}")))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Found, E> {
        Ok(self.scalar(Found::Exact, format_args!("{value}")))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Found, E> {
        Ok(self.scalar(Found::Exact, format_args!("{value}")))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Found, E> {
        Ok(self.scalar(Found::Double, format_args!("{value}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Found, E> {
        if !self.path.is_empty() {
            return Ok(Found::Missing);
        }
        self.into.clear();
        self.into.push_str(value);
        Ok(Found::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        let Some((index, rest)) = self.path.split_first() else {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Found::Compound);
        };
        // As RFC 6901 has it: digits, no leading zero.
        let index = index
            .parse::<usize>()
            .ok()
            .filter(|number| number.to_string() == *index);
        let mut found = Found::Missing;
        for at in 0.. {
            if index == Some(at) {
                let seek = Seek {
                    path: rest,
                    into: &mut *self.into,
                };
                match items.next_element_seed(seek)? {
                    Some(there) => found = there,
                    None => break,
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Found, A::Error> {
        let Some((name, rest)) = self.path.split_first() else {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Found::Compound);
        };
        let mut found = Found::Missing;
        while let Some(here) = members.next_key_seed(Is(name))? {
            if here {
                found = members.next_value_seed(Seek {
                    path: rest,
                    into: &mut *self.into,
                })?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a member has that name.
struct Is<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }

    fn visit_bytes<E: serde::de::Error>(self, _name: &[u8]) -> Result<bool, E> {
        Err(E::custom("the name of a member is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str, pointer: &str) -> (Found, String) {
        let mut into = String::new();
        let found = find(
            json.as_bytes(),
            &Pointer::parse(pointer).unwrap(),
            &mut into,
        )
        .unwrap();
        (found, into)
    }

    #[test]
    fn pointers_and_names_show_scalars() {
        let json = r#"{"a":{"b/c":[1,"two",null,{}],"m~":-3},"k\u00e9y":"v\"","t":true,"d":1.5e3,"a.b":7}"#;
        assert_eq!(found(json, "/a/b~1c/1"), (Found::Text, "two".to_owned()));
        assert_eq!(found(json, "/a/m~0"), (Found::Exact, "-3".to_owned()));
        assert_eq!(found(json, "kéy"), (Found::Text, "v\"".to_owned()));
        assert_eq!(found(json, "t"), (Found::Exact, "true".to_owned()));
        assert_eq!(found(json, "d"), (Found::Double, "1500".to_owned()));
        assert_eq!(found(json, "a.b"), (Found::Exact, "7".to_owned()));
        assert_eq!(found(json, "/a/b~1c/2").0, Found::Null);
        assert_eq!(found(json, "/a/b~1c/3").0, Found::Compound);
        assert_eq!(found(json, "/a").0, Found::Compound);
        for missing in [
            "/a/b~1c/4",
            "/a/b~1c/01",
            "/a/x",
            "x",
            "/t/u",
            "/a/b~1c/2/x",
        ] {
            assert_eq!(found(json, missing).0, Found::Missing, "{missing}");
        }
        assert_eq!(found("[5]", "/0"), (Found::Exact, "5".to_owned()));
        assert_eq!(found("5", "x").0, Found::Missing);
        assert_eq!(
            found(r#"{"a":1,"a":"2"}"#, "a"),
            (Found::Text, "2".to_owned())
        );
        assert_eq!(found(r#"{"a":1,"a":{}}"#, "a").0, Found::Compound);
    }

    #[test]
    fn invalid_json_is_an_error() {
        let pointer = Pointer::parse("a").unwrap();
        for json in [
            "",
            "{",
            r#"{"a":1} 2"#,
            r#"{"a":1,}"#,
            r#"{"b":nul,"a":1}"#,
            "{\"a\":\"\u{1}\"}",
        ] {
            assert!(
                find(json.as_bytes(), &pointer, &mut String::new()).is_err(),
                "{json}"
            );
        }
        assert!(find(b"{\"a\":\"\xff\"}", &pointer, &mut String::new()).is_err());
        assert!(Pointer::parse("/a~2").is_err());
        assert!(Pointer::parse("").is_err());
    }
}
