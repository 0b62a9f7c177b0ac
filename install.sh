#!/bin/sh
# Puts heddle-cni and its names where this machine's container runtimes look for plugins, and takes them away again.
#
# A run plans every change first and ends there if there is none. Then the manifest says what is coming, everything is
# made under a temporary name in the directory where it belongs, and gets its own name by a rename. So however a run
# ends, whatever has a name is whole, and --uninstall knows of it.
set -eu
umask 022
export LC_ALL=C

usage() {
    cat <<'TEXT'
install.sh: installs Heddle's CNI plugins on this machine

  --from FILE     the executable                            (else dist/heddle-cni beside this script)
  --bin-dir DIR   where the runtime looks for plugins       (else as found for each runtime, or /opt/cni/bin)
  --conf-dir DIR  where it looks for network configurations (else as found, or /etc/cni/net.d)
  --with-conf     install conf/10-heddle.conflist as well
  --replace       take over names that other files have; each is kept as NAME.before-heddle
  --dry-run       say what would be done, and do nothing
  --uninstall     remove what was installed, put back what was replaced: in --bin-dir, or wherever plugins may be
  --help          this text

Every plugin gets two names: NAME, unless another file has it, and heddle-NAME. BIN_DIR/.heddle.manifest lists what was
made; what was changed since stays, and so do directories of configurations. Exits with 1 if it failed, 2 if misused.
TEXT
}

newline='
'
say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$1" >&2; exit "${2:-1}"; }

# Runs a command that changes something; when it fails, its own words and what may help are the one sentence.
try() { said=$("$@" 2>&1) || fail "$said: is there room, and may you write there (root)? or choose with --bin-dir"; }

# --- where --------------------------------------------------------------------------------------------------------
# The last value that TOML files give to a key, of an array its first element: toml_value KEY FILE...
toml_value() {
    key=$1; shift
    sed 's/^[[:space:]]*#.*//' "$@" 2>/dev/null | awk -v key="$key" '
        match($0, "^[ \t]*" key "[ \t]*=") { $0 = substr($0, RLENGTH + 1); wanted = 1; array = ($0 ~ /^[ \t]*\[/) }
        wanted && match($0, /["\047][^"\047]+["\047]/) { value = substr($0, RSTART + 1, RLENGTH - 2); wanted = 0 }
        wanted && (!array || /\]/) { wanted = 0 }
        END { print value }'
}

# A directory by its one absolute name, whether it is there or not.
place() {
    case $1 in /*) dir=$1 ;; *) dir=$PWD/$1 ;; esac
    (CDPATH='' cd -- "$dir" 2>/dev/null && pwd -P) || say "${dir%/}"
}

# A line "BIN_DIR<tab>CONF_DIR", the latter only if it is needed; the command line outweighs what was found.
pair() {
    bin=$(place "${bin_dir:-${1:-/opt/cni/bin}}") conf=''
    [ -z "$with_conf" ] || conf=$(place "${conf_dir:-${2:-/etc/cni/net.d}}")
    printf '%s\t%s\n' "$bin" "$conf"
}

# The pair of each runtime that says where.
runtimes() {
    toml=/etc/containerd/config.toml k3s=/var/lib/rancher/k3s snap=/var/snap/microk8s/current
    [ ! -f "$toml" ] || pair "$(toml_value 'bin_dirs?' "$toml")" "$(toml_value conf_dir "$toml")"
    if [ -d /etc/crio ]; then
        set -- /etc/crio/crio.conf /etc/crio/crio.conf.d/*
        pair "$(toml_value plugin_dirs "$@")" "$(toml_value network_dir "$@")"
    fi
    if [ -d "$k3s/agent" ]; then
        found=$(toml_value 'bin_dirs?' "$k3s/agent/etc/containerd/config.toml")
        [ ! -d "$k3s/data/cni" ] || found=${found:-$k3s/data/cni}
        pair "${found:-$k3s/data/current/bin}" "$k3s/agent/etc/cni/net.d"
    fi
    [ ! -d "$snap" ] || pair "$snap/opt/cni/bin" "$snap/args/cni-network"
}

# Where podman searches before /opt/cni/bin; the first that is there, where it is the only runtime.
podman_dirs='/usr/local/libexec/cni /usr/libexec/cni /usr/local/lib/cni /usr/lib/cni'
podman_dir() {
    # shellcheck disable=SC2012,SC2086 # these are several, with plain names
    command -v containerd >/dev/null || ! command -v podman >/dev/null || ls -d $podman_dirs 2>/dev/null | head -n 1
}
pairs() { found=$(runtimes) && say "${found:-$(pair "$(podman_dir)" '')}" | awk '!seen[$0]++'; }

# --- what is there, and what is to be -----------------------------------------------------------------------------
# Plan and manifest are lines "file SHA256 PATH", "link TARGET PATH" and "saved PATH" (it is PATH.before-heddle now);
# the manifest has "dir PATH" too, and keeps the lines of earlier versions, which are ours as well.
file_state() {
    { sum=$(sha256sum <"$1"); } 2>/dev/null || fail "cannot read $1: is it there, and may you (root)?"
    say "file ${sum%% *}"
}
# The beginning of such a line, for what has this name now.
state() {
    if [ -L "$1" ]; then say "link $(readlink "$1")"
    elif [ -f "$1" ]; then file_state "$1"
    elif [ -e "$1" ]; then say other
    else say absent
    fi
}

recorded() { grep -qxF -- "$1" "$bin/.heddle.manifest" 2>/dev/null; }

# Adds to the plan what it takes that PATH becomes WANTED: consider WANTED PATH
consider() {
    now=$(state "$2")
    [ "$now" != "$1" ] || return 0
    if [ "$now" != absent ] && ! recorded "$now $2"; then
        if [ -z "$replace" ] || [ "$now" = other ]; then
            [ "$2" != "$bin/heddle-cni" ] || fail "$2 is not from this script: move it away, or use --replace"
            say "left alone: $2 is another's (--replace takes the name over)"; return
        fi
        [ "$(state "$2.before-heddle")" = absent ] || recorded "saved $2" \
            || fail "$2.before-heddle is where --replace would keep $2: move it away"
        plan="${plan}saved $2$newline"
    fi
    plan="$plan$1 $2$newline"
}

# Sets $path (what is to be made) and $temporary (its name until then).
at() { path=$1 temporary=${1%/*}/.${1##*/}.heddle-$$; }

# Calls a function for each line of the plan, at its path, with the $words for it.
each() {
    while read -r kind rest; do
        case $kind in
            saved) at "$rest.before-heddle"; words="kept $rest as" ;;
            link) at "${rest#* }"; words=linked ;;
            file) at "${rest#* }"; words=installed ;;
            *) continue ;;
        esac
        "$1"
    done <<PLAN
$plan
PLAN
}

# --- installing ---------------------------------------------------------------------------------------------------
lock() { exec 9<"$bin"; flock 9 2>/dev/null || :; } # one installation at a time, where flock is
sync_path() { sync "$1" 2>/dev/null || sync; }
write() { printf '%s\n' "$1" >"$2" && sync_path "$2"; }
copy() { cp "$1" "$2" && chmod "$3" "$2" && sync_path "$2"; }

# Makes a directory with its parents, and notes in $made which of them are new.
make_dir() {
    [ ! -d "$1" ] || return 0
    make_dir "$(dirname "$1")"
    try mkdir "$1"
    made="${made}dir $1$newline"
}
drop_dirs() { say "$1" | sed -n 's/^dir //p' | sort -r | while read -r dir; do rmdir "$dir" 2>/dev/null || :; done; }

write_manifest() {
    at "$bin/.heddle.manifest"
    [ -f "$path" ] || fresh=1
    try write "$({ cat "$path" 2>/dev/null || :; say "$made$plan"; } | sed '/^$/d' | sort -u)" "$temporary"
    publish
}

# The steps for a line of the plan: first what a run that was killed left beside $path, then ours, then its name.
sweep() { set -- "${path%/*}/.${path##*/}" && rm -f "$1.heddle-"[0-9]* "$1.before-heddle.heddle-"[0-9]*; }
stage() {
    case $kind:$path in
        saved:*) try ln "$rest" "$temporary" ;;
        link:*) try ln -s heddle-cni "$temporary" ;;
        file:*/heddle-cni) try copy "$from" "$temporary" 755 ;;
        file:*) try copy "$example" "$temporary" 644 ;;
    esac
}
publish() { try mv -fT "$temporary" "$path"; }
tell() { say "$would$words $path"; }

# Installs for one runtime: into $bin, and $conf unless it is empty.
install() {
    plan='' made='' fresh='' changing=1
    [ -n "$dry_run" ] || { make_dir "$bin"; lock; }
    consider "$program" "$bin/heddle-cni"
    for name in $names; do
        consider 'link heddle-cni' "$bin/heddle-$name"
        consider 'link heddle-cni' "$bin/$name"
    done
    [ -z "$conf" ] || consider "$shipped" "$conf/10-heddle.conflist"
    [ -n "$plan" ] || { say "unchanged: $bin${conf:+, $conf}"; return; }
    [ -z "$dry_run" ] || { each tell; return; }
    write_manifest
    [ -z "$conf" ] || make_dir "$conf"
    each sweep
    each stage
    each publish
    sync_path "$bin"
    changing=''
    each tell
}

# Takes back what a failed run had begun; an earlier installation stays as far as it was not renewed.
finish() {
    [ "$1" != 0 ] && [ -n "$changing" ] || exit "$1"
    each sweep
    at "$bin/.heddle.manifest"; sweep
    [ -z "$fresh" ] || [ ! -f "$path" ] || remove
    drop_dirs "$made"
    exit "$1"
}

# What the plugins need of the kernel, tried in network namespaces that go with the attempt.
check_kernel() {
    { command -v ip && unshare -n true; } >/dev/null 2>&1 \
        || { say 'note: the kernel was not tried, which needs root, unshare (util-linux) and ip (iproute2)'; return; }
    while IFS='|' read -r what modules attempt; do
        # shellcheck disable=SC2086 # an attempt is a command with its arguments
        ! command -v "${attempt%% *}" >/dev/null || unshare -n $attempt </dev/null >/dev/null 2>&1 \
            || say "the kernel has no $what: run \`modprobe -a $modules\`, or choose a kernel that has it"
    done <<'FEATURES'
veth|veth|ip link add t0 type veth peer name t1
bridge|bridge|ip link add t0 type bridge
VXLAN|vxlan|ip link add t0 type vxlan id 1 dstport 4789
nftables NAT|nft_chain_nat nft_masq|nft table inet t { chain c { type nat hook postrouting priority 0; masquerade; }; }
FEATURES
}

# --- uninstalling -------------------------------------------------------------------------------------------------
# Says what happens, and makes it happen unless this is a dry run: act WORDS COMMAND...
act() {
    words=$1; shift
    [ -n "$dry_run" ] || try "$@"
    say "$would$words"
}

remove_path() {
    now=$(state "$path") kept=$path.before-heddle
    recorded "saved $path" && [ "$(state "$kept")" != absent ] || kept=''
    [ -n "$dry_run" ] || sweep
    if [ -n "$kept" ] && [ "$path" -ef "$kept" ]; then # killed between keeping it and taking its name
        act "removed $kept" rm -f "$kept"
    elif [ "$now" != absent ] && ! recorded "$now $path"; then
        say "left alone: $path was changed since it was installed${kept:+, and so $kept}"
    elif [ -n "$kept" ]; then
        act "put back $path" mv -fT "$kept" "$path"
    elif [ "$now" != absent ]; then
        act "removed $path" rm -f "$path"
    fi
}

# Removes from $bin, and from wherever else its manifest names, what is as an installation left it.
remove() {
    lines=$(cat "$bin/.heddle.manifest")
    while read -r path; do [ -z "$path" ] || remove_path; done <<PATHS
$(say "$lines" | sed -nE 's/^(file|link) [^ ]+ //p' | sort -u)
PATHS
    act "removed $bin/.heddle.manifest" rm -f "$bin/.heddle.manifest"
    [ -n "$dry_run" ] || drop_dirs "$lines"
}

# Uninstalls from --bin-dir, or from every directory where plugins may be.
uninstall() {
    manifests=''
    while read -r bin; do
        [ -d "$bin" ] && [ -z "$dry_run" ] && lock && at "$bin/.heddle.manifest" && sweep
        [ ! -f "$bin/.heddle.manifest" ] || { manifests=1; remove; }
    done <<BINS
$(pairs | cut -f 1; [ -n "$bin_dir" ] || for dir in /opt/cni/bin $podman_dirs; do place "$dir"; done)
BINS
    [ -n "$manifests" ] || say "nothing to remove: no .heddle.manifest in ${bin_dir:-the directories for plugins}"
}

# --- the entry ----------------------------------------------------------------------------------------------------
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
from=$here/dist/heddle-cni example=$here/conf/10-heddle.conflist
bin_dir='' conf_dir='' with_conf='' replace='' dry_run='' uninstall='' would='' changing=''
while [ $# -gt 0 ]; do
    case $1 in
        --from | --bin-dir | --conf-dir)
            [ -n "${2:-}" ] || fail "$1 needs a path after it (see install.sh --help)" 2
            case $1 in --from) from=$(readlink -f "$2") || from=$2 ;; --bin-dir) bin_dir=$2 ;; *) conf_dir=$2 ;; esac
            shift ;;
        --with-conf) with_conf=1 ;;
        --replace) replace=1 ;;
        --dry-run) dry_run=1 would='would have ' ;;
        --uninstall) uninstall=1 ;;
        --help) usage; exit ;;
        *) fail "unknown option $1 (see install.sh --help)" 2 ;;
    esac
    shift
done
if [ -n "$uninstall" ]; then uninstall; exit; fi

[ -f "$from" ] || fail "$from is not there: run \`make build\`, or name the executable with --from"
names=$("$from" --list 2>/dev/null) || fail "$from does not run here: is it heddle-cni, built for $(uname -m)?"
program=$(file_state "$from") shipped=$([ -z "$with_conf" ] || file_state "$example")
trap 'finish $?' EXIT; trap 'exit 1' HUP INT TERM
while IFS=$(printf '\t') read -r bin conf; do
    install
    [ -n "$conf" ] || continue
    first=$({ say "$conf/10-heddle.conflist"; ls -d "$conf"/*.conf "$conf"/*.conflist; } 2>/dev/null | sort | head -n 1)
    [ "${first##*/}" = 10-heddle.conflist ] || say "note: most runtimes use $first, which sorts before ours"
done <<PAIRS
$(pairs)
PAIRS
[ -n "$dry_run" ] || check_kernel
