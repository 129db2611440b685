# Each target makes its own virtual environment (.venv) when it is missing or older than pyproject.toml.
# Needs Python 3.11 or newer and a package index; nothing else. `make` alone lists the targets.
#   PYTHON=…     the interpreter to make .venv with (default: the first of python3, python3.13 … that is new enough)
#   PIP_ARGS=…   more arguments for pip, for example another index with a smaller build of torch
#   ARGS=…       more arguments for pytest (make test) or the demo (make demo)
#   MODULES=…    what make mutate changes (default: the rules, the work, the trees and the fork choice)
#   SECONDS=…    how long make fuzz fuzzes in all; TARGET=… one decoder only; KEEP=1 replaces the corpus by what was found
#   KILLS=…      how often make check-store kills; FAULTS=… calls of each kind that make check-io lets fail; SEED=…
#   NODES=…      nodes of make check-net; PERTURBATIONS=… what is done to them

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
.PHONY: help demo test simulate lint bench check-store check-io check-net check-hostile coverage mutate fuzz clean

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
PIP_ARGS ?=
ARGS ?=
KILLS ?= 200
FAULTS ?= 6
SEED ?= 1
MODULES ?= $(addprefix consensus/,validation.py work.py merkle.py chain.py)
BENCHES = $(sort $(wildcard tests/bench/bench_*.py))

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

demo: $(VENV)/.producer ## a network of four nodes, a producer and an audit on this machine (at most 2 minutes)
	@$(BIN)/facechain demo $(ARGS)

test: $(VENV)/.dev ## all tests (about 12 minutes on two cores)
	@marks='not gpu'; \
	if ! command -v chromium chromium-browser google-chrome >/dev/null; then \
	  echo 'make test: no Chromium found, so the browser tests are left out (install: apt-get install chromium)' >&2; \
	  marks="$$marks and not browser"; \
	fi; \
	if ! strace -qq -o /dev/null true 2>/dev/null; then \
	  echo 'make test: no strace that may trace, so the tests of failing system calls are left out (install: apt-get install strace)' >&2; \
	  marks="$$marks and not strace"; \
	fi; \
	if ! unshare --net --mount sh -c 'ip link add fc-a type veth peer name fc-b && iptables -n -L' >/dev/null 2>&1; then \
	  echo 'make test: no right to make network namespaces, or no iproute2 or iptables, so the tests on hosts of their own are left out (as root: apt-get install iproute2 iptables)' >&2; \
	  marks="$$marks and not netns"; \
	fi; \
	$(BIN)/pytest -m "$$marks" --durations=15 --durations-min=2 $(ARGS)

simulate: $(VENV)/.dev ## whole nodes through faults and attacks on a virtual clock, SEEDS=200 runs from SEED on
	@PYTHONPATH=tests $(BIN)/python tests/simulation/simulate.py --seeds $(or $(SEEDS),200) --first-seed $(SEED)

lint: $(VENV)/.dev ## ruff, mypy --strict, import contracts, Dockerfile; all of them, then fails if one did
	@failed=''; \
	check() { echo "== $$*" >&2; "$(BIN)/$$@" || failed="$$failed $$1"; }; \
	check ruff check .; \
	check ruff format --check .; \
	check mypy; \
	check lint-imports --no-logo; \
	check hadolint docker/Dockerfile; \
	if [ -n "$$failed" ]; then echo "make lint: failed:$$failed" >&2; exit 1; fi; \
	echo 'make lint: clean' >&2

bench: $(VENV)/.dev ## measure what docs/ states
	@for bench in $(BENCHES); do echo "== $$bench" >&2; PYTHONPATH=tests $(BIN)/python "$$bench"; done

check-store: $(VENV)/.dev ## kill a process that writes a store KILLS times and check what is left
	@PYTHONPATH=tests $(BIN)/python tests/fault/check_store.py --kills $(KILLS) --seed $(SEED)

check-io: $(VENV)/.dev ## let system calls on a store fail and flip its bits (needs strace)
	@PYTHONPATH=tests $(BIN)/python tests/fault/check_io.py --per-call $(FAULTS) --seed $(SEED)

check-hostile: $(VENV)/.dev ## a hundred attacks on a real node; WITHOUT_DEFENCE=1 takes each defence out; ONLY=… one attack
	@PYTHONPATH=tests $(BIN)/python tests/hostile/check_hostile.py --seed $(SEED) $(if $(WITHOUT_DEFENCE),--without-defence) $(if $(RECORD),--record) $(addprefix --only ,$(ONLY))

check-net: $(VENV)/.dev ## NODES=8 real nodes on hosts of their own through PERTURBATIONS=30 perturbations (needs root, iproute2, iptables)
	@PYTHONPATH=tests $(BIN)/python tests/netns/check_net.py --nodes $(or $(NODES),8) --perturbations $(or $(PERTURBATIONS),30) --seed $(SEED)

coverage: $(VENV)/.dev ## branch coverage of consensus/ by its unit tests: 100%, or it fails
	@$(BIN)/pytest -q tests/unit/consensus --cov=facechain.consensus --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100 --timeout=600 $(ARGS)

mutate: $(VENV)/.dev ## change MODULES in every way mutmut knows, in a copy of the last commit; their tests must notice
	@nice $(BIN)/python tests/mutation/mutate.py $(MODULES)

fuzz: $(VENV)/.dev ## fuzz every decoder for SECONDS=60 in all, or one of them with TARGET=name
	@PYTHONPATH=tests $(BIN)/python -m fuzz.driver --seconds $(or $(SECONDS),60) --seed $(SEED) $(if $(TARGET),--target $(TARGET)) $(if $(KEEP),--keep)

clean: ## remove the virtual environment, builds and caches
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# What pip has to say goes to stderr: the last line of `make demo` on stdout is the demo's.
$(VENV)/bin/python:
	@python='$(PYTHON)'; \
	if [ -z "$$python" ]; then \
	  for name in python3 python3.13 python3.12 python3.11 python3.14; do \
	    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="$$name"; break; fi; \
	  done; \
	fi; \
	if ! "$${python:-false}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	  echo "make: expected Python 3.11 or newer, got $$("$${python:-python3}" --version 2>&1 || true); install it, or name one: make PYTHON=/path/to/python3.12 …" >&2; exit 1; \
	fi; \
	echo "make: creating $(VENV) with $$("$$python" --version)" >&2; \
	"$$python" -m venv $(VENV) >&2 || { rm -rf $(VENV); \
	  echo "make: expected a Python with the venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

define install
	@echo 'make: installing facechain-node[$(1)] into $(VENV); the first time this takes minutes (torch is large)' >&2
	@$(BIN)/python -m pip install --progress-bar off $(PIP_ARGS) -e '.[$(1)]' \
	  | sed -u -n 's/^Collecting /  resolving /p; s/^Installing collected.*/  unpacking (this is the slow part)/p; s/^Successfully installed.*/  installed/p' >&2
endef

$(VENV)/.producer: pyproject.toml | $(VENV)/bin/python
	$(call install,producer)
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(call install,producer$(comma)dev)
	@touch $(VENV)/.producer $@

comma := ,
