//! The faults that are made on the first of three nodes, or on the way between them, by a shell there.
use std::time::Duration;

use lab::drill::Asked::{self, Doctor, Trace};

/// Where a fault is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the node.
    Node,
    /// On the node, whose daemon is stopped meanwhile: it would put this right at once.
    Paused,
    /// On the way; only the probes can tell.
    Fabric,
}

/// A fault, who is asked, and what is said of it.
pub struct Fault {
    pub name: &'static str,
    pub place: Place,
    pub inject: &'static str,
    pub mend: &'static str,
    pub asked: Asked,
    /// In the sentence of the first mark.
    pub said: &'static str,
    /// In its remedy.
    pub remedy: &'static str,
}

impl Fault {
    /// How long the node may take to find it.
    pub fn patience(&self) -> Duration {
        match self.place {
            Place::Fabric => Duration::from_secs(40),
            Place::Paused => Duration::ZERO,
            // Counters and duplicate addresses take the kernel a moment.
            Place::Node => Duration::from_secs(3),
        }
    }
}

const fn fault(
    name: &'static str,
    place: Place,
    asked: Asked,
    [inject, mend]: [&'static str; 2],
    [said, remedy]: [&'static str; 2],
) -> Fault {
    Fault {
        name,
        place,
        inject,
        mend,
        asked,
        said,
        remedy,
    }
}

use Place::{Fabric, Node, Paused};

pub const FAULTS: [Fault; 31] = [
    fault(
        "forwarding is off",
        Node,
        Doctor,
        [
            "sysctl -qw net.ipv4.ip_forward=0",
            "sysctl -qw net.ipv4.ip_forward=1",
        ],
        [
            "net/ipv4/ip_forward is 0",
            "sysctl -w net.ipv4.ip_forward=1",
        ],
    ),
    fault(
        "strict reverse path filter",
        Node,
        Doctor,
        [
            "sysctl -qw net/ipv4/conf/vxlan.heddle/rp_filter=1",
            "sysctl -qw net/ipv4/conf/vxlan.heddle/rp_filter=2",
        ],
        [
            "rp_filter is strict",
            "sysctl -w net.ipv4.conf.vxlan/heddle.rp_filter=2",
        ],
    ),
    fault(
        "router advertisements are ignored",
        Node,
        Doctor,
        [
            "sysctl -qw net.ipv6.conf.eth0.accept_ra=1",
            "sysctl -qw net.ipv6.conf.eth0.accept_ra=2",
        ],
        [
            "router advertisements are ignored",
            "sysctl -w net.ipv6.conf.eth0.accept_ra=2",
        ],
    ),
    fault(
        "proxy_arp",
        Node,
        Doctor,
        [
            "sysctl -qw net.ipv4.conf.cbr0.proxy_arp=1",
            "sysctl -qw net.ipv4.conf.cbr0.proxy_arp=0",
        ],
        ["proxy_arp is 1", "sysctl -w net.ipv4.conf.cbr0.proxy_arp=0"],
    ),
    fault(
        "bridged packets pass by kube-proxy's rules",
        Node,
        Doctor,
        [
            "nft 'table ip nat { chain KUBE-SERVICES { }; }'; sysctl -qw net.bridge.bridge-nf-call-iptables=0",
            "nft delete table ip nat; sysctl -qw net.bridge.bridge-nf-call-iptables=1",
        ],
        [
            "bridge-nf-call-iptables is 0",
            "sysctl -w net.bridge.bridge-nf-call-iptables=1",
        ],
    ),
    fault(
        "FORWARD policy DROP",
        Node,
        Doctor,
        [
            "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }'",
            "nft delete table ip filter",
        ],
        [
            "FORWARD chain has the policy DROP",
            "iptables -P FORWARD ACCEPT",
        ],
    ),
    fault(
        "a foreign conf sorts first",
        Node,
        Doctor,
        [
            "echo '{}' >/etc/cni/net.d/05-other.conflist",
            "rm /etc/cni/net.d/05-other.conflist",
        ],
        [
            "the runtime uses /etc/cni/net.d/05-other.conflist",
            "mv /etc/cni/net.d/05-other.conflist",
        ],
    ),
    fault(
        "a stale lease",
        Node,
        Doctor,
        [
            "cd /var/lib/cni/networks/heddle && printf 'gone\\r\\neth0' >10.32.1.77 && touch -d '2 minutes ago' 10.32.1.77",
            "rm /var/lib/cni/networks/heddle/10.32.1.77",
        ],
        [
            "belong to no pod of this node: 10.32.1.77",
            "heddle gc --dry-run",
        ],
    ),
    fault(
        "a pod without a lease",
        Node,
        Doctor,
        [
            "mkdir /tmp/kept; mv /var/lib/cni/networks/heddle/10.32.1.* /var/lib/cni/networks/heddle/fd32:* /tmp/kept",
            "mv /tmp/kept/* /var/lib/cni/networks/heddle; rmdir /tmp/kept",
        ],
        ["have no lease", "delete these pods"],
    ),
    fault(
        "an isolated port",
        Node,
        Doctor,
        [
            "bridge link set dev $(ls /sys/class/net/cbr0/brif | head -n 1) isolated on",
            "bridge link set dev $(ls /sys/class/net/cbr0/brif | head -n 1) isolated off",
        ],
        ["is an isolated port of cbr0", "isolated off"],
    ),
    fault(
        "a port that is down",
        Node,
        Doctor,
        [
            "ip link set dev $(ls /sys/class/net/cbr0/brif | head -n 1) down",
            "ip link set dev $(ls /sys/class/net/cbr0/brif | head -n 1) up",
        ],
        ["its pod is cut off", "up"],
    ),
    fault(
        "another's route",
        Node,
        Doctor,
        [
            "ip route add 10.32.2.0/25 via 192.0.1.1",
            "ip route delete 10.32.2.0/25",
        ],
        [
            "a route to 10.32.2.0/25 that is not ours",
            "ip route show 10.32.2.0/25",
        ],
    ),
    fault(
        "the bridge is down",
        Node,
        Doctor,
        ["ip link set dev cbr0 down", "ip link set dev cbr0 up"],
        ["cbr0 is down", "ip link set dev cbr0 up"],
    ),
    fault(
        "a full range",
        Node,
        Doctor,
        [
            "cd /var/lib/cni/networks/heddle; for n in $(seq 2 254); do [ -e 10.32.1.$n ] || printf 'filler\\r\\neth0' >10.32.1.$n; done",
            "cd /var/lib/cni/networks/heddle; rm $(grep -l filler 10.32.1.*)",
        ],
        [
            "all 253 IPv4 addresses of this node are leased",
            "heddle gc",
        ],
    ),
    fault(
        "two pods with one address",
        Node,
        Doctor,
        [
            "ip netns exec beside ip address add $(ip netns exec pod ip -4 -o address show dev eth0 | awk '{print $4}') dev eth0",
            "ip netns exec beside ip address delete $(ip netns exec pod ip -4 -o address show dev eth0 | awk '{print $4}') dev eth0",
        ],
        ["is the address of 2 pods", "have no lease"],
    ),
    fault(
        "a pod without a route",
        Node,
        Doctor,
        [
            "ip netns exec pod ip route delete default",
            "ip netns exec pod ip route add default via 10.32.1.1",
        ],
        ["has no IPv4 default route", "delete the pod"],
    ),
    fault(
        "a pod whose interface is down",
        Node,
        Doctor,
        [
            "ip netns exec pod sysctl -qw net.ipv6.conf.eth0.keep_addr_on_down=1; ip netns exec pod ip link set eth0 down",
            "ip netns exec pod ip link set eth0 up; ip netns exec pod ip route add default via 10.32.1.1; ip netns exec pod ip -6 route replace default via fd32:0:0:1::1",
        ],
        ["is down in the pod", "delete the pod"],
    ),
    fault(
        "an address of another node's",
        Node,
        Doctor,
        [
            "ip address add fd00:1::12/64 dev eth0 || true",
            "ip address delete fd00:1::12/64 dev eth0",
        ],
        [
            "fd00:1::12 on eth0 is used by somebody else",
            "ip address delete fd00:1::12/64 dev eth0",
        ],
    ),
    fault(
        "the table of connections is full",
        Node,
        Doctor,
        [
            "echo 99 >/run/count; echo 100 >/run/max; for key in count max; do mount --bind /run/$key /proc/sys/net/netfilter/nf_conntrack_$key; done",
            "umount /proc/sys/net/netfilter/nf_conntrack_count /proc/sys/net/netfilter/nf_conntrack_max",
        ],
        [
            "99 of 100 connections are tracked",
            "sysctl -w net.netfilter.nf_conntrack_max=200",
        ],
    ),
    fault(
        "NetworkManager takes the bridge",
        Node,
        Doctor,
        [
            "mkdir -p /run/NetworkManager/devices; printf '[device]\\nmanaged=true\\n' >/run/NetworkManager/devices/$(cat /sys/class/net/cbr0/ifindex)",
            "rm -r /run/NetworkManager",
        ],
        [
            "NetworkManager manages cbr0",
            "unmanaged-devices=interface-name:cbr0",
        ],
    ),
    fault(
        "systemd-networkd takes the VXLAN device",
        Node,
        Doctor,
        [
            "mkdir -p /run/systemd/netif/links /etc/systemd; printf '[Network]\\nManageForeignRoutes=no\\n' >/etc/systemd/networkd.conf; echo ADMIN_STATE=configured >/run/systemd/netif/links/$(cat /sys/class/net/vxlan.heddle/ifindex)",
            "rm -r /run/systemd/netif /etc/systemd/networkd.conf",
        ],
        ["systemd-networkd manages vxlan.heddle", "Unmanaged=yes"],
    ),
    fault(
        "systemd-networkd removes foreign routes",
        Node,
        Doctor,
        [
            "mkdir -p /run/systemd/netif/links",
            "rm -r /run/systemd/netif",
        ],
        [
            "removes routes that it did not make",
            "ManageForeignRoutes=no",
        ],
    ),
    fault(
        "udev's MAC address policy",
        Paused,
        Doctor,
        [
            "ip link delete vxlan.heddle; ip link add vxlan.heddle type vxlan id 1 dstport 8472 nolearning; mkdir -p /etc/systemd/network; printf '[Link]\\nMACAddressPolicy=persistent\\n' >/etc/systemd/network/99-default.link",
            "ip link delete vxlan.heddle; rm -r /etc/systemd/network",
        ],
        [
            "has a MAC address that udev may change",
            "ip link delete vxlan.heddle",
        ],
    ),
    fault(
        "a deleted FDB entry",
        Paused,
        Trace("node 10.32.3.1"),
        [
            "bridge fdb show dev vxlan.heddle | while read mac rest; do bridge fdb del $mac dev vxlan.heddle; done",
            "",
        ],
        ["does not know which peer", ""],
    ),
    fault(
        "a deleted route",
        Paused,
        Trace("node 10.32.3.1"),
        ["ip route delete 10.32.3.0/24", ""],
        ["is missing, and the packet leaves the cluster", ""],
    ),
    fault(
        "a deleted neighbour",
        Paused,
        Trace("node 10.32.3.1"),
        ["ip -6 neighbour flush nud permanent dev vxlan.heddle", ""],
        ["does not know the MAC", ""],
    ),
    fault(
        "blocked UDP",
        Fabric,
        Doctor,
        [
            "nft 'table inet fault { chain c { type filter hook forward priority 0; udp dport 8472 drop; }; }'",
            "nft delete table inet fault",
        ],
        [
            "n3 is unreachable: no probe through the overlay is answered: is UDP port 8472 open",
            "let the port through",
        ],
    ),
    fault(
        "UDP blocked one way",
        Fabric,
        Doctor,
        [
            "nft 'table inet fault { chain c { type filter hook forward priority 0; ip daddr 192.0.2.13 udp dport 8472 drop; }; }'",
            "nft delete table inet fault",
        ],
        [
            "though n3's own arrive: what this node sends to UDP port 8472 is lost",
            "let the port through",
        ],
    ),
    fault(
        "a wrong MTU",
        Fabric,
        Doctor,
        [
            "nft 'table inet fault { chain c { type filter hook forward priority 0; udp dport 8472 meta length > 1400 drop; }; }'",
            "nft delete table inet fault",
        ],
        [
            "n3: small packets pass and those of 1450 bytes, which pods send, do not",
            "mtu N",
        ],
    ),
    fault(
        "broken checksums",
        Fabric,
        Doctor,
        [
            "nft 'table inet fault { chain c { type filter hook forward priority 0; udp dport 8472 udp checksum set 0x1234; }; }'",
            "nft delete table inet fault",
        ],
        [
            "UDP packets came with a wrong checksum",
            "ethtool -K eth0 tx off rx off",
        ],
    ),
    fault(
        "a dead peer",
        Fabric,
        Doctor,
        ["ip link set n3 down", "ip link set n3 up"],
        [
            "n3 is unreachable: nothing answers at 192.0.2.13",
            "heddle forget n3",
        ],
    ),
];
