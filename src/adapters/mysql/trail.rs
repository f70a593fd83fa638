//! Reads a server's own logs over SQL: which binary log files hold what was asked for, how each
//! file ends, and what the error log says of the server's life. A few statements per file, whatever
//! its size.

use conclave_core::model::{FileEnd, GtidSet, LogFile, Mono, Trail};

use super::{
    dialect::{Dialect, Listed},
    fault::Fault,
    read::Odd,
    wire::Wire,
};

/// Files read at most, from the newest back.
const FILES: usize = 64;

/// Bytes of a stop event, and of a rotate event but for the next file's name; four more with a
/// checksum.
/// **Source:** MySQL internals manual, "Binary Log Event".
const STOP: u64 = 19;
const ROTATE: u64 = 27;
const CHECKSUM: u64 = 4;

/// The server says that no event begins there.
const NO_EVENT: u16 = 1220;

pub(super) async fn read(
    wire: &mut Wire,
    dialect: Dialect,
    wanted: &GtidSet,
    deadline: Mono,
) -> Result<Trail, Fault> {
    let sets = wire.run(dialect.list_logs(), deadline).await?;
    let (listed, is_readable) = dialect.listed_logs(&sets).map_err(odd)?;
    let mut files = Vec::new();
    let mut next: Option<&Listed> = None;
    let mut has_enough = false;
    for file in listed.iter().rev().take(FILES) {
        let sets = wire.run(&dialect.log_head(&file.name), deadline).await?;
        let previous = dialect.previous(&sets).map_err(odd)?;
        let end = match next {
            None => FileEnd::Current,
            Some(next) => end_of(wire, dialect, (file, next), deadline).await?,
        };
        // The file before the first one that holds some tells whether it is of the same run.
        let is_last = has_enough;
        has_enough = previous.common(wanted).is_empty();
        files.push(LogFile { path: file.path.clone(), previous, end });
        if is_last {
            break;
        }
        next = Some(file);
    }
    files.reverse();
    let marks = match is_readable {
        false => None,
        true => {
            let sets = wire.run(dialect.log_marks(), deadline).await?;
            let marks = dialect.marks(&sets).map_err(odd)?;
            (!marks.is_empty()).then_some(marks)
        }
    };
    Ok(Trail { files, marks })
}

/// How a file ends that another one follows.
async fn end_of(
    wire: &mut Wire,
    dialect: Dialect,
    (file, next): (&Listed, &Listed),
    deadline: Mono,
) -> Result<FileEnd, Fault> {
    let rotate = ROTATE + next.name.len() as u64;
    let ends = [(STOP, "Stop", FileEnd::Stopped), (rotate, "Rotate", FileEnd::Rotated)];
    for (bytes, kind, end) in ends {
        for bytes in [bytes + CHECKSUM, bytes] {
            let Some(at) = file.size.checked_sub(bytes) else { continue };
            match wire.run(&dialect.event_at(&file.name, at), deadline).await {
                Ok(sets) => {
                    let found = dialect.last_event(&sets, file.size).map_err(odd)?;
                    if found.as_deref() == Some(kind) {
                        return Ok(end);
                    }
                }
                Err(fault) if fault.code() == Some(NO_EVENT) => {}
                Err(fault) => return Err(fault),
            }
        }
    }
    Ok(FileEnd::Torn)
}

fn odd(odd: Odd) -> Fault {
    Fault::Odd(odd.0)
}
