//! What servers lack, and what cures it.

use super::{Paint, wrap};
use crate::api::document::{HardenDocument, HardenServer, NeedDocument};

/// Server by server, then what is to be kept in files.
pub fn harden(found: &HardenDocument, was_applied: bool, paint: Paint) -> String {
    let mut out = format!("{}   mode {}\n\n", paint.strong(&found.cluster), found.mode);
    if found.mode != "quorum" {
        out += "only mode quorum rests on settings of the servers; nothing is looked at\n";
        return out;
    }
    for server in &found.servers {
        out += &one(server, paint);
    }
    out += &match (found.missing, found.applicable, was_applied) {
        (0, _, _) => paint.good("Nothing is missing, as far as the servers tell"),
        (_, 0, _) => paint.odd("What is left is yours to do: the statements are above"),
        (_, _, true) => paint.odd("Not all could be set: see above"),
        (_, _, false) => {
            let name = &found.cluster;
            paint.odd(&format!("conclave cluster harden {name} --apply sets what is marked with *"))
        }
    };
    out += "\n\nTo be kept in every server's my.cnf, as any may become primary (nobody can look there):\n";
    for line in &found.my_cnf {
        out += &format!("  {line}\n");
    }
    out += "\nand in its service unit (systemctl edit; an orderly stop of an isolated primary would \
            answer\nOK to clients whose writes no replica has):\n";
    for line in &found.unit {
        out += &format!("  {line}\n");
    }
    out
}

fn one(server: &HardenServer, paint: Paint) -> String {
    let role = if server.is_primary { "primary" } else { "replica" };
    let mut out = format!("{}  {role}\n", paint.strong(&server.name));
    if !server.is_reached {
        out += &format!("    {}\n", paint.bad("not reached: nobody can tell"));
    } else if server.missing.is_empty() {
        out += &format!("    {}\n", paint.good("nothing is missing"));
    }
    for need in &server.missing {
        out += &shown(need, paint);
    }
    if let Some(step) = &server.step {
        let why = step.runs.last().map_or("", |run| run.evidence.as_str());
        let text = format!("{} ({}) {why}", step.sentence, step.state);
        out += &wrap("    last step: ", 6, text.trim_end());
    }
    out + "\n"
}

fn shown(need: &NeedDocument, paint: Paint) -> String {
    let mark = if need.is_applicable { "*" } else { " " };
    let doubt = match need.is_certain {
        true => "",
        false => " (cannot be told: it was changed at run time and is not persisted)",
    };
    let mut out = wrap(&format!("  {mark} "), 4, &format!("{}{doubt}", need.what));
    for line in &need.lines {
        out += &format!("      {}\n", paint.faint(line));
    }
    out
}
