//! What is written where? A TOML text as sections that note every mistake with its line, and
//! every key that nobody asked for.

use std::{cell::RefCell, collections::BTreeSet};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{ConfigError, Security};
use crate::tls::TlsFiles;

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Line, counted from 1; `None`: no line is to blame.
    pub line: Option<usize>,
    /// One sentence: what was wanted and what was found.
    pub text: String,
}

/// The text, and what was found wrong with it so far.
pub(super) struct Notes<'t> {
    text: &'t str,
    mistakes: RefCell<Vec<Mistake>>,
}

impl Notes<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    /// Notes a mistake.
    pub(super) fn add(&self, line: Option<usize>, text: impl Into<String>) {
        self.mistakes.borrow_mut().push(Mistake { line, text: text.into() });
    }
}

/// Parses `text` and hands it to `read`, which asks for what it wants. The value counts only if no
/// mistake was noted.
pub(super) fn parse<T>(
    file: &str,
    text: &str,
    read: impl FnOnce(&Section<'_, '_>) -> T,
) -> Result<T, ConfigError> {
    let notes = Notes { text, mistakes: RefCell::default() };
    let (root, errors) = DeTable::parse_recoverable(text);
    // What follows the first error of a parser is guesswork.
    if let Some(error) = errors.first() {
        let line = error.span().map(|span| notes.line(span.start));
        notes.add(line, format!("this is not TOML: {}", error.message()));
    }
    let root = Section::new(&notes, root.get_ref(), "", 1);
    let value = errors.is_empty().then(|| read(&root));
    root.finish();
    let mut mistakes = notes.mistakes.into_inner();
    mistakes.sort();
    mistakes.dedup();
    match (value, mistakes.is_empty()) {
        (Some(value), true) => Ok(value),
        (Some(_) | None, _) => {
            Err(ConfigError { file: file.into(), mistakes, advice: String::new() })
        }
    }
}

/// One table of the file.
pub(super) struct Section<'a, 't> {
    pub(super) notes: &'a Notes<'t>,
    table: &'a DeTable<'t>,
    /// How the table is called in sentences; empty: the top of the file.
    name: String,
    /// Where it begins.
    pub(super) line: usize,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a, 't> Section<'a, 't> {
    fn new(notes: &'a Notes<'t>, table: &'a DeTable<'t>, name: &str, line: usize) -> Self {
        Self { notes, table, name: name.into(), line, asked: RefCell::default() }
    }

    /// Whether the key is there, whatever its value.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.asked.borrow_mut().insert(key);
        self.table.contains_key(key)
    }

    /// The line of a key; of the section if the key is not there.
    pub(super) fn line_of(&self, key: &str) -> usize {
        let entry = self.table.iter().find(|(name, _)| name.get_ref() == key);
        entry.map_or(self.line, |(name, _)| self.notes.line(name.span().start))
    }

    fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'t>>> {
        self.asked.borrow_mut().insert(key);
        self.table.get(key)
    }

    /// Notes a mistake in the value of a key.
    pub(super) fn blame(&self, key: &str, text: impl Into<String>) {
        self.notes.add(Some(self.line_of(key)), text);
    }

    fn wrong(&self, key: &str, wanted: &str, found: &DeValue<'_>) {
        self.blame(key, format!("{key}: wanted {wanted}, found {}", shown(found)));
    }

    /// A text that is not empty.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        let text = self.text_or_empty(key)?;
        if text.trim().is_empty() {
            self.blame(key, format!("{key}: wanted a text, found an empty one"));
            return None;
        }
        Some(text)
    }

    /// A text, which may be empty.
    pub(super) fn text_or_empty(&self, key: &'static str) -> Option<String> {
        let value = self.get(key)?.get_ref();
        let text = value.as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(key, "a text in quotes", value);
        }
        text
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?.get_ref();
        if value.as_bool().is_none() {
            self.wrong(key, "true or false", value);
        }
        value.as_bool()
    }

    /// A whole number in a range, both ends included.
    pub(super) fn number(&self, key: &'static str, least: u64, most: u64) -> Option<u64> {
        let value = self.get(key)?.get_ref();
        let number = whole(value).filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let wanted = match most {
                u64::MAX => format!("a whole number from {least} up"),
                most => format!("a whole number from {least} to {most}"),
            };
            self.wrong(key, &wanted, value);
        }
        number
    }

    /// Two whole numbers in brackets.
    pub(super) fn pair(&self, key: &'static str) -> Option<(u64, u64)> {
        let value = self.get(key)?.get_ref();
        let numbers: Option<Vec<u64>> =
            value.as_array().and_then(|array| array.iter().map(|v| whole(v.get_ref())).collect());
        match numbers.as_deref() {
            Some([first, second]) => Some((*first, *second)),
            Some(_) | None => {
                self.wrong(key, "two whole numbers such as [150, 300]", value);
                None
            }
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let value = self.get(key)?.get_ref();
        let texts: Option<Vec<String>> = value.as_array().and_then(|array| {
            array.iter().map(|v| v.get_ref().as_str().map(str::to_owned)).collect()
        });
        if texts.is_none() {
            self.wrong(key, "a list of texts such as [\"a\", \"b\"]", value);
        }
        texts
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.get(key)?.get_ref();
        let word = value.as_str();
        let hit = words.iter().find(|(name, _)| word == Some(name));
        if hit.is_none() {
            let names: Vec<String> = words.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.wrong(key, &format!("one of {}", names.join(", ")), value);
        }
        hit.map(|(_, value)| *value)
    }

    /// A table inside this one.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a, 't>> {
        let value = self.get(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong(key, &format!("a section [{}]", self.path(key)), value.get_ref());
        }
        Some(Section::new(self.notes, table?, &self.path(key), self.line_of(key)))
    }

    /// A list of tables inside this one.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'a, 't>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let wanted = format!("sections [[{}]]", self.path(key));
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, &wanted, value.get_ref());
            return Vec::new();
        };
        let mut out = Vec::new();
        for item in array {
            match item.get_ref().as_table() {
                Some(table) => {
                    let line = self.notes.line(item.span().start);
                    out.push(Section::new(self.notes, table, &self.path(key), line));
                }
                None => self.wrong(key, &wanted, item.get_ref()),
            }
        }
        out
    }

    /// `value`, and a mistake if the key is not there at all.
    pub(super) fn need<T: Default>(&self, key: &'static str, value: Option<T>) -> T {
        if !self.has(key) {
            match self.name.is_empty() {
                true => self.notes.add(None, format!("{key} is missing")),
                false => {
                    let text = format!("{key} is missing in [{}]", self.name);
                    self.notes.add(Some(self.line), text);
                }
            }
        }
        value.unwrap_or_default()
    }

    /// Mutual TLS by `[tls]`, or plain text by `insecure = true`; exactly one.
    pub(super) fn security(&self) -> Security {
        let written = self.flag("insecure");
        let insecure = written.unwrap_or(false);
        let Some(tls) = self.section("tls") else {
            if written == Some(false) || !(self.has("insecure") || self.has("tls")) {
                self.notes.add(
                    None,
                    "wanted [tls] with ca, cert and key (conclave tls init makes them), or \
                     insecure = true for plain text, found neither",
                );
            }
            return Security::Insecure;
        };
        if insecure {
            self.blame("insecure", "wanted [tls] or insecure = true, found both");
        }
        let file = |key| tls.need(key, tls.text(key)).into();
        let files = TlsFiles { ca: file("ca"), cert: file("cert"), key: file("key") };
        tls.finish();
        Security::Tls(files)
    }

    fn path(&self, key: &str) -> String {
        match self.name.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.name),
        }
    }

    /// Notes every key that nobody asked for. To be called once all keys were asked for.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        if asked.is_empty() {
            return;
        }
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if asked.contains(name) {
                continue;
            }
            let place = match self.name.is_empty() {
                true => "at the top of the file".to_owned(),
                false => format!("in [{}]", self.name),
            };
            let line = Some(self.notes.line(key.span().start));
            let known: Vec<&str> = asked.iter().copied().collect();
            let hint = match nearest(name, &known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.notes.add(line, format!("unknown key {name} {place}; {hint}"));
        }
    }
}

fn whole(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    let digits = integer.as_str().replace('_', "");
    u64::from_str_radix(digits.trim_start_matches('+'), integer.radix()).ok()
}

/// A value as an error message shows it.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a section".to_owned(),
    }
}

/// The known word that a mistyped one was probably meant to be.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let scored = known.iter().map(|name| (strsim::jaro_winkler(word, name), *name));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score > 0.8).map(|(_, name)| name)
}
