# Everything is cached outside the checkout, by version; a second checkout starts at once.
PYTHON ?= python3
XDG_CACHE_HOME ?= $(HOME)/.cache
KUBEKEEL_CACHE ?= $(XDG_CACHE_HOME)/kubekeel

NAME ?= lab
DISTRIBUTION ?= microk8s
# plain or, with K3s, split. Without a number, the topology's own counts.
TOPOLOGY ?= plain
SERVERS ?=
AGENTS ?=

LOCK := tests/requirements.lock
VENV := $(KUBEKEEL_CACHE)/venv/$(shell { cat $(LOCK); $(PYTHON) --version; } | sha256sum | cut -c1-12)
LAB := python -m lab
UP := $(LAB) up --name $(NAME) --distribution $(DISTRIBUTION) --topology $(TOPOLOGY) $(SERVERS:%=--servers %) $(AGENTS:%=--agents %)
INVENTORY := inventories/$(NAME)

export PATH := $(CURDIR)/bin:$(CURDIR)/.venv/bin:$(PATH)
export KUBEKEEL_CACHE
# A collection that is installed elsewhere must not stand in for this checkout.
unexport ANSIBLE_COLLECTIONS_PATH

# `make test` runs two at a time, in this order, the longest first.
TESTS := test-microk8s test-k3s test-command test-chaos test-kernel test-pod-sysctls test-fleet test-rules

.PHONY: help setup lab-requirements test-requirements lab-up lab-down demo lint test test-all $(TESTS) chaos test-scenarios fuzz \
  bench bench-failover bench-fleet lock
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/complete ## Install what kubekeel and its tests need, in a virtual environment
	@ln -sfn $(VENV) .venv
	@mkdir -p .collections/ansible_collections/kubekeel
	@ln -sfn ../../.. .collections/ansible_collections/kubekeel/ha

$(VENV)/complete:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'Installing python3-venv'; apt-get update -qq && apt-get install -qq --no-install-recommends python3-venv; }
	@echo 'Installing Python packages into $(VENV)'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/pip install --quiet --no-deps --disable-pip-version-check -r $(LOCK)
	@touch $@

lab-requirements: setup
	@$(LAB) requirements $(if $(filter vm,$(DISTRIBUTION)),--vm)

test-requirements: setup
	@$(LAB) requirements --tests

lab-up: lab-requirements ## Start a real cluster (NAME=lab DISTRIBUTION=microk8s TOPOLOGY=plain SERVERS=3 AGENTS=0)
	@$(UP)

lab-down: setup ## Remove it
	@$(LAB) down --name $(NAME)

demo: REPORT = kubekeel report --format html --output
demo: CHOSEN = --inventory $(INVENTORY)
demo: lab-up ## Audit a real cluster, remediate it under traffic, verify it, lose its leader, take it all back
	@mkdir -p reports
	kubekeel audit $(CHOSEN)
	kubekeel plan $(CHOSEN)
	kubekeel lab traffic --name $(NAME) -- kubekeel remediate $(CHOSEN)
	$(REPORT) reports/remediate.html
	kubekeel verify $(CHOSEN)
	kubekeel drill $(CHOSEN) --confirm $(NAME)
	$(REPORT) reports/drill.html
	kubekeel rollback $(CHOSEN)
	@echo 'Reports for a browser are in reports/. The cluster is yours to look at (see lab/README.md); kubekeel lab down removes it.'

lint: setup ## Run the linters and type checks
	ruff check .
	ruff format --check .
	mypy kubekeel lab tests molecule/kernel/tests
	mypy -p ansible_collections.kubekeel.ha.plugins
	yamllint --strict .
	ansible-lint --offline


test: test-requirements ## Run the tests: rules, clusters, faults, a Molecule scenario (about an hour)
	@$(MAKE) --jobs=2 --keep-going --output-sync=line $(TESTS)

# Also what shows in one more way, at another step or on another topology, what a test of `make test` shows.
test-all: export KUBEKEEL_TESTS = all
test-all: test test-scenarios fuzz ## Run all tests there are, every fault at every step (some three hours)

test-rules: test-requirements ## Run the tests that need no cluster, and a tenth of the fuzzing
	pytest tests/unit tests/integration/test_alerts.py tests/integration/test_via.py
	KUBEKEEL_FUZZ=0.1 pytest tests/fuzz

test-microk8s test-k3s test-command test-pod-sysctls test-fleet: lab-requirements
	pytest tests/integration/$(subst -,_,$@).py

test-chaos: lab-requirements
	pytest --verbose tests/integration/test_chaos.py

chaos: export KUBEKEEL_TESTS = all
chaos: test-chaos ## Let every fault strike at every step of a remediation (more than an hour)

# Of the scenarios the one that nothing else here shows: test-microk8s and test-k3s do what the others do, and more.
test-kernel: lab-requirements
	@if $(LAB) requirements --vm; then molecule test --scenario-name kernel; else echo 'test-kernel: skipped, since QEMU cannot be installed here'; fi

test-scenarios: lab-requirements ## Run the Molecule scenarios whose nodes are containers
	molecule test --all --exclude kernel

fuzz: setup ## Give modules and readers inputs that are nearly right (KUBEKEEL_FUZZ=10 for ten times as many)
	pytest tests/fuzz

bench: lab-requirements ## Time a run with nothing to do beside a ping
	python tests/bench.py

# Small clusters of their own, which are removed.
bench-fleet: CLUSTERS = 30
bench-fleet: PARALLEL = 10
bench-fleet: lab-requirements ## Audit and remediate a fleet of small clusters (CLUSTERS=30 PARALLEL=10)
	python -m tests.bench_fleet --clusters $(CLUSTERS) --parallel $(PARALLEL) $(OPTIONS)

# A lab of its own, which is replaced and removed.
bench-failover: NAME = bench
bench-failover: DISTRIBUTIONS = microk8s k3s
bench-failover: SOAK_MINUTES = 15
bench-failover: lab-requirements ## Lose the leader with every set of values (DISTRIBUTIONS="microk8s k3s" SOAK_MINUTES=15)
	python tests/bench_failover.py --name $(NAME) --distributions "$(DISTRIBUTIONS)" --soak-minutes $(SOAK_MINUTES) $(OPTIONS)

lock: setup ## Pin the newest versions that pyproject.toml allows
	pip-compile --quiet --all-extras --strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate --upgrade --output-file $(LOCK) pyproject.toml
