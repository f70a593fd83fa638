//! What people read: documents as text, for 100 columns at 3 a.m. Pure; colour is an argument.

mod explain;
mod harden;
mod report;
mod status;

use std::io::{IsTerminal, stdout};

pub use explain::{code, codes, explain, plan};
pub use harden::harden;
pub use report::report;
pub use status::{list, one_step as step, rejoin, status};

use crate::api::{document::ReasonDocument, pb::End};

/// Width that texts are wrapped to, in columns.
const WIDTH: usize = 100;

/// Whether there is colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Escape sequences.
    Colour,
    /// None.
    Plain,
}

impl Paint {
    /// Colour on a terminal, unless `NO_COLOR` is set.
    pub fn of_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if wanted && stdout().is_terminal() { Self::Colour } else { Self::Plain }
    }

    fn dress(self, code: &str, text: &str) -> String {
        match self {
            Self::Colour => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }

    fn good(self, text: &str) -> String {
        self.dress("32", text)
    }

    fn odd(self, text: &str) -> String {
        self.dress("33", text)
    }

    fn bad(self, text: &str) -> String {
        self.dress("1;31", text)
    }

    fn strong(self, text: &str) -> String {
        self.dress("1", text)
    }

    fn faint(self, text: &str) -> String {
        self.dress("2", text)
    }
}

/// One line of progress.
pub fn progress(sentence: &str, at_us: Option<u64>, end: End, paint: Paint) -> String {
    let at = at_us.map_or_else(String::new, |us| ms(i64::try_from(us).unwrap_or(i64::MAX)));
    let text = match end {
        End::Unspecified => sentence.to_owned(),
        End::Promoted => paint.good(sentence),
        End::Refused | End::Aborted | End::Superseded => paint.bad(sentence),
    };
    format!("{} {text}", paint.faint(&format!("{at:>10}")))
}

/// A length of time as `12 ms` or `1.20 s`; before zero with its sign.
fn ms(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let us = us.unsigned_abs();
    match us {
        0 => "0 ms".into(),
        1..10_000 => format!("{sign}{:.1} ms", us as f64 / 1e3),
        10_000..10_000_000 => format!("{sign}{} ms", us / 1000),
        10_000_000.. => format!("{sign}{:.1} s", us as f64 / 1e6),
    }
}

/// An age, for a bracket.
fn ago(us: u64) -> String {
    format!("{} ago", conclave_core::model::Micros(us))
}

/// Milliseconds since 1970 as date and time in UTC.
pub(crate) fn utc(wall_ms: u64) -> String {
    let seconds = wall_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, so that a leap day ends a year. Source: the proleptic Gregorian
    // calendar repeats every 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day + 2) / 153;
    let (date, month) = (day - (153 * shifted + 2) / 5 + 1, shifted % 12 + 3);
    let month = if month > 12 { month - 12 } else { month };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Breaks a text at spaces: the first line is put after `first`, the others are indented by
/// `indent` columns. Ends with a line feed.
fn wrap(first: &str, indent: usize, text: &str) -> String {
    let mut out = first.to_owned();
    let mut column = width_of(first);
    let mut is_begun = false;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if is_begun && column + 1 + width > WIDTH {
            out += "\n";
            out += &" ".repeat(indent);
            column = indent;
        } else if is_begun {
            out += " ";
            column += 1;
        }
        out += word;
        column += width;
        is_begun = true;
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

/// A reason and its remedy, each on its own lines; `mark` stands in front.
fn reason(indent: usize, mark: &str, reason: &ReasonDocument) -> String {
    let pad = " ".repeat(indent);
    let text = format!("{}: {}", reason.code, reason.sentence);
    let mut out = wrap(&format!("{pad}{mark}"), indent + 4, &text);
    if !reason.remedy.is_empty() {
        out += &wrap(&format!("{pad}    remedy: "), indent + 12, &reason.remedy);
    }
    out
}

/// Rows with their columns aligned and two spaces between; no spaces at the ends of lines.
fn columns(indent: usize, rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let mut out = " ".repeat(indent);
        for (cell, width) in row.iter().zip(&widths).filter(|(_, width)| **width > 0) {
            out += cell;
            out += &" ".repeat(width - cell.chars().count() + 2);
        }
        let end = out.trim_end().len();
        out.truncate(end);
        out
    };
    rows.iter().map(line).collect()
}

/// Columns that a text takes: colours take none.
fn width_of(text: &str) -> usize {
    let mut is_escape = false;
    let is_seen = |c: &char| {
        let was_escape = is_escape;
        is_escape = *c == '\x1b' || (is_escape && *c != 'm');
        !(was_escape || is_escape)
    };
    text.chars().filter(is_seen).count()
}

/// Cuts a text to a number of columns.
fn cut(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(2)).chain("..".chars()).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
