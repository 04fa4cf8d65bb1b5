# Two commands for a person: `make run` and `make test`. The rest is for who works on Tollway.

.DEFAULT_GOAL := help
SHELL := /bin/bash

# An empty value means "unset" to Python: without compiled bytecode every start is seconds slower.
export PYTHONDONTWRITEBYTECODE :=

HOST ?= 127.0.0.1
PORT ?= 8080
ADMIN_PORT ?= 9090
ENGINE ?= sim

PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help run test lint types imports check lock

help:  ## Show this help.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml deploy/requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "tollway: Python 3.11 or 3.12 is needed and none was found (set PYTHON=/path/to/python3)" >&2; exit 1; }
	@rm -rf .venv
	$(PYTHON) -m venv .venv || { echo "tollway: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: $(READY)  ## Serve on embedded defaults: Redis, two replicas, the gateway. ENGINE=vllm for real vLLM.
ifeq ($(ENGINE),vllm)
	@deploy/vllm/install.sh .venv-vllm
endif
	@exec env TOLLWAY__LISTEN__HOST=$(HOST) TOLLWAY__LISTEN__PORT=$(PORT) TOLLWAY__ADMIN__PORT=$(ADMIN_PORT) \
		TOLLWAY__MODELS__0__LAUNCH__ENGINE=$(ENGINE) $(BIN)/tollway up

test: $(READY)  ## Run the whole test suite against a real redis-server.
	$(BIN)/python -m pytest

lint: $(READY)  ## Check layout and style.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## Check types.
	$(BIN)/mypy

imports: $(READY)  ## Check who may import whom.
	$(BIN)/lint-imports

check: lint types imports test  ## Everything CI runs.

lock:  ## Pin every dependency anew (needs uv).
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --extra embedded pyproject.toml -o deploy/requirements/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --extra embedded --group dev pyproject.toml -o deploy/requirements/dev.txt
