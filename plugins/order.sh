#!/bin/bash
# Writes plugins/order.ld anew: which functions an ADD of the usual chain calls, by valgrind, as root in namespaces of its own.
#
#   make build CARGO_PROFILE_DIST_STRIP=false && plugins/order.sh dist/heddle-cni
#
# The list needs no care: a function that is missing in it only lies elsewhere. It is worth making anew when the names have
# changed, as with a new toolchain (tests/tests/gates.rs tells), or when ADD goes other ways.
set -eu
[ "${INSIDE:-}" ] || exec env INSIDE=1 unshare --net --mount "$0" "$(realpath "$1")" "$(realpath "$(dirname "$0")")/order.ld"

program=$1 list=$2
mount -t tmpfs none /run
mkdir -p /run/netns /run/bin /run/profiles /var/lib/cni
mount -t tmpfs none /var/lib/cni
ip link set lo up
export CNI_PATH=/run/bin CNI_IFNAME=eth0 CNI_COMMAND=ADD
# No `host-local`: under valgrind a plugin does not know itself, and would start that as a program.
for plugin in bridge portmap bandwidth firewall; do ln -s "$program" /run/bin/$plugin; done

# add POD PLUGIN KEYS COMMAND...: ADD of one plugin, run by the command.
add() {
    local pod=$1 plugin=$2 keys=$3
    shift 3
    echo "{\"cniVersion\": \"1.0.0\", \"name\": \"net\", \"type\": \"$plugin\", $keys}" >/run/conf
    CNI_CONTAINERID=$pod CNI_NETNS=/run/netns/$pod \
        "${@/OUT/--callgrind-out-file=/run/profiles/$plugin}" /run/bin/$plugin </run/conf >/run/result
}

ipam='{"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]]}'
limits='"ingressRate": 1000000, "ingressBurst": 1000000, "egressRate": 1000000, "egressBurst": 1000000'
port=8000
# The first pod of a node is not like the others.
for pod in first usual; do
    profile=(env)
    [ $pod = first ] || profile=(valgrind -q --tool=callgrind --demangle=no OUT)
    port=$((port + 1))
    ip netns add $pod
    add $pod bridge "\"isDefaultGateway\": true, \"ipam\": $ipam" "${profile[@]}"
    previous="\"prevResult\": $(cat /run/result)"
    mapping="{\"hostPort\": $port, \"containerPort\": 80, \"protocol\": \"tcp\"}"
    add $pod portmap "\"runtimeConfig\": {\"portMappings\": [$mapping]}, $previous" "${profile[@]}"
    add $pod bandwidth "$limits, $previous" "${profile[@]}"
    add $pod firewall "$previous" "${profile[@]}"
done

{
    echo "/* What an ADD runs through, next to each other: it is read in pieces of 64 KB. Made by order.sh. */"
    printf 'SECTIONS {\n  .text.start : {\n    *crt*.o(.text .text.*)\n    *(.text.main)\n    *libc*.a:*(.text .text.*)\n'
    # A function's name without what is different in every build; those that most plugins call come first.
    for profile in /run/profiles/*; do
        grep -oE '^c?fn=\([0-9]+\) (_ZN|_R)[^ ]+' "$profile" |
            sed -E "s/.* //; s/'[0-9]+$//; s/17h[0-9a-f]{16}E.*/17h*E*/; s/\.[0-9.]+$/*/; s/Cs[0-9A-Za-z]+_/Cs*_/g" |
            sort -u | sed "s|$| ${profile##*/}|"
    done | awk '{ plugins[$1] = plugins[$1] "," $2; count[$1]++ } END { for (name in count) print count[name], plugins[name], name }' |
        sort -k1,1nr -k2,3 | sed 's/.* /    *(.text./; s/$/)/'
    printf '  }\n}\nINSERT BEFORE .text;\n'
} >"$list"
