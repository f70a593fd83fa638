//! The turnstile on a database host: only the newest actor gets through (SAFETY invariant 6).
//!
//! ```text
//!   too long on its way? refused
//!   lock the file -> our (epoch, term, sequence) lower than the highest seen? refused
//!                 -> write ours, fsync -> run the command under `timeout` -> log a line -> unlock
//! ```
//! `conclave turnstile` does it where it is installed (`crate::turnstile`); else this shell script, so
//! that nothing has to be, over the same files. The lock is held while the command runs:
//! commands of one cluster follow each other on a host, and a stale one that waits at the lock is
//! refused once it gets it. What was on its way for long, in a stopped manager or in the buffers of a
//! cut line, is refused by the host's own clock: nobody newer may have come by to leave a token.

use std::time::Duration;

use conclave_core::model::{ClusterName, Token};

use super::command::quote;
use crate::turnstile::{BUSY, LOG_BYTES, PROTOCOL, SUPERSEDED, UNUSABLE};

const SCRIPT: &str = r#"
main() {
  trap '' HUP PIPE
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
  LC_ALL=C
  export PATH LC_ALL
  umask 077
  dir=/var/lib/conclave
  if ! { [ -d "$dir" ] || mkdir -p "$dir" 2>/dev/null; } || [ ! -w "$dir" ]; then
    dir=/run/conclave
    if ! { [ -d "$dir" ] || mkdir -p "$dir"; } || [ ! -w "$dir" ]; then
      echo "turnstile: cannot write to /var/lib/conclave nor to $dir"
      exit "$unusable"
    fi
  fi
  if [ -z "${ready:-}" ]; then
    if conclave turnstile --protocol "$protocol" --is-ready 2>/dev/null; then ready=yes; else ready=no; fi
  fi
  if [ "$ready" = yes ]; then
    exec conclave turnstile --protocol "$protocol" --dir "$dir" --cluster "$cluster" \
      --token "$epoch:$term:$seq" --what "$what" --limit-cs "$limit_cs" \
      --start-by-cs "$start_by_cs" --body "$body"
  fi
  file=$dir/turnstile.$cluster
  command -v flock >/dev/null 2>&1 && command -v timeout >/dev/null 2>&1 || {
    echo "turnstile: flock (util-linux) and timeout (coreutils) are needed on this host"
    exit "$unusable"
  }
  exec 9>>"$file.lock" || exit "$unusable"
  uptime
  end=$((uptime + limit_cs))
  [ "$uptime" -lt "$start_by_cs" ] || {
    echo "turnstile: it comes too late, refused"
    log late
    exit "$busy"
  }
  flock -w "$((limit_cs / 100)).$((limit_cs / 10 % 10))" 9 || {
    echo "turnstile: another command held it all the time"
    exit "$busy"
  }
  seen_epoch=0 seen_term=0 seen_seq=0
  if [ -s "$file" ]; then
    read -r seen_epoch seen_term seen_seq <"$file"
    case $seen_epoch.$seen_term.$seen_seq in *[!0-9.]*|.*|*..*|*.)
      echo "turnstile: $file is damaged; remove it only if no other manager acts on this host"
      exit "$unusable" ;;
    esac
  fi
  if is_lower; then
    echo "turnstile: $epoch:$term:$seq is lower than $seen_epoch:$seen_term:$seen_seq (of $file;" \
      "remove it if the managers' group was formed anew since), refused"
    log refused
    exit "$superseded"
  fi
  if [ "$epoch $term $seq" != "$seen_epoch $seen_term $seen_seq" ]; then
    printf '%s %s %s\n' "$epoch" "$term" "$seq" >"$file.new" && sync "$file.new" &&
      mv -f "$file.new" "$file" && sync "$dir" || {
      echo "turnstile: cannot write $file"
      exit "$unusable"
    }
  fi
  uptime
  left=$((end - uptime))
  [ "$left" -gt 0 ] || {
    echo "turnstile: no time is left for the command"
    exit "$busy"
  }
  timeout -k 1 "$((left / 100)).$((left / 10 % 10))$((left % 10))" sh -c "$body" </dev/null
  status=$?
  log "$status"
  exit "$status"
}
uptime() { # in hundredths of a second
  read -r uptime _ </proc/uptime
  uptime=${uptime%.*}${uptime#*.}
  uptime=${uptime#0}
}
is_lower() {
  [ "$epoch" -lt "$seen_epoch" ] && return 0
  [ "$epoch" -gt "$seen_epoch" ] && return 1
  [ "$term" -lt "$seen_term" ] && return 0
  [ "$term" -gt "$seen_term" ] && return 1
  [ "$seq" -lt "$seen_seq" ]
}
log() {
  entry="$(date -u +%FT%TZ) $epoch:$term:$seq $what: $1"
  printf '%s\n' "$entry" >>"$file.log"
  if [ -n "$(find "$file.log" -size "+${log_bytes}c" 2>/dev/null)" ]; then
    tail -n 500 "$file.log" >"$file.log.new" && mv -f "$file.log.new" "$file.log"
  fi
}
main
"#;

/// What a shell does that waits for such a script: finds out beforehand what the script would ask.
pub(super) fn waiting_shell() -> String {
    format!(
        "sh -c 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH; \
         if conclave turnstile --protocol {PROTOCOL} --is-ready 2>/dev/null; then ready=yes; \
         else ready=no; fi; eval \"$(cat)\"'"
    )
}

/// The script that runs `body` if the turnstile lets `token` through, for at most `limit` and begun
/// before the host has been up for `start_by_cs` hundredths of a second. It is read to its last line
/// before anything runs, so a cut connection runs nothing.
pub(crate) fn wrap(
    cluster: &ClusterName,
    token: Token,
    what: &str,
    body: &str,
    limit: Duration,
    start_by_cs: u64,
) -> String {
    let limit = limit.as_millis() / 10;
    format!(
        "cluster={}\nepoch={}\nterm={}\nseq={}\nwhat={}\nlimit_cs={limit}\nstart_by_cs={start_by_cs}\nlog_bytes={LOG_BYTES}\n\
         protocol={PROTOCOL}\nsuperseded={SUPERSEDED}\nbusy={BUSY}\nunusable={UNUSABLE}\nbody={}\n{SCRIPT}",
        quote(&cluster.0),
        token.epoch,
        token.term,
        token.seq,
        quote(what),
        quote(body),
    )
}
