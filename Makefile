# Two commands for a person: `make run` and `make test`. The rest is for who works on Tollway.

.DEFAULT_GOAL := help
SHELL := /bin/bash

# An empty value means "unset" to Python: without compiled bytecode every start is seconds slower.
export PYTHONDONTWRITEBYTECODE :=

ENGINE ?= sim
ARGS ?=

# A name on PATH may be a shim that does not run: each is tried, with what `venv` needs.
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python ~/.pyenv/versions/3.1[12].*/bin/python; do \
	$$p -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What it warns of are folders that somebody's pip.conf names and that are not there: errors are told.
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

# Only what was asked for is overridden, so that a tollway.toml of your own keeps its addresses.
OVERRIDES := $(if $(HOST),TOLLWAY__LISTEN__HOST='$(HOST)') $(if $(PORT),TOLLWAY__LISTEN__PORT='$(PORT)') \
	$(if $(ADMIN_PORT),TOLLWAY__ADMIN__PORT='$(ADMIN_PORT)') \
	$(if $(filter-out sim,$(ENGINE)),TOLLWAY__MODELS__0__LAUNCH__ENGINE='$(ENGINE)')

# The suite is dealt out to so many processes; what is marked `wide` is for WIDE=1 alone (tests/README.md).
JOBS ?= 2
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(if $(WIDE),,-m "not wide")

.PHONY: help run test test-quick test-all test-vllm bench lint types imports check docs lock clean

help:  ## Show this help.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml deploy/requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "tollway: Python 3.11 or 3.12 with venv is needed and none was found;" \
		"set PYTHON=/path/to/python3 (on Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV) && \
		echo "tollway: setting up $(VENV) with $$($(PYTHON) --version)" >&2 && $(PYTHON) -m venv $(VENV); }
	@echo "tollway: installing the pinned dependencies, once" >&2
	@$(PIP) install --require-hashes -r deploy/requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

run: $(READY)  ## Serve on embedded defaults (HOST, PORT, ADMIN_PORT override). ENGINE=vllm runs real vLLM.
ifeq ($(ENGINE),vllm)
	@deploy/vllm/install.sh .venv-vllm
endif
	@exec env $(OVERRIDES) $(BIN)/tollway up $(ARGS)

test: $(READY)  ## Run the test suite against a real redis-server, in six minutes. ARGS="-k name" narrows it.
	@$(PYTEST) $(ARGS)

test-quick: $(READY)  ## Run its unit and property tests alone, in one minute.
	@$(PYTEST) tests/unit tests/property $(ARGS)

test-all: $(READY)  ## Run it whole, with what is marked `wide`; on real vLLM and the other Pythons too, where they are.
	@tests/elsewhere.sh WIDE=1
	@$(PYTEST) $(ARGS)

test-all: WIDE := 1

test-vllm: $(READY)  ## Run the tests that need real vLLM (its CPU build, installed once). ARGS="-k name" narrows it.
	@deploy/vllm/install.sh .venv-vllm
	@$(BIN)/python -m pytest tests/vllm -rP --show-capture=stdout $(ARGS)

bench: $(READY)  ## Measure beside routers that only route (tests/bench/README.md). ARGS="--profile" tells where time goes.
	@exec $(BIN)/python -m tests.bench $(ARGS)

lint: $(READY)  ## Check layout and style.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## Check types.
	$(BIN)/mypy

imports: $(READY)  ## Check who may import whom.
	$(BIN)/lint-imports

check: lint types imports test  ## Everything CI runs.

docs: $(READY)  ## Write anew what is generated: the config reference and the dashboard.
	$(BIN)/python -m proxy.settings.reference >deploy/config-reference.md
	$(BIN)/python -m dashboards.build

LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	--custom-compile-command "make lock" pyproject.toml

lock:  ## Pin every dependency anew (needs uv).
	$(LOCK) -o deploy/requirements/run.txt
	$(LOCK) --extra embedded --group dev -o deploy/requirements/dev.txt

clean:  ## Remove what was installed and built; data/ stays.
	rm -rf .venv .venv-* tests/bench/tools/build bench-results/run-* dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
