# All commands of the project. `make help` lists them.
#
# `make serve` and `make test` need Python 3.11 or newer (with venv), make, and a package registry that pip can reach;
# no root, no daemon, no other package. What they install goes into .venv; a stamp in it makes the next call immediate.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules

override VENV := .venv
ARGS ?=
# The interpreter of the virtual environment; by default the first of these that is 3.11 or newer.
PYTHON ?=
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11

RUN := $(VENV)/bin/python
SERVE := $(VENV)/.ready-to-serve
TEST := $(VENV)/.ready-to-test
# Tests run in parallel, on as many workers as there are CPUs (JOBS=0: in one process, one by one).
# Compiled files are kept regardless of the environment: otherwise each worker would compile them at each run.
JOBS ?= auto
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(RUN) -m pytest --numprocesses=$(JOBS) --maxprocesses=4 --dist=loadgroup
# Progress is one line; pip's whole output goes into the log, which a failure names.
INSTALL_LOG := $(VENV)/install.log

# A virtual environment whose interpreter is gone (a moved folder, an upgraded system) is created again.
ifneq ($(wildcard $(VENV)/pyvenv.cfg),)
$(shell $(RUN) -c '' >/dev/null 2>&1 || rm -rf $(VENV))
endif

# Finds the interpreter, or prints what is missing and how to install it.
define FIND_PYTHON
found=; old=; \
for candidate in $(or $(PYTHON),$(PYTHONS)); do \
	path=$$(command -v "$$candidate" 2>/dev/null) || continue; \
	if "$$path" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$path; break; fi; \
	old="$$old $$candidate is $$("$$path" --version 2>&1 || true)."; \
done; \
if [ -z "$$found" ]; then \
	echo "make: Codex Server needs Python 3.11 or newer, and found none.$$old" >&2; \
	echo "      Install one (Debian 12, Ubuntu 24.04: apt install python3 python3-venv; Fedora: dnf install python3.12)," >&2; \
	echo "      or name one: make $(or $(MAKECMDGOALS),serve) PYTHON=/path/to/python3" >&2; exit 1; \
fi; \
if ! "$$found" -c 'import venv, ensurepip' 2>/dev/null; then \
	version=$$("$$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	echo "make: $$found cannot make virtual environments: its modules venv and ensurepip are not installed." >&2; \
	echo "      Install them (Debian, Ubuntu: apt install python3-venv, or python$$version-venv when that is not enough)," >&2; \
	echo "      or name another interpreter: make $(or $(MAKECMDGOALS),serve) PYTHON=/path/to/python3" >&2; exit 1; \
fi
endef

.PHONY: help
help: ## Show this list
	@echo 'make TARGET [ARGS="..."] [PYTHON=/path/to/python3]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: serve
serve: $(SERVE) ## Install what is needed and start the server on 127.0.0.1:8000 (ARGS="--port 9000")
	@exec $(RUN) -m codex_server serve $(ARGS)

.PHONY: test
test: $(TEST) ## Install what tests need and run all that must hold for a change (ARGS="-k name tests/api")
	@exec $(PYTEST) $(ARGS)

.PHONY: test-quick
test-quick: $(TEST) ## Run the quick tests: only the strongest level, nothing that installs, builds, floods or kills
	@CODEX_TEST_TIER=quick exec $(PYTEST) $(ARGS)

.PHONY: test-nightly
test-nightly: $(TEST) ## Run the exhaustive variants too: full lengths, full cross products, and the list of mutations
	@CODEX_TEST_TIER=nightly $(PYTEST) $(ARGS)
	@exec $(RUN) -m tests.mutation

.PHONY: check
check: $(TEST) ## Lint, format, types, layers, and that openapi.yaml and the generated pages are current
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(RUN) -m codex_server openapi --check openapi.yaml
	$(RUN) docs/generate.py --check

.PHONY: format
format: $(TEST) ## Format the code
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

.PHONY: bench
bench: $(TEST) ## Measure against bare interpreters on this machine and print the ratios
	@exec $(RUN) -m benchmarks $(ARGS)

.PHONY: load
load: $(TEST) ## Run a growing number of clients and print throughput, latency, rejections and memory (ARGS="--seconds 30")
	@exec $(RUN) -m benchmarks.load $(ARGS)

.PHONY: soak
soak: $(TEST) ## Run 20,000 mixed executions at each level and check that nothing is left behind (CODEX_SOAK=1000 for less)
	@CODEX_TEST_TIER=nightly exec $(PYTEST) tests/load/test_soak.py $(ARGS)

.PHONY: openapi
openapi: $(SERVE) ## Write openapi.yaml from the app
	$(RUN) -m codex_server openapi --output openapi.yaml

.PHONY: docs
docs: $(SERVE) ## Write the generated files: docs/cli.md, settings.md, problems.md, README.md's table, seccomp.json
	$(RUN) docs/generate.py

.PHONY: setup
setup: $(TEST) ## Only install, for serving and for tests

.PHONY: wheel
wheel: $(TEST) ## Build the wheel into dist/
	$(RUN) -m pip wheel . --no-deps --no-build-isolation --wheel-dir dist

.PHONY: lock
lock: ## Resolve the dependencies again and write requirements.lock
	@$(FIND_PYTHON); \
	fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	"$$found" -m venv "$$fresh"; \
	"$$fresh/bin/python" -m pip install --disable-pip-version-check --editable '.[dev]'; \
	{ sed -n '/^#/p' requirements.lock; \
	  "$$fresh/bin/python" -m pip freeze --disable-pip-version-check --exclude-editable | sort -f; } > requirements.lock.new; \
	mv requirements.lock.new requirements.lock

.PHONY: clean
clean: ## Remove the virtual environment, caches and builds (tokens and other state stay)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN):
	@$(FIND_PYTHON); \
	begun=$$(date +%s); printf 'Making $(VENV) with %s' "$$("$$found" --version)"; \
	"$$found" -m venv $(VENV); \
	echo ", $$(($$(date +%s) - begun)) s"

$(SERVE): pyproject.toml requirements.lock | $(RUN)
	@$(RUN) -m codex_server.packages "the server's packages" $(INSTALL_LOG) --constraint requirements.lock --editable '.[shell]'
	@touch $@

$(TEST): pyproject.toml requirements.lock | $(RUN)
	@$(RUN) -m codex_server.packages "the packages of the server and its tests" $(INSTALL_LOG) \
		--constraint requirements.lock --editable '.[dev]'
	@touch $@ $(SERVE)
