//! Puts an uploaded file where a server looks for the relay log of the channel for rescued
//! transactions, and keeps a copy of it (a hard link) in case it cannot be applied.
//!
//! ```text
//!   RELAY-conclave_rescue.index        names the one file
//!   RELAY-conclave_rescue.000001       what is to be applied; removed by RESET REPLICA ALL
//!   conclave-rescue.eEPOCH-STEP.SUM    the copy
//! ```

use super::command::quote;
use crate::adapters::mysql::RESCUE_CHANNEL;

const PUT: &str = r#"
fail() { echo "rescue: $*"; rm -f -- "$upload"; exit 1; }
if [ -f "$upload" ]; then
  found=$(sha256sum <"$upload") || fail "$upload cannot be read"
  [ "${found%% *}" = "$sum" ] || fail "$upload is damaged: wanted sha256 $sum, found ${found%% *}"
  chown --reference="$dir" -- "$upload" && chmod 640 -- "$upload" || fail "no owner could be set"
  sync "$upload" && mv -f -- "$upload" "$kept" || fail "it could not be put on disk"
fi
found=$(sha256sum <"$kept") || fail "$kept cannot be read"
[ "${found%% *}" = "$sum" ] || fail "$kept is damaged: wanted sha256 $sum, found ${found%% *}"
rm -f -- "$channel".[0-9]* "$channel.index"
ln -- "$kept" "$channel.000001" || cp -p -- "$kept" "$channel.000001" || fail "is the disk full?"
printf '%s\n' "$channel.000001" >"$channel.index" || fail "is the disk full?"
chown --reference="$dir" -- "$channel.index" && chmod 640 -- "$channel.index" ||
  fail "no owner could be set"
sync "$channel.index" && sync "$dir" || fail "it could not be put on disk"
echo "rescue: put as $channel.000001"
"#;

const DROP: &str = r#"
rm -f -- "$prefix".* || exit 1
echo "rescue: $prefix is removed"
"#;

/// The body that runs inside the turnstile.
pub(super) fn put(upload: &str, sum: &str, relay_log: &str, kept: &str) -> String {
    let dir = relay_log.rsplit_once('/').map_or(".", |(dir, _)| dir);
    format!(
        "upload={}\nsum={}\nkept={}\ndir={}\nchannel={}\n{PUT}",
        quote(upload),
        quote(sum),
        quote(kept),
        quote(dir),
        quote(&format!("{relay_log}-{RESCUE_CHANNEL}")),
    )
}

/// The body that runs inside the turnstile.
pub(super) fn drop_kept(prefix: &str) -> String {
    format!("prefix={}\n{DROP}", quote(prefix))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use super::*;

    fn run(script: &str) -> (Option<i32>, String) {
        let output = Command::new("sh").args(["-c", script]).output().expect("run sh");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn put_in(dir: &Path, sum: &str) -> (Option<i32>, String) {
        let of = |name: &str| dir.join(name).display().to_string();
        run(&put(&of("up load"), sum, &of("relay"), &of("kept.e1-4.abc")))
    }

    const SUM: &str = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";

    #[test]
    fn whole_upload_is_put_under_the_channels_name_and_kept_and_can_be_put_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("up load"), "x").unwrap();
        fs::write(dir.path().join("relay-conclave_rescue.000007"), "of an earlier one").unwrap();
        for _ in 0..2 {
            let (status, said) = put_in(dir.path(), SUM);
            assert_eq!(status, Some(0), "{said}");
            let mut names: Vec<String> = fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            let expected =
                ["kept.e1-4.abc", "relay-conclave_rescue.000001", "relay-conclave_rescue.index"];
            assert_eq!(names, expected);
            let index = fs::read_to_string(dir.path().join(expected[2])).unwrap();
            assert_eq!(index, format!("{}\n", dir.path().join(expected[1]).display()));
            assert_eq!(fs::read(dir.path().join(expected[1])).unwrap(), b"x");
        }
        let prefix = dir.path().join("kept.e1-4").display().to_string();
        assert_eq!(run(&drop_kept(&prefix)).0, Some(0));
        assert!(!dir.path().join("kept.e1-4.abc").exists());
        assert!(dir.path().join("relay-conclave_rescue.000001").exists());
    }

    #[test]
    fn damaged_or_missing_upload_is_not_put() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("up load"), "y").unwrap();
        for _ in 0..2 {
            let (status, said) = put_in(dir.path(), SUM);
            assert_eq!(status, Some(1), "{said}");
            assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing is left: {said}");
        }
    }
}
