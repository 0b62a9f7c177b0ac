// SPDX-License-Identifier: Apache-2.0
// The fast path: established connections between pods of different nodes pass the bridge, netfilter and routing by.
//
// What leaves by a link has been through all of that, and our nftables rule has marked it if its connection is established
// and not translated: `learn_*` writes down by which link and with which Ethernet addresses it left. What then comes in of
// the same connection and direction is sent the same way by `replay_*`, for a second: after that one packet takes the slow
// path again, so that routes, rules and the connection's timer are never passed by for longer. No packet is replayed that
// is longer than one that went the slow way in that second: an MTU that shrinks is noticed there. Whatever is not understood
// here (fragments, options, the beginning and the end of TCP, other protocols) takes the slow path.
//
// `make fast-path` compiles it; the object is committed, because building Heddle shall not need a compiler for BPF.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// The bit of the mark that the rule sets: MARK in overlay-daemon/src/fast_path.rs.
#define MARK 0x20000000
// Nanoseconds for which a way is good.
#define LIFETIME 1000000000ULL
// IP_DF apart, what makes a packet a fragment (include/net/ip.h: IP_MF, IP_OFFSET).
#define FRAGMENT 0x3fff
// FIN, SYN and RST in the fourteenth byte of a TCP header (RFC 9293, section 3.1).
#define ENDS 0x07

struct flow {
	__be32 source[4];
	__be32 destination[4];
	__be32 ports;
	__u8 protocol;
	// Whether it comes from another node.
	__u8 inbound;
	__u16 unused;
};

struct way {
	__u64 learned;
	__u32 link;
	// Of the packets that went this way without us, the length of the longest IP packet on the wire.
	__u32 longest;
	// Destination and source, as they stand in the Ethernet header.
	__u8 addresses[2 * ETH_ALEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct flow);
	__type(value, struct way);
} ways SEC(".maps");

// Ethernet, IPv6 and what is looked at of TCP.
#define LOOKED_AT (ETH_HLEN + sizeof(struct ipv6hdr) + 14)

struct packet {
	struct ethhdr *eth;
	struct iphdr *v4;
	struct ipv6hdr *v6;
	// Of the IP packet, or of each that a large one is to be cut into.
	__u32 length;
};

// Reads the headers; false for what takes the slow path.
static __always_inline int parse(struct __sk_buff *skb, __u8 inbound, struct packet *packet, struct flow *flow)
{
	if (skb->data_end - skb->data < LOOKED_AT &&
	    bpf_skb_pull_data(skb, skb->len < LOOKED_AT ? skb->len : LOOKED_AT))
		return 0;
	void *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) > end)
		return 0;
	__u8 *transport;
	packet->eth = eth;
	packet->v4 = 0;
	packet->v6 = 0;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end || ip->ihl != 5 || ip->frag_off & bpf_htons(FRAGMENT) || ip->ttl < 2)
			return 0;
		flow->source[3] = ip->saddr;
		flow->destination[3] = ip->daddr;
		flow->protocol = ip->protocol;
		transport = (void *)(ip + 1);
		packet->v4 = ip;
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(eth + 1);
		if ((void *)(ip + 1) > end || ip->hop_limit < 2)
			return 0;
		__builtin_memcpy(flow->source, &ip->saddr, sizeof(flow->source));
		__builtin_memcpy(flow->destination, &ip->daddr, sizeof(flow->destination));
		flow->protocol = ip->nexthdr;
		transport = (void *)(ip + 1);
		packet->v6 = ip;
	} else {
		return 0;
	}
	__u32 header;
	if (flow->protocol == IPPROTO_TCP) {
		if ((void *)(transport + 14) > end || transport[13] & ENDS)
			return 0;
		header = (transport[12] >> 4) * 4;
	} else if (flow->protocol == IPPROTO_UDP) {
		if ((void *)(transport + 8) > end)
			return 0;
		header = 8;
	} else {
		return 0;
	}
	__builtin_memcpy(&flow->ports, transport, sizeof(flow->ports));
	flow->inbound = inbound;
	packet->length = skb->len - ETH_HLEN;
	if (skb->gso_size)
		packet->length = (packet->v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) + header + skb->gso_size;
	return 1;
}

static __always_inline int learn(struct __sk_buff *skb, __u8 inbound)
{
	if (!(skb->mark & MARK))
		return TC_ACT_UNSPEC;
	// It is between the rule and us, and nobody else's business.
	skb->mark &= ~MARK;
	struct packet packet = {};
	struct flow flow = {};
	if (!parse(skb, inbound, &packet, &flow))
		return TC_ACT_UNSPEC;
	struct way way = {
		.learned = bpf_ktime_get_coarse_ns(),
		.link = skb->ifindex,
		.longest = packet.length,
	};
	__builtin_memcpy(way.addresses, packet.eth, sizeof(way.addresses));
	struct way *known = bpf_map_lookup_elem(&ways, &flow);
	if (known && known->link == way.link && known->longest > way.longest && way.learned - known->learned < LIFETIME) {
		// A longer packet went this way a moment ago: its second is not over, and not made longer either.
		way.longest = known->longest;
		way.learned = known->learned;
	}
	bpf_map_update_elem(&ways, &flow, &way, BPF_ANY);
	return TC_ACT_UNSPEC;
}

static __always_inline struct way *replay(struct __sk_buff *skb, __u8 inbound)
{
	struct packet packet = {};
	struct flow flow = {};
	if (!parse(skb, inbound, &packet, &flow))
		return 0;
	struct way *way = bpf_map_lookup_elem(&ways, &flow);
	if (!way || bpf_ktime_get_coarse_ns() - way->learned >= LIFETIME || packet.length > way->longest)
		return 0;
	__builtin_memcpy(packet.eth, way->addresses, sizeof(way->addresses));
	if (packet.v4) {
		// As ip_decrease_ttl of include/net/ip.h does it.
		__u32 check = packet.v4->check + bpf_htons(0x0100);
		packet.v4->check = check + (check >= 0xffff);
		packet.v4->ttl--;
	} else if (packet.v6) {
		packet.v6->hop_limit--;
	}
	return way;
}

// At the egress of the VXLAN device.
SEC("classifier") int learn_outbound(struct __sk_buff *skb)
{
	return learn(skb, 0);
}

// At the egress of a pod's veth.
SEC("classifier") int learn_inbound(struct __sk_buff *skb)
{
	return learn(skb, 1);
}

// At the ingress of a pod's veth.
SEC("classifier") int replay_outbound(struct __sk_buff *skb)
{
	struct way *way = replay(skb, 0);
	return way ? bpf_redirect(way->link, 0) : TC_ACT_UNSPEC;
}

// At the ingress of the VXLAN device: into the pod's network namespace.
SEC("classifier") int replay_inbound(struct __sk_buff *skb)
{
	struct way *way = replay(skb, 1);
	return way ? bpf_redirect_peer(way->link, 0) : TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Apache-2.0";
