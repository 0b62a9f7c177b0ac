#!/bin/sh
# Puts heddle-cni and its names where this machine's container runtime looks for plugins, and takes them away again.
set -eu

usage() {
    cat <<'TEXT'
install.sh: installs Heddle's CNI plugins on this machine

  --bin-dir DIR   where the runtime looks for plugins       (else found out, or /opt/cni/bin)
  --conf-dir DIR  where it looks for network configurations (else found out, or /etc/cni/net.d)
  --with-conf     install conf/10-heddle.conflist as well
  --replace       take over plugin names that another program has; it is kept as NAME.before-heddle
  --dry-run       say what would be done, and do nothing
  --uninstall     remove what was installed, put back what was replaced
  --help          this text

Every plugin gets two names: NAME, unless another program has it, and heddle-NAME. What was installed is listed in
BIN_DIR/.heddle.manifest. Exit codes: 0 done, 1 failed, 2 wrong usage.
TEXT
}

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$1" >&2; exit "${2:-1}"; }

# --- what to do ---------------------------------------------------------------------------------------------------

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
bin_dir='' conf_dir='' with_conf='' replace='' dry_run='' uninstall=''
while [ $# -gt 0 ]; do
    case $1 in
        --bin-dir|--conf-dir)
            [ -n "${2:-}" ] || fail "$1 needs a directory, see install.sh --help" 2
            case $2 in /*) ;; *) fail "$1 $2: give the directory as an absolute path" 2 ;; esac
            if [ "$1" = --bin-dir ]; then bin_dir=$2; else conf_dir=$2; fi
            shift ;;
        --with-conf) with_conf=1 ;;
        --replace) replace=1 ;;
        --dry-run) dry_run=1 ;;
        --uninstall) uninstall=1 ;;
        --help) usage; exit 0 ;;
        *) fail "unknown option $1, see install.sh --help" 2 ;;
    esac
    shift
done

# The value of a key in the first of some TOML files that has it: toml_value KEY FILE... (of an array, its first element)
toml_value() {
    key=$1; shift
    for file; do
        [ -f "$file" ] || continue
        value=$({ printf ' '; sed 's/^[[:space:]]*#.*//' "$file"; } | tr '\n' ' ' \
            | sed -n "s/.*[[:space:]]$key[[:space:]]*=[[:space:]]*\[\{0,1\}[[:space:]]*\"\([^\"]*\)\".*/\1/p")
        [ -z "$value" ] || { say "$value"; return; }
    done
}

# Directories that are not the default, by the runtime that has them: a runtime's own tree, then its configuration.
detect() {
    found_bin='' found_conf='' runtime='default'
    if [ -d /var/lib/rancher/k3s/data/cni ]; then
        runtime=k3s found_bin=/var/lib/rancher/k3s/data/cni found_conf=/var/lib/rancher/k3s/agent/etc/cni/net.d
    elif [ -d /var/snap/microk8s/current ]; then
        runtime=microk8s found_bin=/var/snap/microk8s/current/opt/cni/bin
        found_conf=/var/snap/microk8s/current/args/cni-network
    elif [ -f /etc/containerd/config.toml ]; then
        runtime=containerd found_bin=$(toml_value 'bin_dirs\{0,1\}' /etc/containerd/config.toml)
        found_conf=$(toml_value conf_dir /etc/containerd/config.toml)
    elif [ -d /etc/crio ]; then
        runtime=CRI-O found_bin=$(toml_value plugin_dirs /etc/crio/crio.conf.d/*.conf /etc/crio/crio.conf)
        found_conf=$(toml_value network_dir /etc/crio/crio.conf.d/*.conf /etc/crio/crio.conf)
    fi
    bin_dir=${bin_dir:-${found_bin:-/opt/cni/bin}}
    conf_dir=${conf_dir:-${found_conf:-/etc/cni/net.d}}
}

# --- one change at a time, each of them whole or not at all -------------------------------------------------------

# Says what happens, and makes it happen unless this is a dry run: act WORDS FUNCTION ARGUMENT...
act() {
    words=$1; shift
    if [ -n "$dry_run" ]; then say "would have $words"; else "$@" && say "$words"; fi
}

# Notes a line in the manifest before the thing itself is made: killed in between, --uninstall finds nothing to remove.
record() {
    grep -qxF "$*" "$manifest" 2>/dev/null && return
    printf '%s\n' "$*" >>"$manifest" || fail "cannot write $manifest: is the directory writable, the disk full?"
}

hash_of() { sha256sum "$1" | cut -d ' ' -f 1; }

# Whether a file is as an installation left it.
is_ours() { grep -qxF "file $(hash_of "$1") $1" "$manifest" 2>/dev/null; }

make_dir() { [ -d "$1" ] || { mkdir -p "$1" || fail "cannot make the directory $1: run as root, or choose another"; }; }

# A copy beside the target, complete and on disk before it takes the name.
copy() {
    record "file $(hash_of "$1") $2"
    temporary=$(mktemp "$(dirname "$2")/.heddle.XXXXXX") || fail "cannot write in $(dirname "$2"): run as root"
    if cp "$1" "$temporary" && chmod "$3" "$temporary" && sync "$temporary" && mv -fT "$temporary" "$2"; then return; fi
    rm -f "$temporary"
    fail "cannot write $2: is the disk full?"
}

link() {
    record "link $1"
    temporary=$bin_dir/.heddle.link.$$
    ln -sfn heddle-cni "$temporary" && mv -fT "$temporary" "$1" || { rm -f "$temporary"; fail "cannot make the link $1"; }
}

# The other program's file gets a second name, and loses the first only when ours takes it.
keep_other() {
    record "backup $1"
    [ -e "$1.before-heddle" ] || ln "$1" "$1.before-heddle" 2>/dev/null || cp -a "$1" "$1.before-heddle"
}

# --- installing ---------------------------------------------------------------------------------------------------

# install_file FROM TO MODE
install_file() {
    if [ -f "$2" ] && cmp -s "$1" "$2"; then
        unchanged=$((unchanged + 1)); [ -n "$dry_run" ] || record "file $(hash_of "$1") $2"; return
    fi
    # heddle-cni is our own name, whoever brought it; every other file may be someone's work.
    if [ -e "$2" ] && [ "$2" != "$bin_dir/heddle-cni" ] && ! is_ours "$2"; then
        if [ -z "$replace" ]; then say "left alone: $2 was not put there by this script (--replace takes it over)"; return; fi
        act "kept $2 as $2.before-heddle" keep_other "$2"
    fi
    act "installed $2" copy "$1" "$2" "$3"
}

install_link() {
    if [ "$(readlink "$1" || true)" = heddle-cni ]; then unchanged=$((unchanged + 1)); return; fi
    if [ -e "$1" ] || [ -L "$1" ]; then
        if [ -z "$replace" ]; then say "left alone: $1 is another program (--replace takes the name over)"; return; fi
        act "kept $1 as $1.before-heddle" keep_other "$1"
    fi
    act "linked $1" link "$1"
}

install() {
    program=$here/dist/heddle-cni
    [ -f "$program" ] || program=$here/heddle-cni
    [ -f "$program" ] || fail "no heddle-cni in $here/dist or $here: run make build first"
    names=$("$program" --list) || fail "$program does not run here: was it built for another machine than $(uname -m)?"
    unchanged=0
    say "plugins go to $bin_dir, configurations are in $conf_dir ($runtime)"
    [ -n "$dry_run" ] || make_dir "$bin_dir"
    install_file "$program" "$bin_dir/heddle-cni" 0755
    for name in $names; do
        install_link "$bin_dir/heddle-$name"
        install_link "$bin_dir/$name"
    done
    if [ -n "$with_conf" ]; then
        [ -n "$dry_run" ] || make_dir "$conf_dir"
        install_file "$here/conf/10-heddle.conflist" "$conf_dir/10-heddle.conflist" 0644
        for other in "$conf_dir"/*.conf "$conf_dir"/*.conflist "$conf_dir"/*.json; do
            [ -e "$other" ] && expr "$(basename "$other")" '<' 10-heddle.conflist >/dev/null \
                && say "note: $other sorts before ours, so that runtimes take it first"
        done
    fi
    say "unchanged: $unchanged"
    check_kernel
}

# What the plugins need of the kernel, found by trying in a network namespace that goes with the attempt.
check_kernel() {
    [ "$(id -u)" = 0 ] && command -v unshare >/dev/null && command -v ip >/dev/null \
        || { say "note: the kernel was not checked, that needs root, unshare and ip"; return 0; }
    try() { unshare -n sh -c "$2" >/dev/null 2>&1 || say "the kernel has no $1: $3"; }
    try veth 'ip link add name t0 type veth peer name t1' 'run modprobe veth'
    try bridges 'ip link add name t0 type bridge' 'run modprobe bridge'
    try VXLAN 'ip link add name t0 type vxlan id 1 dstport 4789' 'run modprobe vxlan, or do without the overlay'
    if command -v nft >/dev/null; then
        try 'nftables NAT' 'nft "table inet a { chain b { type nat hook postrouting priority 100; masquerade; }; }"' \
            'run modprobe nft_masq, or do without ipMasq'
    fi
}

# --- uninstalling -------------------------------------------------------------------------------------------------

remove_ours() {
    case $1 in
        link) [ "$(readlink "$2" || true)" = heddle-cni ] || return 0 ;;
        file)
            [ -f "$2" ] || return 0
            is_ours "$2" || { say "left alone: $2 was changed since it was installed"; return 0; } ;;
    esac
    act "removed $2" rm -f "$2"
}

put_back() {
    [ -e "$1.before-heddle" ] || return 0
    if [ -z "$dry_run" ] && [ -e "$1" ]; then say "left alone: $1.before-heddle, because $1 is there again"; return 0; fi
    act "put back $1" mv -fT "$1.before-heddle" "$1"
}

uninstall() {
    [ -f "$manifest" ] || { say "nothing to remove: there is no $manifest"; return 0; }
    if command -v ip >/dev/null && ip link show 2>/dev/null | grep -q 'alias heddle/'; then
        say "note: pods that Heddle attached are still here; their DEL needs a plugin of the same name"
    fi
    # Configurations first, so that no runtime starts what is about to go; the names before the program.
    while read -r kind rest; do [ "$kind" != file ] || [ "${rest#* }" = "$bin_dir/heddle-cni" ] \
        || remove_ours file "${rest#* }"; done <"$manifest"
    while read -r kind path; do [ "$kind" != link ] || remove_ours link "$path"; done <"$manifest"
    remove_ours file "$bin_dir/heddle-cni"
    while read -r kind path; do [ "$kind" != backup ] || put_back "$path"; done <"$manifest"
    act "removed $manifest" rm -f "$manifest"
}

# --- the entry ----------------------------------------------------------------------------------------------------

detect
manifest=$bin_dir/.heddle.manifest
if [ -n "$uninstall" ]; then uninstall; else install; fi
