//! Files of events, applied to this host's server by its own programs.
//!
//! ```text
//!   files -> one file, verified -> mysqlbinlog | mysql -> server
//! ```
//! Both programs' ends are seen, and what they complain of: mysqlbinlog ends with success behind a
//! torn end. With GTIDs, applying again what is there already changes nothing.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use mysql_async::{Conn, prelude::Queryable};
use thiserror::Error;

use super::{
    disk::{Disk, DiskError, NewFile, io_error},
    login::Login,
    save,
    tool::{self, ToolError},
};
use crate::binlog::{Chain, Family, FileFault, LogFile, Selection, Sink, Span, head};

/// The most of what a program complained of that is shown.
const COMPLAINT: usize = 4096;
/// The server has no such variable.
const UNKNOWN_VARIABLE: u16 = 1193;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Apply {
    /// How to log in.
    pub login: Login,
    /// Where the programs are; `None`: on the path.
    pub bindir: Option<PathBuf>,
    /// Where the one file is made.
    pub workdir: PathBuf,
    /// Apply without writing the binary log.
    pub disable_log_bin: bool,
}

/// Why it was not applied, or not all of it.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file is no file of events, or damaged. Nothing was applied.
    #[error(transparent)]
    Log(#[from] FileFault),
    /// A program is missing. Nothing was applied.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Files of two families. Nothing was applied.
    #[error("wanted files of one family of servers, found MySQL's and MariaDB's")]
    Mixed,
    /// The server. Nothing was applied.
    #[error("{what}: {cause}")]
    Sql {
        /// What was tried.
        what: &'static str,
        /// What it said.
        cause: mysql_async::Error,
    },
    /// A program failed: a part may have been applied. The file is kept.
    #[error("{what}; the events are kept in {}", file.display())]
    Failed {
        /// Which, and what it complained of.
        what: String,
        /// The events.
        file: PathBuf,
    },
    /// It was applied, and the server was left open.
    #[error("super_read_only is OFF and should be ON: {cause}")]
    LeftOpen {
        /// Why.
        cause: mysql_async::Error,
    },
}

impl Apply {
    /// Puts the files together and applies them; the file is kept if that fails. Returns its size;
    /// 0: there was nothing.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub async fn run(&self, files: &[PathBuf], name: &str) -> Result<u64, ApplyError> {
        let to = self.workdir.join(name);
        let Some((family, bytes)) = self.put_together(files, &to).await? else { return Ok(0) };
        let programs = (
            tool::binlog_tool(self.bindir.as_deref(), family)?,
            tool::client(self.bindir.as_deref(), family)?,
        );
        let was_closed = self.open_server().await?;
        let applied = self.pipe(&programs.0, &programs.1, &to).await;
        if was_closed {
            self.close_server().await?;
        }
        applied?;
        fs::remove_file(&to)
            .map_err(|cause| io_error(format!("remove {}", to.display()), cause))?;
        Ok(bytes)
    }

    /// One verified file of several. `None`: none of them has an event.
    ///
    /// # Errors
    /// One is no file of events, is damaged, or of another family.
    pub async fn put_together(
        &self,
        files: &[PathBuf],
        to: &Path,
    ) -> Result<Option<(Family, u64)>, ApplyError> {
        let disk = Disk::new("");
        let mut chain = Chain::default();
        let mut all = Selection::default();
        for path in files {
            let what = || format!("look at {}", path.display());
            let len = fs::metadata(path).map_err(|cause| io_error(what(), cause))?.len();
            let file = LogFile { name: path.display().to_string(), len };
            let head = head(&disk, &file).await?;
            if head.end < len {
                let (file, format) = (chain.files.len(), all.formats.len());
                all.spans.push(Span { file, format, begin: head.end, end: len });
                all.formats.push(head.format);
            }
            chain.files.push(file);
        }
        let mut families = all.formats.iter().map(|format| format.family);
        let Some(family) = families.next() else { return Ok(None) };
        if families.any(|other| other != family) {
            return Err(ApplyError::Mixed);
        }
        let mut file = NewFile::begin(to)?;
        let bytes = save::write(&disk, &chain, &all, &mut file).await?;
        file.finish()?;
        Ok(Some((family, bytes)))
    }

    async fn connect(&self) -> Result<Conn, ApplyError> {
        let opened = Conn::new(self.login.options()).await;
        opened.map_err(|cause| ApplyError::Sql { what: "connect", cause })
    }

    /// Lets privileged sessions write, and tells whether they could not before.
    async fn open_server(&self) -> Result<bool, ApplyError> {
        let mut conn = self.connect().await?;
        let sql = |what| move |cause| ApplyError::Sql { what, cause };
        let is_closed = match conn.query_first("SELECT @@GLOBAL.super_read_only").await {
            Ok(value) => value.unwrap_or(false),
            Err(mysql_async::Error::Server(error)) if error.code == UNKNOWN_VARIABLE => false,
            Err(cause) => return Err(sql("read super_read_only")(cause)),
        };
        if is_closed {
            let set = conn.query_drop("SET GLOBAL super_read_only = OFF").await;
            set.map_err(sql("switch super_read_only off"))?;
        }
        conn.disconnect().await.map_err(sql("log out"))?;
        Ok(is_closed)
    }

    async fn close_server(&self) -> Result<(), ApplyError> {
        let mut conn = self.connect().await?;
        let set = conn.query_drop("SET GLOBAL super_read_only = ON").await;
        set.map_err(|cause| ApplyError::LeftOpen { cause })
    }

    async fn pipe(&self, reader: &Path, client: &Path, events: &Path) -> Result<(), ApplyError> {
        let failed = |what: String| ApplyError::Failed { what, file: events.into() };
        // The password goes to nobody's list of processes.
        let options = events.with_extension("cnf");
        let mut section = NewFile::begin(&options)?;
        section.write(self.login.section().as_bytes()).await.map_err(failed)?;
        let mut reading = Command::new(reader);
        reading.arg("--no-defaults").args(self.disable_log_bin.then_some("--disable-log-bin"));
        reading.arg(events).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let cannot = |path: &Path, error| failed(format!("run {}: {error}", path.display()));
        let mut reading = reading.spawn().map_err(|error| cannot(reader, error))?;
        let text = reading.stdout.take().map_or_else(Stdio::null, Stdio::from);
        let mut applying = Command::new(client);
        applying.arg(format!("--defaults-file={}", section.part().display()));
        applying.args(["--binary-mode", "--unbuffered", "--max-allowed-packet=1G"]);
        applying.stdin(text).stdout(Stdio::null()).stderr(Stdio::piped());
        let applying = applying.spawn();
        if applying.is_err() {
            let _ = reading.kill();
        }
        let applying = applying.map_err(|error| cannot(client, error));
        let (reading, applying) = match applying {
            Ok(applying) => (reading, applying),
            Err(error) => {
                let _ = reading.wait();
                return Err(error);
            }
        };
        // Each complains into its own pipe; whoever is not heard stands still.
        let ended = std::thread::scope(|scope| {
            let other = scope.spawn(|| hear(client, applying));
            let one = hear(reader, reading);
            [Ok(one), other.join()]
        });
        let mut complaints = Vec::new();
        for ended in ended {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(complaint)) => complaints.push(complaint),
                Err(_) => complaints.push("a listener panicked".into()),
            }
        }
        match complaints.is_empty() {
            true => Ok(()),
            false => Err(failed(complaints.join("; "))),
        }
    }
}

/// Waits for a program's end, and takes what it complains of for a failure.
fn hear(program: &Path, mut child: Child) -> Result<(), String> {
    let mut said = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_end(&mut said);
    }
    let said = String::from_utf8_lossy(&said);
    let ended = child.wait().map_err(|error| format!("wait for {}: {error}", program.display()))?;
    let is_odd =
        |line: &str| line.starts_with("ERROR") || line.to_uppercase().starts_with("WARNING");
    // One that was told to stop by the other's end has nothing of its own to say.
    if ended.success() && !said.lines().any(is_odd) {
        return Ok(());
    }
    let from = said.len().saturating_sub(COMPLAINT);
    let tail = said.get(from..).unwrap_or(&said).trim();
    Err(format!("{} ended with {ended}: {tail}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/binlog").join(name)
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn apply(workdir: &Path) -> Apply {
        Apply {
            login: Login::default(),
            bindir: None,
            workdir: workdir.into(),
            disable_log_bin: false,
        }
    }

    #[test]
    fn files_become_one_with_one_head() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("all");
        let files =
            [golden("mysql97-source-binlog.000001"), golden("mysql97-source-binlog.000002")];
        let (family, bytes) = now(apply(dir.path()).put_together(&files, &to)).unwrap().unwrap();
        assert_eq!(family, Family::MySql);
        let made = fs::read(&to).unwrap();
        let bodies = files.map(|file| fs::read(file).unwrap());
        assert_eq!(made[127..], [&bodies[0][158..], &bodies[1][199..]].concat());
        assert_eq!(made.len() as u64, bytes);
    }

    #[test]
    fn a_torn_file_and_one_of_another_family_are_refused_before_anything_is_applied() {
        let dir = tempfile::tempdir().unwrap();
        let torn = dir.path().join("torn");
        fs::write(&torn, &fs::read(golden("mysql97.000002")).unwrap()[..700]).unwrap();
        let to = dir.path().join("all");
        let put = |files: &[PathBuf]| now(apply(dir.path()).put_together(files, &to));
        assert!(matches!(put(&[torn]), Err(ApplyError::Log(_))));
        let mixed = [golden("mysql97.000001"), golden("mariadb.000001")];
        assert!(matches!(put(&mixed), Err(ApplyError::Mixed)));
        assert!(matches!(put(&[dir.path().join("none")]), Err(ApplyError::Disk(_))));
        assert!(!to.exists());
    }

    #[test]
    fn a_program_that_complains_has_failed_whatever_it_ends_with() {
        let run = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]).stderr(Stdio::piped());
            hear(Path::new("sh"), command.spawn().unwrap())
        };
        assert_eq!(run("true"), Ok(()));
        assert_eq!(run("echo a note >&2"), Ok(()));
        assert!(run("exit 3").is_err());
        let torn = run("echo 'WARNING: The range of printed events does not end with' >&2");
        assert!(torn.unwrap_err().contains("does not end with"));
    }
}
