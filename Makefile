# Heddle's everyday commands. `make demo` shows it, `make test` proves it; both want root (or sudo) for namespaces.
.DEFAULT_GOAL := build
.PHONY: build fast-path image test test-k8s soak demo bench bench-peers lint deps missing install clean

PROGRAMS := dist/heddle-cni dist/heddle
HOST    := $(shell rustc -vV | sed -n 's/^host: //p')
MUSL    := $(shell uname -m)-unknown-linux-musl
# What the shipped programs are built for: static musl where rustup has it, static glibc otherwise.
TARGET  := $(shell { rustup target list --installed 2>/dev/null | grep -qx $(MUSL) \
                     || rustup target add $(MUSL) >/dev/null 2>&1; } && echo $(MUSL) || echo $(HOST))
STATIC  := $(if $(filter %-musl,$(TARGET)),,-C target-feature=+crt-static)
# Loaded where it was linked for, a plugin has nothing to relocate, which is a third of its start. The daemon, which listens
# on the network, keeps its random addresses.
IN_PLACE := -C relocation-model=static
# The C in the TLS library needs no C library: any compiler does where there is none for musl.
export CC_$(subst -,_,$(MUSL)) ?= $(if $(shell command -v musl-gcc),musl-gcc,cc)
OUTPUT   = $(or $(CARGO_TARGET_DIR),target)
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo -E)
TOOLS   := $(CURDIR)/target/tools
FAST_PATH := overlay-daemon/bpf/fast_path
CNITOOL := github.com/containernetworking/cni/cnitool@v1.3.0
# Beside cnitool they would hide the `bridge` of iproute2.
PEERS   := $(TOOLS)/reference
PLUGINS := github.com/containernetworking/plugins
PEER_PLUGINS := main/bridge main/loopback ipam/host-local meta/portmap meta/bandwidth meta/firewall
FLANNEL := github.com/flannel-io/flannel
# One of its backends is a client of a cloud whose module is not to be had everywhere, and is not what is measured.
FLANNEL_SOURCE := $(PEERS)/flannel-source
FLANNEL_LEFT_OUT := pkg/backend/tencentvpc

# What the tests use when it is there: program (or file) and the Debian package that brings it.
PARTS := ip:iproute2 nft:nftables strace:strace /usr/lib/cni/bridge:containernetworking-plugins \
         containerd:containerd runc:runc podman:podman busybox:busybox-static etcd:etcd-server \
         iptables:iptables conntrack:conntrack chromium:chromium
ABSENT = $(foreach part,$(PARTS),$(shell command -v $(firstword $(subst :, ,$(part))) >/dev/null \
         || echo $(lastword $(subst :, ,$(part)))))

build: ## The static programs, in dist/
	RUSTFLAGS="$(RUSTFLAGS) $(STATIC)" cargo build --locked --profile dist --target $(TARGET) -p heddle
	RUSTFLAGS="$(RUSTFLAGS) $(STATIC)" cargo rustc --locked --profile dist-plugins --target $(TARGET) -p heddle-cni -- $(IN_PLACE)
	install -D -t dist $(OUTPUT)/$(TARGET)/dist-plugins/heddle-cni $(OUTPUT)/$(TARGET)/dist/heddle
	@stat -c '%n: %s bytes, for $(TARGET)' $(PROGRAMS)

image: build ## The container image for Kubernetes, dist/heddle-image.tar (`ctr image import`, `podman load`)
	cargo build --locked --quiet -p lab --bin image
	$(OUTPUT)/debug/image dist/heddle-image.tar

test: build missing ## All tests; what this machine lacks is skipped with the reason
	PATH="$(TOOLS):$$PATH" RUST_LIB_BACKTRACE=1 \
	cargo --config 'target.$(HOST).runner="$(or $(AS_ROOT),env)"' test --locked --workspace --no-fail-fast

test-k8s: build missing ## On a real Kubernetes, whose programs are in HEDDLE_K8S_BIN=dir
	HEDDLE_K8S_BIN="$(HEDDLE_K8S_BIN)" RUST_LIB_BACKTRACE=1 \
	cargo --config 'target.$(HOST).runner="$(or $(AS_ROOT),env)"' test --locked -p lab --test kubernetes

# Tests that have a long version; how long those that never end by themselves may take, in minutes.
SOAK    := crash power_loss faults churn fire
MINUTES ?= 10

soak: build missing ## The long versions of the tests of docs/reliability.md, with figures; MINUTES=10 for each endless one
	PATH="$(TOOLS):$$PATH" HEDDLE_SOAK=$(MINUTES) RUST_LIB_BACKTRACE=1 \
	cargo --config 'target.$(HOST).runner="$(or $(AS_ROOT),env)"' test --locked -p lab --no-fail-fast $(SOAK:%=--test %)

demo: build ## Three nodes, their pods and the packets between them, then nothing again
	cargo build --locked --quiet -p lab --bin demo
	@$(AS_ROOT) $(OUTPUT)/debug/demo

bench: build missing ## Ours beside the reference's and the kernel's floor, into docs/benchmarks (BENCH=pod,chain: those only)
	cargo build --locked --quiet --release -p lab --bin bench
	@$(AS_ROOT) $(OUTPUT)/release/bench

bench-peers: ## The newest reference plugins and flanneld, which `make bench` measures as well (wants Go and a C compiler)
	GOBIN=$(PEERS) go install $(addprefix $(PLUGINS)/plugins/,$(PEER_PLUGINS:%=%@latest))
	go version -m $(PEERS)/bridge | awk '$$1 == "mod" { print $$3 }' > $(PEERS)/VERSION
	rm -rf $(FLANNEL_SOURCE)
	module=$$(go mod download -json $(FLANNEL)@latest | sed -n 's/.*"Dir": "\(.*\)".*/\1/p') && \
	cp -r "$$module" $(FLANNEL_SOURCE) && chmod -R u+w $(FLANNEL_SOURCE) && cd $(FLANNEL_SOURCE) && \
	rm $(FLANNEL_LEFT_OUT)/*.go && echo 'package tencentvpc' > $(FLANNEL_LEFT_OUT)/none.go && \
	go build -ldflags '-s -w' -o $(PEERS)/flanneld . && echo "$${module##*@}" > $(PEERS)/FLANNEL_VERSION
	rm -rf $(FLANNEL_SOURCE)

fast-path: ## The object of the fast path's eBPF programs, anew (clang and llvm 14, libbpf-dev): it is committed
	clang -O2 -g -target bpf -Wall -I/usr/include/$(shell uname -m)-linux-gnu -c $(FAST_PATH).c -o $(FAST_PATH).o
	llvm-strip -g --remove-section=.BTF.ext $(FAST_PATH).o

lint: ## What a change has to pass besides the tests
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	@if clang --version 2>/dev/null | grep -q 'version 14'; then $(MAKE) fast-path && git diff --exit-code -- $(FAST_PATH).o; \
	 else echo "skipped: there is no clang 14 to compare the object of the fast path with its source"; fi
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; else echo "skipped: cargo-deny is not installed"; fi

missing: # Says which of the tests' parts are absent, and how to get them.
	@for package in $(ABSENT); do echo "not installed: $$package (make deps, or its tests are skipped)"; done

deps: ## Everything that the tests can use: Debian's packages, and the real cnitool where Go is
	$(if $(ABSENT),$(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -y --no-install-recommends $(ABSENT))
	@if command -v go >/dev/null; then GOBIN=$(TOOLS) go install $(CNITOOL) || echo "no cnitool: its tests are skipped"; \
	 else echo "not installed: go, so no cnitool: its tests are skipped"; fi

install: build ## Puts the plugins where this machine's runtimes look (see install.sh --help)
	$(AS_ROOT) ./install.sh

clean:
	cargo clean
	rm -rf dist
