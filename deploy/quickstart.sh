#!/usr/bin/env bash
# Three managers fail a real MySQL primary over, before your eyes, on this machine alone.
#
#   deploy/quickstart.sh          leaves the lab running to play with
#   deploy/quickstart.sh --once   cleans up; exit status 0 if all went as it should
#
# Needs root (or sudo), a Debian 12 and Rust. Servers, managers and client live in network
# namespaces of their own: nothing listens on this machine, no package's service is started.
set -euo pipefail

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }

once=no
bin=
while [ $# -gt 0 ]; do
    case $1 in
        --once) once=yes ;;
        --built) bin=$2; shift ;;       # said by this script to itself, under sudo
        -h|--help) usage; exit 0 ;;
        *) echo "quickstart: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

repo=$(cd "$(dirname "$0")/.." && pwd)
name=quickstart
[ $once = no ] || name=quickstart-$$
root=/var/tmp/conclave-lab/$name
dir=$root/conclave
port=7300
writer=''
writes_ms=5

bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi
export PATH="$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin"

heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '%s\n' "$*"; }
die() {
    printf '\nquickstart: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

# ---------------------------------------------------------------------------------- building

# Runs something noisy: its output goes to the log, and the log's end is shown if it fails.
quietly() {
    local what=$1 log=$2 since=$SECONDS
    shift 2
    mkdir -p "$(dirname "$log")"
    "$@" >"$log" 2>&1 || {
        tail -n 25 "$log" >&2
        die "$what failed; the end of its output is above, all of it in $log"
    }
    say "$what: done in $((SECONDS - since)) s"
}

refuse_second() {
    local lock=$root/lock
    if [ -e "$lock" ] && ! flock --nonblock "$lock" true; then
        die "the lab '$name' is running already" \
            "play on with it:  . $dir/env.sh" \
            "or end it:        . $dir/env.sh; conclave-lab down --name $name" \
            "and start again."
    fi
}

build() {
    heading "1  Build"
    command -v cargo >/dev/null ||
        die "no cargo on this machine: install Rust (https://rustup.rs), then start this again"
    local target=${CARGO_TARGET_DIR:-$repo/target}
    "$repo/deploy/install-tools.sh" --build
    say "the first time takes some minutes; its log: $target/quickstart-build.log"
    cd "$repo"
    quietly "cargo build --release" "$target/quickstart-build.log" \
        cargo build --release --package conclave --package conclave-lab
    bin=$(cd "$target/release" && pwd)
}

# ---------------------------------------------------------------------------------- the lab

lab() { "$bin/conclave-lab" "$@"; }
# Runs a program on a host of the lab.
on() { local host=$1; shift; lab --name "$name" exec "$host" "$@"; }
# Shows a command as it would be typed on that host, folded where it is long.
show_command() {
    local line="$1\$" word width
    shift
    while [ $# -gt 0 ]; do
        word=$1 width=${#1}
        # An option and its value stay together.
        case $word in --*) width=$((width + 1 + $(wc -c <<<"${2:-}"))) ;; esac
        shift
        if [ $((${#line} + width)) -gt 90 ]; then
            say "$bold$line \\$plain"
            line="   "
        fi
        line+=" $word"
    done
    say "$bold$line$plain"
}
# Shows a command, and runs it on that host.
typed() {
    local host=$1
    shift
    show_command "$host" "$@"
    on "$host" env -C "$dir" "CONCLAVE_CLIENT_CONFIG=$dir/client.toml" "$bin/$1" "${@:2}"
}
conclave() { on client env "CONCLAVE_CLIENT_CONFIG=$dir/client.toml" "$bin/conclave" "$@"; }

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    if [ $status -ne 0 ] || [ $once = yes ]; then
        # Who pressed Ctrl-C need not be told what the managers had to say.
        if [ $status -ne 0 ] && [ $status -lt 128 ]; then
            for log in "$dir"/m?.log; do
                [ ! -s "$log" ] || { echo "--- the last lines of $log"; tail -n 5 "$log"; }
            done >&2
        fi
        [ -z "$writer" ] || kill "$writer" 2>/dev/null || true
        # A lab of that name that somebody else started is not ours to end.
        [ -z "${is_ours:-}" ] || lab down --name "$name" >/dev/null 2>&1 || true
    fi
    exit $status
}

bring_up() {
    heading "2  Three racks, each with a MySQL 9.7 and a manager's host; and a client"
    say "$bold\$ conclave-lab up --keep --name $name$plain"
    is_ours=yes
    lab up --keep --name "$name" | grep -v '^it stays'
}

write_files() {
    mkdir -p "$dir"
    for n in 1 2 3; do
        cat >"$dir/m$n.toml" <<END
id = $n
rack = "r$n"
listen = "0.0.0.0:$port"
advertise = "10.77.$n.21:$port"
data_dir = "/srv/conclave"
secrets = "$dir/secrets.toml"

[tls]
ca = "$dir/tls/ca.pem"
cert = "$dir/tls/m$n.pem"
key = "$dir/tls/m$n.key"
END
    done
    (umask 077 && cat >"$dir/secrets.toml") <<END
[mysql.conclave]
password = "lab-admin-pw"
[mysql.repl_db1]
password = "lab-repl-pw"
[mysql.repl_db2]
password = "lab-repl-pw"
[mysql.repl_db3]
password = "lab-repl-pw"

[ssh]
key_file = "$root/ssh/client_key"
known_hosts = "$root/ssh/known_hosts"
END
    cat >"$dir/client.toml" <<END
managers = ["10.77.1.21:$port", "10.77.2.21:$port", "10.77.3.21:$port"]

[tls]
ca = "$dir/tls/ca.pem"
cert = "$dir/tls/admin.pem"
key = "$dir/tls/admin.key"
END
    {
        cat <<END
name = "app1"
mode = "quorum"
admin_account = "conclave"

[defaults]
data_dir = "/srv/data"
ssh = { user = "root" }

END
        for n in 1 2 3; do
            cat <<END
[[server]]
name = "db$n"
host = "10.77.$n.11"
rack = "r$n"
replication_account = "repl_db$n"

END
        done
        cat <<END
[vip.writer]
address = "10.77.200.100/24"
interface = "eth1"

[[vip.reader]]
address = "10.77.200.101/24"
interface = "eth1"
END
    } >"$dir/app1.toml"
    cat >"$dir/env.sh" <<END
# For a shell on this machine: conclave asks the managers of the lab, conclave-lab is the lab.
conclave-lab() {
    \$([ "\$(id -u)" -eq 0 ] || echo sudo) env CONCLAVE_LAB=$name '$bin/conclave-lab' "\$@"
}
conclave() {
    conclave-lab exec client env CONCLAVE_CLIENT_CONFIG=$dir/client.toml '$bin/conclave' "\$@"
}
start_manager() {
    conclave-lab exec "\$1" setsid -f sh -c "exec '$bin/conclave' manager --config $dir/\$1.toml \\
        </dev/null >>$dir/\$1.log 2>&1"
}
END
}

# Waits until a command succeeds; the first argument says for what.
wait_for() {
    local what=$1 seconds=$2 until=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || die "$what did not come about within $seconds s"
        sleep 0.1
    done
}

start_managers() {
    heading "3  Three managers become a group"
    write_files
    say "files, as a person would write them: $dir/"
    say "  m1.toml m2.toml m3.toml secrets.toml client.toml app1.toml"
    typed m1 conclave tls init \
        --manager m1=10.77.1.21 --manager m2=10.77.2.21 --manager m3=10.77.3.21
    for n in 1 2 3; do
        show_command "m$n" conclave manager --config "m$n.toml"
        on "m$n" setsid -f sh -c "exec '$bin/conclave' manager --config $dir/m$n.toml \
            </dev/null >>$dir/m$n.log 2>&1"
    done
    for n in 1 2 3; do
        wait_for "manager m$n" 20 grep -q running "$dir/m$n.log"
    done
    typed client conclave group init --members \
        "1=10.77.1.21:$port,r1" "2=10.77.2.21:$port,r2" "3=10.77.3.21:$port,r3"
}

apply_cluster() {
    heading "4  They look after a cluster"
    local since=$SECONDS
    typed client conclave cluster apply app1.toml
    wait_for "a healthy cluster" 60 is_healthy
    say "healthy within $((SECONDS - since + 1)) s"
    typed client conclave status
}

# Exit status 0 is "all is well"; right after apply not everything has been looked at.
is_healthy() {
    conclave status app1 >"$dir/status.txt" && ! grep -q 'looked' "$dir/status.txt"
}

# ---------------------------------------------------------------------------------- the failover

kill_primary() {
    heading "5  A client writes every $writes_ms ms through the writer address, and the primary dies"
    local log=$dir/client.log
    before=$(primary)
    "$bin/conclave-lab" --name "$name" write --seconds 90 --every-ms $writes_ms --show-ms 300 >"$log" &
    writer=$!
    tail -n +1 -f --pid=$writer "$log" | sed -u 's/^ */client |  /' &
    shown=$!
    wait_for "an acknowledged write" 20 grep -q "acknowledged by $before" "$log"
    sleep 1
    say "$bold\$ conclave-lab kill $before$plain     (SIGKILL to its mysqld)"
    lab --name "$name" kill "$before"
    wait_for "a write acknowledged by another server" 30 \
        grep -q "acknowledged by db[^${before#db}]" "$log"
    sleep 0.8
    kill -TERM $writer
    local is_complete=yes
    wait $writer || is_complete=no
    writer=''
    wait $shown || true
    [ $is_complete = yes ] || die "the client did not find all of its acknowledged writes again"
    after=$(primary)
    [ "$before" != "$after" ] || die "$before is the primary again; wanted another one"
}

# Status ends with 1 or 2 where something is odd, which is no reason to stop here.
primary() {
    { conclave status app1 -o json || true; } |
        sed -n 's/.*"primary": "\(db[0-9]*\)".*/\1/p' | head -n 1
}

tell() {
    heading "6  Who decided what, and how long it took"
    wait_for "the end of the failover" 30 is_reported
    show_command client conclave report app1
    conclave report app1 >"$dir/report.txt"
    # The report's first part, the ballots and the time line; the rest can be read later.
    awk '/^[A-Z]/ { show = /^Report|^Who answered|^Time line/ } show' \
        "$dir/report.txt"
    say "(shortened: the choice of $after, and each step with its evidence, are in the whole report)"
}

is_reported() { conclave report app1 -o json | grep -q '"outcome": "promoted"'; }

try_next() {
    heading "7  The lab goes on running. In a shell on this machine:"
    cat <<END
. $dir/env.sh

conclave status                     $before is missing, $after is the primary; what would happen now
conclave report                     all of the report: the choice, each step with its evidence
conclave failover app1 --dry-run    what stands against a second failover, and the remedies
conclave-lab start $before              it comes back read-only: as a replica, or quarantined
conclave explain app1               who would be promoted, and why
conclave-lab poweroff m1            a manager less; then: conclave-lab poweron m1; start_manager m1
conclave-lab write                  the client again; in another shell: conclave-lab kill $after
conclave-lab --help                 all faults: kill, poweroff, cut, split, isolate, loss, delay ...

conclave-lab down                   ends it, and leaves nothing behind
END
}

if [ -z "$bin" ]; then
    refuse_second
    echo "${bold}Conclave: three managers fail a real MySQL over, in a lab of network namespaces$plain"
    build
fi
if [ "$(id -u)" -ne 0 ]; then
    again=(--built "$bin")
    [ $once = no ] || again+=(--once)
    command -v sudo >/dev/null || die "this needs root: run it as root, or install sudo"
    exec sudo "$0" "${again[@]}"
fi
refuse_second
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
bring_up
start_managers
apply_cluster
kill_primary
tell
if [ $once = yes ]; then
    heading "7  $before was the primary, $after is; every acknowledged write is there. Cleaned up."
else
    try_next
fi
