//! Looking at a server: one round trip for everything, in most cases.

use std::str::FromStr;

use conclave_core::{
    model::{Boot, Micros, Mono, ServerFacts},
    ports::Clock,
};
use mysql_async::{Row, Value};

use super::{dialect::Dialect, fault::Fault, wire::Wire};
use crate::adapters::clock::SystemClock;

/// The server's error for a variable it does not know.
const UNKNOWN_VARIABLE: u16 = 1193;

/// Which semi-sync plugins a server has: their variables cannot be asked for without them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Plugins {
    pub(super) source: bool,
    pub(super) replica: bool,
}

/// How much a look asks for beyond what every decision needs: who is connected takes privileges
/// that an account may lack, and the next start changes seldom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wide {
    No,
    Inbound,
    InboundAndBoot,
}

/// What a server says about its next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Comeback {
    pub(super) boot: Boot,
    /// `skip_replica_start`, if it is persisted.
    pub(super) skips_start: Option<bool>,
}

/// How long an answer about the next start is good for.
const COMEBACK_AGE: Micros = Micros(5_000_000);

/// What a connection has learnt about its server, so that the next look asks right away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Eye {
    plugins: Option<Plugins>,
    /// The account lacks the privileges for a wide look.
    is_narrow: bool,
    comeback: Option<(Mono, Comeback)>,
}

/// What a reply lacks or holds against the rules.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Odd(pub(super) String);

impl Eye {
    /// Looks. The first look at a server takes another round trip if it lacks a plugin.
    pub(super) async fn look(
        &mut self,
        wire: &mut Wire,
        deadline: Mono,
    ) -> Result<ServerFacts, Fault> {
        let dialect = Dialect::of(wire.version()).map_err(Fault::Local)?;
        let all = Plugins { source: true, replica: true };
        let mut plugins = self.plugins.unwrap_or(all);
        // Plugins can be loaded and unloaded between and during looks; four times they are not.
        for _ in 0..4 {
            let now = SystemClock.now();
            let known = self.comeback.filter(|(at, _)| now.since(*at) < COMEBACK_AGE);
            let wide = match (self.is_narrow, known) {
                (true, _) => Wide::No,
                (false, Some(_)) => Wide::Inbound,
                (false, None) => Wide::InboundAndBoot,
            };
            let sets = match wire.run(&dialect.look(plugins, wide), deadline).await {
                Err(fault) if fault.is_denial() && wide != Wide::No => {
                    self.is_narrow = true;
                    continue;
                }
                Err(fault)
                    if fault.code() == Some(UNKNOWN_VARIABLE) && plugins != Plugins::default() =>
                {
                    plugins = Plugins::default();
                    continue;
                }
                other => other?,
            };
            let there = dialect.plugins(&sets).map_err(odd)?;
            if there == plugins {
                self.plugins = Some(plugins);
                let comeback = dialect.comeback(&sets).map_err(odd)?;
                self.comeback = comeback.map(|comeback| (now, comeback)).or(known);
                let known = known.map(|(_, comeback)| comeback);
                return dialect.facts(&sets, plugins, known).map_err(odd);
            }
            plugins = there;
        }
        Err(Fault::Local("its semi-sync plugins came and went during the look".into()))
    }
}

impl Eye {
    /// Something was set for the next start: it is asked for anew.
    pub(super) fn forget_comeback(&mut self) {
        self.comeback = None;
    }
}

fn odd(odd: Odd) -> Fault {
    Fault::Odd(odd.0)
}

/// A row, by column names; values as the text protocol sends them.
pub(super) struct Named<'a>(pub(super) &'a Row);

impl Named<'_> {
    /// A value that may be NULL.
    pub(super) fn maybe(&self, column: &str) -> Result<Option<String>, Odd> {
        let found = self.0.columns_ref().iter().position(|found| found.name_str() == column);
        let value = found.and_then(|index| self.0.as_ref(index));
        match value {
            None => Err(Odd(format!("its reply lacks column {column}"))),
            Some(Value::NULL) => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(String::from_utf8_lossy(bytes).into_owned())),
            Some(_) => Err(Odd(format!("column {column} came in binary form"))),
        }
    }

    /// A value; NULL is the empty text.
    pub(super) fn text(&self, column: &str) -> Result<String, Odd> {
        Ok(self.maybe(column)?.unwrap_or_default())
    }

    /// A value of a type that is read from text.
    pub(super) fn value<T: FromStr>(&self, column: &str) -> Result<T, Odd> {
        parse(column, &self.text(column)?)
    }

    /// `1`, `ON` or `Yes` in any case; everything else is no.
    pub(super) fn flag(&self, column: &str) -> Result<bool, Odd> {
        let text = self.text(column)?;
        Ok(["1", "ON", "YES"].iter().any(|yes| text.eq_ignore_ascii_case(yes)))
    }
}

pub(super) fn parse<T: FromStr>(name: &str, text: &str) -> Result<T, Odd> {
    let wanted = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
    text.parse().map_err(|_| Odd(format!("{name} is {text:?}: wanted {wanted}")))
}
