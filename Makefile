# Everything that is done to this repository has a target here. Plain `make`
# lists them. What a target needs and can't find is installed (scripts/lib.sh).

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
ENGINE  ?=
ROUNDS  ?= 200
ARGS    ?=
export ENGINE ROUNDS

.DEFAULT_GOAL := help
.PHONY: help build run test test-fast race differential peers check generate specindex fuzz bench crash chaos chaos-broken rolling random mutants badinput balancers university setup clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  ENGINE=sqlite or ENGINE=postgres narrows test, test-fast, race, bench and crash to one database."
	@echo "  COUNT=20 repeats test-fast and peers."

build: ## build the server: bin/stoa
	@scripts/need go golang
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X stoa/internal/ops.version=$(VERSION)' -o bin/stoa ./cmd/stoa

run: build ## build and serve on http://127.0.0.1:8008, with data in ./data
	bin/stoa serve

test: ## run all tests: both engines, race detector, differential, real clients
	@scripts/test all

test-fast: ## run the tests of the server's own module only
	@scripts/test fast

race: ## run the tests with the race detector, of the packages that share memory between goroutines
	@scripts/test race

differential: ## compare the protocol core with two other implementations
	@scripts/test differential

peers: ## let real, unmodified clients talk through the server
	@scripts/test peers

check: ## format, vet, staticcheck, vulnerabilities, layers, references, generated files
	@scripts/check

generate: ## write the generated files anew (sample settings, docs/settings.md, metrics, coverage)
	$(GO) run ./internal/devtools/generate

specindex: ## make the pinned index of the specification anew from ../shared/spec
	$(GO) run ./internal/devtools/specindex -spec ../shared/spec

fuzz: ## run every fuzz target for FUZZTIME each (10s)
	@scripts/fuzz

bench: build ## measure against floors (ARGS="-only cluster -seconds 5"); prints: name value unit ratio-to-floor
	@scripts/bench $(ARGS)

crash: build ## kill the server ROUNDS times (200) on each engine and look for losses
	@scripts/crash

chaos: build ## ten minutes of failing instances (ARGS="-minutes 1 -seed 7 ..."), judged by a program
	@scripts/chaos $(ARGS)

chaos-broken: build ## show that the judge of chaos finds a build that does not compare heads
	@scripts/chaos broken $(ARGS)

rolling: ## upgrade three instances under load, from deploy/upgrade-from and back
	@scripts/rolling

random: build ## random acts and syncs: what clients compute is what the server knows (ARGS="-seeds 20 -engine sqlite -compare OTHER ...")
	@scripts/random $(ARGS)

mutants: ## show that tests find a stale read, a lost wake-up and a dropped request (ARGS="-only NAME")
	@scripts/mutants $(ARGS)

badinput: build ## send malformed requests to every endpoint served
	@scripts/badinput

balancers: build ## use the examples in deploy/ as they are: HAProxy, Caddy, nginx, compose, systemd
	@scripts/balancers

university: build ## 26,015 accounts, 23,400 connections: latency and memory (ARGS="-minutes 2 -runs one ...", "-load lecture", "-load flood")
	@scripts/university $(ARGS)

setup: ## install what the other targets need (Go itself excepted)
	@scripts/setup

clean: ## remove what was built
	rm -rf bin
