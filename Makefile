# The one interface to this project: `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv-test
PYTHON := $(VENV)/bin/python
SERVERS := $(PYTHON) Tests/Support/servers.py run --
EVAL := $(firstword $(wildcard ../shared/eval) $(EVAL_DIR))
# The Swift runtime is part of the program: it starts without a toolchain, and is some 5 % faster at work.
RELEASE := swift build -c release --static-swift-stdlib
SOURCES := Package.swift Sources Tests Examples Benchmarks/BareServer

.PHONY: help run build test lint format generate deps test-deps servers demo eval bench schemathesis durability rolling models window simulate tsan asan fuzz chaos limits embedded-bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

run: build ## Build a release and start the gateway with the environment's settings
	exec .build/release/memory-gateway

build: deps ## Build a release
	$(RELEASE) --product memory-gateway

test: test-deps ## Run all tests against real servers, which it starts and stops itself
	swift test --disable-xctest

lint: ## Check format, generated files and house rules; changes nothing
	swift format lint --strict --parallel --recursive $(wildcard $(SOURCES))
	scripts/generate.sh --check
	scripts/check-house-rules.sh

format: ## Format all Swift sources in place
	swift format --in-place --parallel --recursive $(wildcard $(SOURCES))

generate: ## Write migrations/ and collections/ into the sources
	scripts/generate.sh

deps: ## Install the system packages that building needs
	@scripts/install-packages.sh build

test-deps: ## Install what the tests need as well: PostgreSQL, and a Python environment with the other two servers
	@scripts/install-packages.sh build test
	@scripts/install-python.sh $(VENV)

servers: build test-deps ## Start PostgreSQL, Valkey and Qdrant on free ports, and a shell with their variables
	$(SERVERS) $(SHELL)

demo: build test-deps ## Start the three servers in a temporary folder, and the gateway on 8090 with them
	$(SERVERS) .build/release/memory-gateway

eval: build test-deps ## Measure retrieval on the LoCoMo conversations of ../shared/eval, or of EVAL_DIR
	@test -n "$(EVAL)" || { echo "set EVAL_DIR to the folder with run_eval.py"; exit 1; }
	scripts/eval.sh "$(EVAL)" $(PYTHON) servers embedded lexical transfer

bench: build test-deps ## Measure speed and memory against the floor of the machine (some four minutes; BENCH=--long: fifteen)
	@scripts/install-packages.sh bench
	$(RELEASE) --product BareServer
	$(SERVERS) $(PYTHON) Benchmarks/bench.py .build/release/memory-gateway .build/release/BareServer \
		$(if $(wildcard ../shared/bench),--stand-ins ../shared/bench) --output docs/performance.md $(BENCH)

schemathesis: build test-deps ## Let schemathesis try every route of the served description, more than 20,000 cases
	scripts/schemathesis.sh $(CURDIR)/.build/release/memory-gateway $(CURDIR)/$(VENV)

durability: build test-deps ## kill -9 the gateway under load, and look for what it had acknowledged
	$(SERVERS) $(PYTHON) Tests/Support/durability.py .build/release/memory-gateway

rolling: build test-deps ## Two gateways behind nginx, stopped and killed in turn under load: no request may fail
	@scripts/install-packages.sh rolling
	$(SERVERS) $(PYTHON) Tests/Support/rolling.py .build/release/memory-gateway

models: ## Check the protocol's models with Spin (some four minutes; MODELS=--fast: one)
	Tests/Models/run.sh $(MODELS)

window: build test-deps ## Two gateways, one cut off from Valkey: measure how long the other serves what is old
	$(SERVERS) $(PYTHON) Tests/Support/window.py .build/release/memory-gateway

simulate: test-deps ## Live through faults by their seeds (SIMULATION_SEEDS=1000, SIMULATION_FIRST=1); some four a second
	SIMULATION_SEEDS=$(or $(SIMULATION_SEEDS),1000) SIMULATION_FIRST=$(or $(SIMULATION_FIRST),1) \
		swift test --disable-xctest --filter Simulation

tsan: test-deps ## Run the tests under the thread sanitizer
	TSAN_OPTIONS="suppressions=$(CURDIR)/Tests/Support/tsan.supp" \
		swift test --disable-xctest --sanitize=thread --scratch-path .build-tsan

# Leaks are left out: what is found at the end are objects of Foundation's Process and of the tests themselves.
asan: test-deps ## Run the tests under the address sanitizer
	ASAN_OPTIONS=detect_leaks=0 swift test --disable-xctest --sanitize=address --scratch-path .build-asan

fuzz: deps ## Let libFuzzer look for inputs that trap, under the address sanitizer (FUZZ_SECONDS=60 for each target)
	Tests/Fuzz/run.sh $(or $(FUZZ_SECONDS),60)

chaos: build test-deps ## Break everything that can break, and write what held to docs/reliability.md (ten minutes; CHAOS=--long: hours)
	@scripts/install-packages.sh bench
	$(PYTHON) Tests/Chaos/chaos.py .build/release/memory-gateway --output docs/reliability.md $(CHAOS)

limits: build test-deps ## Half a processor and 200 MB, from 8 to 512 connections; writes docs/reliability.md (two minutes; LIMITS=--verbose)
	@scripts/install-packages.sh bench
	$(PYTHON) Tests/Chaos/limits.py .build/release/memory-gateway --output docs/reliability.md $(LIMITS)

embedded-bench: build ## Measure the embedded gateway: speed, memory, and what kill -9 costs (some five minutes)
	python3 Tests/Support/embedded_bench.py .build/release/memory-gateway

clean: ## Remove what was built
	rm -rf .build $(VENV)
