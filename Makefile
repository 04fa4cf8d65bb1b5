# Two commands for a person: `make run` and `make test`. The rest is for who works on Tollway.

.DEFAULT_GOAL := help
SHELL := /bin/bash

# An empty value means "unset" to Python: without compiled bytecode every start is seconds slower.
export PYTHONDONTWRITEBYTECODE :=

ENGINE ?= sim
ARGS ?=

# Which Python `.venv` is made with; left out, deploy/setup.sh finds one.
PYTHON ?=
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Only what was asked for is overridden, so that a tollway.toml of your own keeps its addresses.
OVERRIDES := $(if $(HOST),TOLLWAY__LISTEN__HOST='$(HOST)') $(if $(PORT),TOLLWAY__LISTEN__PORT='$(PORT)') \
	$(if $(ADMIN_PORT),TOLLWAY__ADMIN__PORT='$(ADMIN_PORT)') \
	$(if $(filter-out sim,$(ENGINE)),TOLLWAY__MODELS__0__LAUNCH__ENGINE='$(ENGINE)')

# The suite is dealt out to so many processes, one more than two cores, since its long tests wait half of their time; what
# is marked `wide` is for WIDE=1 alone (tests/README.md).
JOBS ?= 3
PYTEST = $(BIN)/python -m pytest -p tests.dealing -n $(JOBS) --dist loadscope $(if $(WIDE),,-m "not wide")

.PHONY: help unsound run test test-quick test-all test-vllm test-wheel bench lint types imports check docs lock clean

help:  ## Show this help.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# One whose Python is gone, or is none of ours, is made anew, whatever it says of itself.
$(READY): pyproject.toml deploy/requirements/dev.txt $(shell deploy/setup.sh --sound $(VENV) || echo unsound)
	@PYTHON='$(PYTHON)' deploy/setup.sh $(VENV)
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

test-wheel: $(READY)  ## Test the built wheel outside the checkout, on the lowest versions that it takes.
	@$(BIN)/python -m pytest tests/wheel --timeout 900 $(ARGS)

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
	$(LOCK) --extra embedded --resolution lowest-direct --upgrade -o deploy/requirements/lowest.txt

clean:  ## Remove what was installed and built; data/ stays.
	rm -rf .venv .venv-* tests/bench/tools/build bench-results/run-* dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
