# Every task in this repository has a target here; plain `make` lists them.
# Targets install the programs that they need and can't find (scripts/lib.sh).

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
ENGINE  ?=
ROUNDS  ?= 200
ARGS    ?=
export ENGINE ROUNDS

.DEFAULT_GOAL := help
.PHONY: help build run test test-fast race differential peers rust-peer check generate specindex fuzz bench crash chaos chaos-broken rolling random complement clamav mutants badinput siege balancers university setup clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  ENGINE=sqlite or ENGINE=postgres narrows test, test-fast, race, bench and crash to one database."
	@echo "  COUNT=20 repeats test-fast and peers."

build: ## build the server: bin/stoa (minutes the first time, then seconds)
	@scripts/need go golang
	@[ -x bin/stoa ] || echo "Building bin/stoa. The first time this takes some minutes; each package is named as its compilation begins."
	CGO_ENABLED=0 $(GO) build -v -trimpath -buildvcs=false -ldflags '-s -w -X stoa/internal/ops.version=$(VERSION)' -o bin/stoa ./cmd/stoa

run: build ## build, then serve on http://127.0.0.1:8008 with data in ./data
	@echo "Serving on http://127.0.0.1:8008 with data in ./data, unless settings say otherwise. Stop with Ctrl-C."
	bin/stoa serve

test: ## run all tests (a quarter of an hour): both engines, race detector, differential, real clients
	@scripts/test all

test-fast: ## run the tests of the server's own module only
	@scripts/test fast

race: ## run the race detector on the packages that share memory between goroutines
	@scripts/test race

differential: ## compare the protocol core with two other implementations
	@scripts/test differential

peers: ## test the server with real, unmodified clients
	@scripts/test peers

rust-peer: build ## test the server with matrix-rust-sdk (ARGS="-only sliding"), if cargo and its registry can be had
	@scripts/rust-peer $(ARGS)

check: ## format, vet, staticcheck, vulnerabilities, layers, references, generated files
	@scripts/check

generate: ## regenerate files (sample settings, docs/settings.md, metrics, coverage, packages)
	$(GO) run ./internal/devtools/generate

specindex: ## rebuild the pinned index of the specification from ../shared/spec
	$(GO) run ./internal/devtools/specindex -spec ../shared/spec

fuzz: ## run every fuzz target for FUZZTIME each (10s)
	@scripts/fuzz

bench: build ## measure against floors (ARGS="-only cluster -seconds 5"); prints: name value unit ratio-to-floor
	@scripts/bench $(ARGS)

crash: build ## kill the server ROUNDS times (200) on each engine and look for lost data
	@scripts/crash

chaos: build ## let instances fail for ten minutes (ARGS="-minutes 1 -seed 7 ...") and check what clients saw
	@scripts/chaos $(ARGS)

chaos-broken: build ## show that the checker of chaos finds a build that does not compare heads
	@scripts/chaos broken $(ARGS)

rolling: ## upgrade three instances under load, from deploy/upgrade-from and back
	@scripts/rolling

random: build ## random actions and syncs: clients must compute the state that the server has (ARGS="-seeds 20 -engine sqlite -compare OTHER ...")
	@scripts/random $(ARGS)

complement: build ## run the public conformance suite (COMPLEMENT=checkout, ARGS="tests/csapi"), if it can be had
	@scripts/complement $(ARGS)

clamav: ## test the virus scanner setting with Debian's ClamAV, if it can be had
	@scripts/clamav

mutants: ## show that tests find a stale read, a lost wake-up and a dropped request (ARGS="-only NAME")
	@scripts/mutants $(ARGS)

badinput: build ## send malformed requests to every endpoint served
	@scripts/badinput

siege: build ## attack a server with default settings in 1 GiB while people chat (ARGS="-minutes 2 -only bodies,floods")
	@scripts/siege $(ARGS)

balancers: build ## test the unchanged examples in deploy/: HAProxy, Caddy, nginx, compose, systemd
	@scripts/balancers

university: build ## 26,015 accounts, 23,400 connections: latency and memory (ARGS="-minutes 2 -runs one ...", "-load lecture", "-load flood")
	@scripts/university $(ARGS)

setup: ## install what the other targets need, except Go
	@scripts/setup

clean: ## remove the built programs
	rm -rf bin
