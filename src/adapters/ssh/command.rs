//! What runs on a database host: shell scripts made from [`RemoteCommand`]s by pure functions.
//!
//! POSIX sh, as root, with procps-free `/proc` reading, iproute2, and iputils' arping where it is
//! there. A script prints one line per fact and exits with 0 only if it has proved its goal by
//! looking again after the act. Every parameter goes through [`quote`].

use conclave_core::{model::Vip, ports::RemoteCommand};

use super::{rescue, save};

/// Finds this server's mysqld by its working directory, which is its data directory, so that
/// neighbours on the host survive. A supervisor that would start it again goes first.
pub(super) const MYSQLD: &str = r#"
real=$(readlink -f -- "$data_dir")
ours() {
  [ "$(readlink "/proc/$1/cwd" 2>/dev/null)" = "$real" ] || [ "/proc/$1/cwd" -ef "$data_dir" ]
}
is_gone() {
  while read -r key value _; do
    [ "$key" = State: ] && { [ "$value" = Z ] || [ "$value" = X ]; return; }
  done 2>/dev/null <"/proc/$1/status"
  return 0
}
scan() {
  found=
  for path in /proc/[0-9]*; do
    read -r name 2>/dev/null <"$path/comm" || continue
    case $name in mysqld|mariadbd) ;; *) continue ;; esac
    pid=${path#/proc/}
    ours "$pid" || continue
    is_gone "$pid" || found="$found $pid"
  done
}
supervisor() {
  while read -r key value _; do
    [ "$key" = PPid: ] && { parent=$value; break; }
  done 2>/dev/null <"/proc/$1/status"
  read -r name 2>/dev/null <"/proc/$parent/comm" || return 1
  case $name in mysqld_safe|mariadbd-safe) return 0 ;; *) return 1 ;; esac
}
kill_found() {
  for pid in $found; do
    if supervisor "$pid"; then
      kill -9 "$parent" 2>/dev/null && echo "fence: supervisor $name pid $parent killed"
    fi
    kill -9 "$pid" 2>/dev/null && echo "fence: mysqld pid $pid killed"
  done
}
wait_gone() {
  polls=0
  while :; do
    scan
    [ -z "$found" ] && return 0
    polls=$((polls + 1))
    [ "$polls" -ge "$1" ] && return 1
    sleep 0.005
  done
}
"#;

/// Kills first, as a mask costs time; then masks; then kills what was started in between.
const FENCE: &str = r#"
unproved=0
scan
if [ -z "$found" ]; then
  if [ -e "$data_dir/mysql.ibd" ] || [ -e "$data_dir/ibdata1" ]; then
    echo "fence: no mysqld was running in $data_dir"
  else
    echo "fence: not proved: $data_dir holds no data of mysqld; is data_dir right?"
    unproved=1
  fi
fi
kill_found
for address in $addresses; do drop_vip "$address" || unproved=1; done
if [ -n "$unit" ]; then mask || unproved=1; fi
rounds=0
until wait_gone 20; do
  kill_found
  rounds=$((rounds + 1))
  [ "$rounds" -ge 40 ] && break
done
if [ -n "$found" ]; then
  echo "fence: not proved: mysqld pid$found does not go"
  unproved=1
else
  echo "fence: gone"
fi
exit "$unproved"
"#;

const MASK: &str = r#"
mask() {
  if [ ! -d /run/systemd/system ] || ! command -v systemctl >/dev/null 2>&1; then
    echo "fence: not proved: no systemd here to mask $unit"
    return 1
  fi
  timeout 5 systemctl mask --runtime "$unit" >/dev/null 2>&1
  state=$(timeout 5 systemctl show -p LoadState --value "$unit" 2>/dev/null)
  if [ "$state" = masked ]; then
    echo "fence: $unit masked"
  else
    echo "fence: not proved: $unit is ${state:-unknown}, not masked"
    return 1
  fi
}
"#;

/// Prints one line per fact and fails if the address is still there.
const DROP_VIP: &str = r#"
drop_vip() {
  held=$(ip -4 -o addr show to "$1/32" 2>&1) || { echo "vip $1: $held"; return 1; }
  if [ -z "$held" ]; then echo "vip $1 is not here"; return 0; fi
  echo "$held" | while read -r _ device _ with_prefix _; do
    ip addr del "$with_prefix" dev "$device" && echo "vip $1 dropped from $device"
  done
  held=$(ip -4 -o addr show to "$1/32" 2>&1)
  if [ -z "$held" ]; then return 0; fi
  echo "vip $1 is still here: $held"
  return 1
}
"#;

/// The address is taken and announced at once, as clients wait for it: a look for another holder
/// comes after, and one that is found is reported but does not stop us, as the old primary may be hung, and the
/// announcement takes the address from it.
const TAKE_VIP: &str = r#"
here() { ip -4 -o addr show dev "$device" to "$address/32" 2>&1; }
announce() {
  arping -q -U -c 1 -w 1 -I "$device" "$address" </dev/null >/dev/null 2>&1 9>&- &
  setsid sh -c 'for pause in 0.05 0.2 0.5 1 2; do
      arping -q -A -c 1 -w 1 -I "$1" "$2" &
      sleep "$pause"
      [ -n "$(ip -4 -o addr show dev "$1" to "$2/32")" ] || exit 0
      arping -q -U -c 1 -w 1 -I "$1" "$2" &
    done' announce "$device" "$address" </dev/null >/dev/null 2>&1 9>&- &
}
if command -v arping >/dev/null 2>&1; then has_arping=1; else has_arping=; fi
was_here=
found=$(ip -4 -o addr show to "$address/32" 2>/dev/null)
while read -r _ other _ with_prefix _; do
  case $other in
    "$device") was_here=1 ;;
    ?*) ip addr del "$with_prefix" dev "$other" && echo "vip $address dropped from $other" ;;
  esac
done <<END
$found
END
if [ -n "$was_here" ]; then
  echo "vip $address is on $device already"
else
  ip addr replace "$address/$prefix" dev "$device" || { echo "vip $address not taken"; exit 1; }
fi
if [ -n "$has_arping" ]; then announce; else echo "vip $address: no arping here, not announced"; fi
if [ -z "$was_here" ] && [ -n "$has_arping" ]; then
  answer=$(mktemp) || answer=/dev/null
  timeout 0.03 arping -D -c 1 -w 1 -I "$device" "$address" >"$answer" 2>&1 9>&- &
  asked=$!
fi
held=$(here)
[ -n "$held" ] || { echo "vip $address is not on $device after the act"; exit 1; }
if [ -z "$(ip -o link show dev "$device" up)" ]; then
  echo "vip $address: $device is down"
  exit 1
fi
if [ -n "$was_here" ]; then echo "vip $address announced"; else echo "vip $address taken on $device"; fi
if [ -z "$was_here" ] && [ -n "$has_arping" ]; then
  wait "$asked"
  while read -r line; do
    case $line in *'['??:??:??:??:??:??']'*)
      mac=${line#*'['}
      echo "vip $address duplicate: ${mac%%']'*} answered for it" ;;
    esac
  done <"$answer"
  [ "$answer" = /dev/null ] || rm -f "$answer"
fi
exit 0
"#;

const START: &str = r#"
systemctl unmask --runtime "$unit" >/dev/null 2>&1
systemctl start "$unit" 2>&1
state=$(systemctl is-active "$unit" 2>&1)
echo "start: $unit is $state"
[ "$state" = active ]
"#;

/// The body that runs inside the turnstile.
pub(super) fn script(command: &RemoteCommand) -> String {
    match command {
        RemoteCommand::Fence { data_dir, service, vips } => {
            let addresses: Vec<&str> = vips.iter().map(|vip| vip.address.as_str()).collect();
            format!(
                "data_dir={}\nunit={}\naddresses={}\n{MYSQLD}{MASK}{DROP_VIP}{FENCE}",
                quote(data_dir),
                quote(service.as_deref().unwrap_or_default()),
                quote(&addresses.join(" ")),
            )
        }
        RemoteCommand::TakeVip { vip } => format!("{}{TAKE_VIP}", parameters(vip)),
        RemoteCommand::DropVip { vip } => {
            format!("{}{DROP_VIP}drop_vip \"$address\"\n", parameters(vip))
        }
        RemoteCommand::StartService { service } => {
            format!("unit={}\n{START}", quote(service))
        }
        RemoteCommand::Save { data_dir, name, files, extra } => {
            save::script(data_dir, name, files, extra)
        }
        RemoteCommand::PutRescued { upload, sum, relay_log, kept } => {
            rescue::put(upload, sum, relay_log, kept)
        }
        RemoteCommand::DropKept { prefix } => rescue::drop_kept(prefix),
    }
}

/// For log lines and sentences.
pub(super) fn describe(command: &RemoteCommand) -> String {
    match command {
        RemoteCommand::Fence { data_dir, .. } => format!("fence mysqld of {data_dir}"),
        RemoteCommand::TakeVip { vip } => format!("take address {}", vip.address),
        RemoteCommand::DropVip { vip } => format!("drop address {}", vip.address),
        RemoteCommand::StartService { service } => format!("start unit {service}"),
        RemoteCommand::Save { extra, .. } => format!("save {} transactions", extra.count()),
        RemoteCommand::PutRescued { kept, .. } => format!("put {kept} among the relay logs"),
        RemoteCommand::DropKept { prefix } => format!("remove {prefix}"),
    }
}

fn parameters(vip: &Vip) -> String {
    format!(
        "address={}\nprefix={}\ndevice={}\n",
        quote(&vip.address),
        vip.prefix,
        quote(&vip.interface)
    )
}

/// One word for sh, whatever it holds. The shell has no NUL: it is dropped.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', r"'\''"))
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
