# The commands of this repository. `make` alone lists them. Each works by itself on a fresh clone: it makes .venv first.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PY := .venv/bin/python
# Any Python 3 that runs can make the environment (deploy/local/setup.py says which one the environment then gets).
ANY_PYTHON = $(shell for p in python3 /usr/bin/python3 /usr/local/bin/python3 python3.13 python3.12 \
	"$$HOME"/.pyenv/versions/3*/bin/python3 python; do \
	timeout 10 "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 6))' 2>/dev/null && { echo "$$p"; break; }; done)

.PHONY: help setup up test check lint-fix bench soak-books cpython screenshots fuzz lock generated clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv: find a Python, install the locked dependencies, build libzigcore.so
	@test -n "$(ANY_PYTHON)" || { echo "setup: no Python 3 runs here; install one (on Debian: apt-get install python3)"; exit 1; }
	@"$(ANY_PYTHON)" deploy/local/setup.py

up: setup ## start everything on this machine and call examples/hello (ARGS="--gateway-port 8081 …")
	@exec .venv/bin/tailcut-server up $(ARGS)

test: setup ## the checks, the Zig tests and pytest, with a summary: what CI runs (ARGS="-k parser" go to pytest)
	@"$(ANY_PYTHON)" deploy/local/packages.py
	@$(PY) tests/run.py all $(ARGS)

check: setup ## the checks only: lint, types, import rules, repository rules, formats, generated files
	@$(PY) tests/run.py checks

lint-fix: setup ## let ruff and zig fmt repair what they can
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format . ; $(PY) -m ziglang fmt zigcore

bench: setup ## our gateway beside nine others in one run, three quarters of an hour (ARGS="--quick": some five minutes)
	@$(PY) -m tests.bench $(ARGS)

soak-books: setup ## 100,000 calls, 50 times kill -9, and the books must balance to the unit (ARGS="--seed 7 --calls 20000")
	@$(PY) -m tests.usage $(ARGS)

cpython: setup ## CPython's own test suite in jailed workers: what fails there, and why that is meant
	@$(PY) -m tests.cpython

screenshots: setup ## take docs/screenshots anew: every page, light and dark, desktop and phone (ARGS="billing tiers": these)
	@"$(ANY_PYTHON)" deploy/local/packages.py
	@$(PY) -m tests.browser.screenshots $(ARGS)

fuzz: setup ## feed the parsers mutated input for FUZZ_SECONDS each (default 60)
	@$(PY) tests/run.py fuzz --seconds $(or $(FUZZ_SECONDS),60)

lock: setup ## resolve pyproject.toml anew into requirements.lock, with hashes
	@$(PY) -m uv pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-header \
		--no-emit-package tailcut pyproject.toml --group dev --group bench -o requirements.lock $(ARGS)

generated: setup ## write the committed files that programs generate (docs/openapi.json)
	@$(PY) -m tests.generated --write

clean: ## remove .venv, caches and built files; var/ (data of `make up`) stays
	@rm -rf .venv .bootstrap .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache \
		zigcore/.zig-cache zigcore/zig-out gateway/core/libzigcore.so gateway/core/_zigcore_abi.py
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
