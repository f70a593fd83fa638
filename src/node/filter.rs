//! mysqlbinlog's text, so that several of them can be put together and applied in one session.
//!
//! A server's start, as mysqlbinlog writes it, begins with `ROLLBACK`, and each text ends with one:
//! within a transaction that goes on in the next text they would throw it away. They become
//! comments, and so do descriptions of the format after the first one if they say the same. Looked at
//! are only lines at places that mysqlbinlog itself writes, behind its own comments: a row that says
//! ROLLBACK stays as it is.

use std::io::{self, BufRead, Write};

/// How mysqlbinlog announces that a server started.
const START: &[u8] = b"Start: binlog v";
const ROLLBACK: &[u8] = b"ROLLBACK/*!*/;";
const DESCRIPTION: &[u8] = b"BINLOG '";
const END_OF_DESCRIPTION: &[u8] = b"'/*!*/;";
/// The last lines of each text.
const TAIL: [&[u8]; 3] =
    [b"DELIMITER ;", b"# End of log file", b"ROLLBACK /* added by mysqlbinlog */;"];
/// A description is a few hundred bytes; more is something else.
const LARGEST_DESCRIPTION: usize = 64 << 10;

/// Where in a text we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Anywhere.
    Body,
    /// Right behind the announcement of a start.
    Start,
    /// So many lines of [`TAIL`] were just there.
    Tail(usize),
}

/// Copies a text, line by line, whatever bytes are in it.
///
/// # Errors
/// It cannot be read or written.
pub fn filter(mut from: impl BufRead, mut to: impl Write) -> io::Result<()> {
    let mut place = Place::Body;
    let mut first: Option<Vec<u8>> = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            return to.flush();
        }
        let text = line.trim_ascii_end();
        let next = match place {
            Place::Start if text.starts_with(b"#") => Place::Start,
            Place::Start if text == ROLLBACK => {
                to.write_all(b"# ")?;
                Place::Start
            }
            Place::Start if text.starts_with(DESCRIPTION) => {
                description(&mut from, &mut line, &mut first)?;
                Place::Body
            }
            Place::Tail(2) if text == TAIL[2] => {
                to.write_all(b"# ")?;
                Place::Body
            }
            Place::Tail(1) if text == TAIL[1] => Place::Tail(2),
            Place::Start | Place::Tail(_) | Place::Body => elsewhere(text),
        };
        to.write_all(&line)?;
        place = next;
    }
}

fn elsewhere(text: &[u8]) -> Place {
    let is_start = text.starts_with(b"#") && text.windows(START.len()).any(|part| part == START);
    match (is_start, text == TAIL[0]) {
        (true, _) => Place::Start,
        (false, true) => Place::Tail(1),
        (false, false) => Place::Body,
    }
}

/// Reads a description to its end, and makes it a comment if it is the first one again.
fn description(
    from: &mut impl BufRead,
    lines: &mut Vec<u8>,
    first: &mut Option<Vec<u8>>,
) -> io::Result<()> {
    let mut line = Vec::new();
    while line.trim_ascii_end() != END_OF_DESCRIPTION && lines.len() < LARGEST_DESCRIPTION {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        lines.extend(&line);
    }
    match first {
        Some(before) if before == lines => {
            let commented = lines.split_inclusive(|byte| *byte == b'\n');
            *lines = commented.flat_map(|line| [b"# ", line].concat()).collect();
        }
        Some(_) => {}
        None => *first = Some(lines.clone()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "DELIMITER /*!*/;\n# at 4\n#260101  0:00:00 server id 1  end_log_pos 127 \
                        CRC32 0x01 \tStart: binlog v 4, server v 9.7.4 created 260101  0:00:00 at \
                        startup\n# Warning: in use\n";
    const DESCRIPTION: &str = "BINLOG '\nAAAA\nBBBB\n'/*!*/;\n";
    const END: &str = "DELIMITER ;\n# End of log file\n";
    const LAST: &str = "/*!50003 SET COMPLETION_TYPE=@OLD_COMPLETION_TYPE*/;\n";

    fn filtered(text: &str) -> String {
        let mut out = Vec::new();
        filter(text.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rollbacks_of_mysqlbinlog_become_comments_and_rows_that_say_so_stay() {
        let rows = "INSERT INTO t VALUES ('\nROLLBACK/*!*/;\nROLLBACK /* added by mysqlbinlog \
                    */;\n')/*!*/;\nROLLBACK/*!*/;\n";
        let text = format!(
            "{HEAD}ROLLBACK/*!*/;\n{DESCRIPTION}{rows}{END}ROLLBACK /* added by mysqlbinlog \
             */;\n{LAST}"
        );
        let wanted = format!(
            "{HEAD}# ROLLBACK/*!*/;\n{DESCRIPTION}{rows}{END}# ROLLBACK /* added by mysqlbinlog \
             */;\n{LAST}"
        );
        assert_eq!(filtered(&text), wanted);
    }

    #[test]
    fn the_same_description_again_becomes_a_comment_and_another_one_stays() {
        let other = "BINLOG '\nCCCC\n'/*!*/;\n";
        let text = format!("{HEAD}{DESCRIPTION}{HEAD}{DESCRIPTION}{HEAD}{other}");
        let again = "# BINLOG '\n# AAAA\n# BBBB\n# '/*!*/;\n";
        assert_eq!(filtered(&text), format!("{HEAD}{DESCRIPTION}{HEAD}{again}{HEAD}{other}"));
    }

    #[test]
    fn bytes_that_are_no_text_and_a_text_without_an_end_pass() {
        let bytes = b"SET x = '\xff\xfe\0'\nno end";
        let mut out = Vec::new();
        filter(&bytes[..], &mut out).unwrap();
        assert_eq!(out, bytes);
        let cut = format!("{HEAD}BINLOG '\nAAAA\n");
        assert_eq!(filtered(&cut), cut);
    }
}
