//! Copies transactions out of a server's binary log files, before anything discards them.
//!
//! ```text
//!   DATA_DIR.extra/NAME/extra.sql        what mysql(1) can apply again
//!                       extra.rows.txt   the same, each row spelled out
//!                       binlog.000007    instead of both, where mysqlbinlog is not there or fails
//!                       SHA256SUMS
//! ```
//! A directory appears under its name once it is whole and on disk. Outside the data directory,
//! since a rebuilt server begins with an empty one.

use conclave_core::model::{GtidSet, Saved};

use super::command::quote;

const SAVE: &str = r#"
umask 077
fail() { echo "save: $*"; rm -rf -- "$partial"; exit 1; }
is_whole() { (cd -- "$1" 2>/dev/null && sha256sum -c --quiet SHA256SUMS >/dev/null 2>&1); }
told() {
  sum=$(sha256sum <"$dir/SHA256SUMS") && echo "$word ${sum%% *} $dir"
}
find_tool() {
  for path in /proc/[0-9]*; do
    read -r name 2>/dev/null <"$path/comm" || continue
    [ "$name" = mysqld ] && [ "$path/cwd" -ef "$data_dir" ] || continue
    exe=$(readlink "$path/exe") || continue
    for tool in "${exe%/*}/mysqlbinlog" "${exe%/*/*}/bin/mysqlbinlog"; do
      [ -x "$tool" ] && return 0
    done
  done
  tool=$(command -v mysqlbinlog)
}
decode() {
  find_tool || { echo "save: no mysqlbinlog here: the files are copied as they are"; return 1; }
  "$tool" --no-defaults --include-gtids="$extra" "$@" >"$partial/extra.sql" 2>"$partial/errors" &&
    "$tool" --no-defaults --include-gtids="$extra" --base64-output=DECODE-ROWS -vv "$@" \
      >"$partial/extra.rows.txt" 2>>"$partial/errors" || {
    echo "save: mysqlbinlog failed, the files are copied as they are: $(tail -n 2 "$partial/errors")"
    return 1
  }
  found=$(grep -c "^SET @@SESSION.GTID_NEXT= '[0-9a-f]" "$partial/extra.sql")
  [ "$found" = "$count" ] || {
    echo "save: mysqlbinlog found $found of $count, the files are copied as they are"
    return 1
  }
  rm -f -- "$partial/errors"
}
if is_whole "$dir"; then
  told
  exit
fi
[ "$#" -gt 0 ] || { echo "save: the binary logs do not hold them any more"; exit 1; }
for file in "$@"; do
  [ -r "$file" ] || { echo "save: $file is not there"; exit 1; }
done
rm -rf -- "$partial" "$dir"
mkdir -p -- "$partial" || exit 1
if ! decode "$@"; then
  rm -f -- "$partial/extra.sql" "$partial/extra.rows.txt" "$partial/errors"
  cp -- "$@" "$partial/" 2>&1 || fail "the copy failed; is the disk full?"
fi
(cd -- "$partial" && sha256sum -- * >SHA256SUMS) || fail "no checksums could be written"
sync -f "$partial" && mv -- "$partial" "$dir" && sync -f "$dir" || fail "it could not be put on disk"
is_whole "$dir" || fail "what is on disk is not what was written"
told
"#;

/// The body that runs inside the turnstile.
pub(super) fn script(data_dir: &str, name: &str, files: &[String], extra: &GtidSet) -> String {
    let data_dir = data_dir.trim_end_matches('/');
    let dir = format!("{data_dir}.extra/{name}");
    let words: Vec<String> = files.iter().map(|file| quote(file)).collect();
    format!(
        "data_dir={}\ndir={}\npartial={}\nextra={}\ncount={}\nword={}\nset -- {}\n{SAVE}",
        quote(data_dir),
        quote(&dir),
        quote(&format!("{dir}.partial")),
        quote(&extra.to_string()),
        extra.count(),
        Saved::WORD,
        words.join(" "),
    )
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use super::*;

    /// Runs it on this machine, with no mysqlbinlog in reach.
    fn run(dir: &Path, files: &[String]) -> (Option<i32>, String) {
        let extra = GtidSet::run("3e11fa47-71ca-11e1-9e33-c80aa9429562", 1, 3);
        let script = script(&dir.join("data").display().to_string(), "e1-4", files, &extra);
        let script = script.replace("command -v mysqlbinlog", "command -v mysqlbinlog.none");
        let output = Command::new("sh").args(["-c", &script]).output().expect("run sh");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn files(dir: &Path) -> Vec<String> {
        let data = dir.join("data");
        fs::create_dir_all(&data).unwrap();
        let of = |name: &str| {
            let path = data.join(name);
            fs::write(&path, name).unwrap();
            path.display().to_string()
        };
        vec![of("bin log.1"), of("binlog.2")]
    }

    #[test]
    fn files_are_copied_beside_the_data_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let (status, first) = run(dir.path(), &files);
        assert_eq!(status, Some(0), "{first}");
        let saved = Saved::of(&first).expect("it says so");
        assert_eq!(saved.path, dir.path().join("data.extra/e1-4").display().to_string());
        for file in &files {
            let name = Path::new(file).file_name().unwrap();
            assert_eq!(
                fs::read(Path::new(&saved.path).join(name)).unwrap(),
                fs::read(file).unwrap()
            );
        }
        // The logs are gone, the copy is whole.
        files.iter().for_each(|file| fs::remove_file(file).unwrap());
        let (status, again) = run(dir.path(), &files);
        assert_eq!((status, Saved::of(&again)), (Some(0), Some(saved.clone())));
        // The copy is damaged, and cannot be made again.
        fs::write(Path::new(&saved.path).join("binlog.2"), "x").unwrap();
        let (status, said) = run(dir.path(), &files);
        assert_eq!((status, Saved::of(&said)), (Some(1), None));
    }

    #[test]
    fn without_files_or_room_nothing_is_said_to_be_saved() {
        let dir = tempfile::tempdir().unwrap();
        let (status, said) = run(dir.path(), &[]);
        assert_eq!((status, Saved::of(&said)), (Some(1), None));
        let files = files(dir.path());
        fs::write(dir.path().join("data.extra"), "in the way").unwrap();
        let (status, said) = run(dir.path(), &files);
        assert_eq!((status, Saved::of(&said)), (Some(1), None));
    }
}
