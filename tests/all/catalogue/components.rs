//! From the text of an attack to a component, and to what it says of itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::harness::in_repository;

/// Where the attacks are.
pub const FOLDER: &str = "tests/guests/hostile";

/// What stands behind this line is in the component, next to the module.
const BESIDE: &str = "\n;; in the component:\n";

/// What is to become of the message that attacks.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A dead letter of this kind, with these words in its reason.
    Letter(String, String),
    /// The job does not start, and says these words.
    Refused(String),
    /// Every task is held, and these words say why.
    Held(String),
    /// Nothing.
    Harmless,
}

/// A file of the catalogue.
#[derive(Debug)]
pub struct Attack {
    text: String,
    /// What is to become of it.
    pub outcome: Outcome,
    /// Lines of `[stage.limits]`.
    pub limits: Vec<String>,
    /// Lines of `[stage.capabilities]`.
    pub capabilities: Vec<String>,
    /// How many entries the store has afterwards, if the file says so.
    pub entries: Option<usize>,
    /// How many messages it sends beside the ticks.
    pub sends: usize,
    /// What the host says on standard error.
    pub says: Vec<String>,
    world: String,
    strings: StringEncoding,
}

impl Attack {
    /// Reads the file of an attack. Its first lines say in plain English what it does, and after a colon what this needs:
    /// `outcome: KIND "WORDS"`, `refused: "WORDS"`, `held: "WORDS"` or `harmless`; `limits:`, `capabilities:`, `entries:`, `says:`,
    /// `sends:`,
    /// `exports: lifecycle`, `strings: utf16`; and `defect:` where the host should do something else.
    pub fn read(name: &str) -> Attack {
        let path = path(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{}", path.display()));
        let head: Vec<&str> = text
            .lines()
            .map_while(|line| line.strip_prefix(";; "))
            .collect();
        assert!(head.len() >= 2, "{name} says what it does and what follows");
        let all = |key: &str| -> Vec<String> {
            let values = head.iter().filter_map(|line| line.strip_prefix(key));
            values.map(str::to_owned).collect()
        };
        let outcomes: Vec<Outcome> = head.iter().filter_map(|line| outcome(line)).collect();
        let [outcome] = <[Outcome; 1]>::try_from(outcomes).expect("one outcome");
        let says = all("says: ");
        Attack {
            outcome,
            limits: all("limits: "),
            capabilities: all("capabilities: "),
            entries: all("entries: ").pop().and_then(|text| text.parse().ok()),
            sends: all("sends: ")
                .pop()
                .map_or(0, |text| text.parse().expect("a number")),
            says: says.iter().map(|said| quoted(said)).collect(),
            world: all("exports: ").pop().unwrap_or_else(|| "message".into()),
            strings: match all("strings: ").pop().as_deref() {
                Some("utf16") => StringEncoding::UTF16,
                Some(other) => panic!("{name} has strings of {other}"),
                None => StringEncoding::UTF8,
            },
            text,
        }
    }

    /// The component.
    pub fn component(&self) -> Vec<u8> {
        let text = repeated(&self.text);
        let begins = text.lines().find(|line| !line.starts_with(";;"));
        if begins.is_some_and(|line| line.starts_with("(component")) {
            return wat::parse_str(&text).expect("the text of a component");
        }
        let (module, beside) = text.split_once(BESIDE).unwrap_or((&text, ""));
        let module = composed(module, &self.world);
        let mut module = wat::parse_str(&module).unwrap_or_else(|error| panic!("{error}"));
        let resolve = contract();
        let world = resolve.worlds.iter().find(|(_, world)| {
            let package = world
                .package
                .map(|package| &resolve.packages[package].name.namespace);
            world.name == self.world && package.is_some_and(|space| space == "test")
        });
        let (world, _) = world.expect("the world");
        embed_component_metadata(&mut module, resolve, world, self.strings).expect("the world");
        let mut encoder = ComponentEncoder::default();
        encoder.module(&module).expect("a module of the world");
        let component = encoder.encode().expect("a component");
        if beside.is_empty() {
            return component;
        }
        let component = wasmprinter::print_bytes(component).expect("a component");
        let component = component.trim_end().strip_suffix(')').expect("its end");
        wat::parse_str(format!("{component}{beside})")).expect("the text of a component")
    }
}

/// The file of an attack.
fn path(name: &str) -> PathBuf {
    in_repository(FOLDER).join(format!("{name}.wat"))
}

/// What the attacks share.
fn shared(name: &str) -> String {
    fs::read_to_string(in_repository("tests/all/catalogue").join(name)).expect("a text")
}

fn outcome(line: &str) -> Option<Outcome> {
    if line == "harmless" {
        return Some(Outcome::Harmless);
    }
    let (key, value) = line.split_once(": ")?;
    match key {
        "outcome" => {
            let (kind, _) = value.split_once(' ')?;
            Some(Outcome::Letter(kind.to_owned(), quoted(value)))
        }
        "refused" => Some(Outcome::Refused(quoted(value))),
        "held" => Some(Outcome::Held(quoted(value))),
        _ => None,
    }
}

/// What stands between the first and the last quote.
fn quoted(text: &str) -> String {
    let (from, to) = (text.find('"'), text.rfind('"'));
    let (from, to) = from.zip(to).expect("words in quotes");
    text[from + 1..to].to_owned()
}

/// `{{N:TEXT}}` stands for so many times that text, with the number of each in place of `#`.
fn repeated(text: &str) -> String {
    let mut parts = text.split("{{");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (times, rest) = part.split_once(':').expect("a number");
        let (again, rest) = rest.split_once("}}").expect("an end");
        let times: usize = times.parse().expect("a number");
        for number in 0..times {
            whole += &again.replace('#', &number.to_string());
        }
        whole += rest;
    }
    whole
}

/// A module of what an attack has, and of what it uses of the prelude.
fn composed(attack: &str, world: &str) -> String {
    let attack = forms(attack);
    let own: BTreeSet<&str> = attack.iter().filter_map(|form| defined(form)).collect();
    let prelude = forms(&shared("prelude.wat"));
    let prelude: Vec<&String> = prelude
        .iter()
        .filter(|form| !defined(form).is_some_and(|name| own.contains(name)))
        .collect();
    let mut wanted: BTreeSet<&str> = attack.iter().flat_map(|form| names(form)).collect();
    wanted.extend(["$memory", "$strings", "$heap", "$answer", "$realloc"]);
    wanted.extend(match world {
        "batch" => ["$main-batch", "$after-batch"],
        _ => ["$main", "$after"],
    });
    loop {
        let before = wanted.len();
        for form in &prelude {
            if defined(form).is_some_and(|name| wanted.contains(name)) {
                wanted.extend(names(form));
            }
        }
        if wanted.len() == before {
            break;
        }
    }
    let used = prelude
        .into_iter()
        .filter(|form| defined(form).is_some_and(|name| wanted.contains(name)));
    let (imports, others): (Vec<&String>, Vec<&String>) = used
        .chain(&attack)
        .partition(|form| form.starts_with("(import"));
    let all: Vec<&str> = imports
        .into_iter()
        .chain(others)
        .map(String::as_str)
        .collect();
    format!("(module\n{})", all.join("\n"))
}

/// The outermost forms of a text, without comments.
fn forms(text: &str) -> Vec<String> {
    let (mut forms, mut form, mut depth, mut in_string) = (Vec::new(), String::new(), 0, false);
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with(";;"));
    for line in lines {
        let mut before = ' ';
        for c in line.chars() {
            match c {
                '"' if before != '\\' => in_string = !in_string,
                '(' if !in_string => depth += 1,
                ')' if !in_string => depth -= 1,
                _ => {}
            }
            before = c;
            form.push(c);
            if depth == 0 && !form.trim().is_empty() {
                forms.push(std::mem::take(&mut form).trim().to_owned());
            }
        }
        form.push('\n');
    }
    assert_eq!(depth, 0, "as many parentheses are closed as opened");
    forms
}

/// The names in a form.
fn names(form: &str) -> impl Iterator<Item = &str> {
    let words = form.split(|c: char| c.is_whitespace() || c == '(' || c == ')');
    words.filter(|word| word.starts_with('$'))
}

/// The name that a form defines.
fn defined(form: &str) -> Option<&str> {
    names(form).next()
}

/// The contract with the worlds of the hostile guests.
fn contract() -> &'static Resolve {
    static CONTRACT: OnceLock<Resolve> = OnceLock::new();
    CONTRACT.get_or_init(|| {
        let mut resolve = Resolve::default();
        resolve
            .push_dir(in_repository("wit"))
            .expect("the contract");
        resolve
            .push_str("hostile.wit", &shared("hostile.wit"))
            .expect("the worlds");
        resolve
    })
}
