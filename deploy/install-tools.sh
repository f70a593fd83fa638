#!/usr/bin/env bash
# Installs the Debian packages that the lab shells out to, if they are missing; silent when nothing is.
# Starts no service: the hosts of the lab run their own sshd inside their namespaces.
# With --build also a C compiler, which cargo build needs.
set -euo pipefail

# program:package
needs=(
    ip:iproute2
    nft:nftables
    sshd:openssh-server
    ssh:openssh-client
    ssh-keygen:openssh-client
    arping:iputils-arping
    patchelf:patchelf
    ps:procps
    nsenter:util-linux
    setsid:util-linux
    mount:mount
    apt-get:apt
)
[ "${1:-}" != --build ] || needs+=(cc:gcc cc:libc6-dev)
export PATH="$PATH:/usr/sbin:/sbin"

missing=()
for need in "${needs[@]}"; do
    command -v "${need%%:*}" >/dev/null 2>&1 || missing+=("${need##*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

command -v apt-get >/dev/null 2>&1 || {
    echo "install-tools: missing ${missing[*]}, and this machine has no apt-get: install them by hand" >&2
    exit 1
}
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || {
        echo "install-tools: missing ${missing[*]}; run this as root, or install sudo" >&2
        exit 1
    }
    as_root=(sudo)
fi

echo "install-tools: installing ${missing[*]}" >&2
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
own_policy=no
cleanup() {
    [ "$own_policy" = no ] || "${as_root[@]}" rm -f "$policy"
    rm -f "$log"
}
trap cleanup EXIT

# A package's service is not started on this machine while this policy stands (101: forbidden).
if [ ! -e "$policy" ]; then
    own_policy=yes
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi

try() {
    "$@" >>"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        echo "install-tools: '$*' failed; the lines above are apt's own" >&2
        exit 1
    }
}
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
# Lists of a fresh image are absent or too old to download from.
try "${apt[@]}" update
try "${apt[@]}" install -y --no-install-recommends "${missing[@]}"

# Nor does it start at the next boot, if it was we who brought it.
case " ${missing[*]} " in
    *" openssh-server "*)
        if command -v systemctl >/dev/null 2>&1; then
            "${as_root[@]}" systemctl disable ssh.service ssh.socket >/dev/null 2>&1 || true
        fi ;;
esac
