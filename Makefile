# Everything a person or a machine does with this repository. `make` alone says what there is.
#
#   PYTHON   the interpreter to build environments with (3.11 or later; found by itself)
#   VENV     the environment of the tests (.venv)
#   WORKERS  processes that the tests run in, each with servers of its own (3)
#   PYTEST   further words for pytest, for example PYTEST='-k restore -x'

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

SUPPORTED := 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c $(SUPPORTED) 2>/dev/null && { echo "$$p"; break; }; done)
VENV ?= .venv
DEMO_VENV ?= build/demo-venv
WORKERS ?= 3
PYTEST ?=

# An environment is up to date while its stamp, named by the hash of its locks, is there.
hash = $(shell cat $(1) | sha256sum | cut -c1-16)
DEV_STAMP = $(VENV)/.locked-$(call hash,requirements.lock requirements-build.lock)
DEMO_STAMP = $(DEMO_VENV)/.locked-$(call hash,requirements-demo.lock requirements-build.lock)

.PHONY: help
help:
	@echo "make demo         a bucket, a database, a dry run, an execute and a restore, on this machine"
	@echo "make example-app  a FastAPI application with s3gc and its console inside, on this machine"
	@echo "make demo-cluster the same on a Kubernetes: this machine's own (Linux, root), or KUBECONFIG and IMAGE"
	@echo "make test         linters, types and all tests against real servers"
	@echo "make lint         ruff, mypy, import-linter and the generated files, without the tests"
	@echo "make soak         500 random kills, 500 seeds of live writers a level: hours (S3GC_SOAK_MINUTES bounds them)"
	@echo "make bench        benchmarks beside their peers, about ten minutes; see docs/performance.md"
	@echo "make bench-large  10,000,000 objects and references in at most 1 GiB"
	@echo "make tools        build MinIO, versitygw, s5cmd, Kubernetes and Helm (about 15 minutes, once)"
	@echo "make cluster      start a Kubernetes on this machine and keep it; cluster-down ends it"
	@echo "make lock         make the lock files anew"
	@echo "make clean        remove environments and caches of this folder"

# --- environments ---------------------------------------------------------------------------

.PHONY: python
python:
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c $(SUPPORTED); then \
		name="$(or $(PYTHON),python3)"; \
		echo "s3gc needs Python 3.11 or later; $$name is $$("$$name" --version 2>&1 || echo missing)." >&2; \
		echo "Install one (Debian: apt install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12 …" >&2; \
		exit 1; fi

# $(call environment,FOLDER,LOCK,EDITABLE,STAMP): uv from pip, everything else from the lock by uv.
# A folder that is already an environment is kept, and what is not in the lock is removed from it.
define environment
	@echo "installing $(2) into $(1)"
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1) || { \
		echo "Could not make a virtual environment; on Debian: apt install python3-venv" >&2; rm -rf $(1); exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(1)/bin/python -m ensurepip >/dev/null
	@$(1)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-build.lock
	@$(1)/bin/uv pip sync -q --python $(1)/bin/python --require-hashes $(2) requirements-build.lock
	@$(1)/bin/uv pip install -q --python $(1)/bin/python --no-deps --no-build-isolation $(3) .
	@rm -f $(1)/.locked-* && touch $(4)
endef

$(DEV_STAMP): | python
	$(call environment,$(VENV),requirements.lock,-e,$@)

$(DEMO_STAMP): | python
	$(call environment,$(DEMO_VENV),requirements-demo.lock,-e,$@)

.PHONY: venv
venv: $(DEV_STAMP)

# --- to use ---------------------------------------------------------------------------------

.PHONY: demo
demo: $(DEMO_STAMP)
	@$(DEMO_VENV)/bin/s3gc demo $(DEMO)

.PHONY: example-app
example-app: venv
	@$(VENV)/bin/python -m examples.fastapi_app.start $(EXAMPLE)

.PHONY: demo-cluster
demo-cluster: packages venv tools
	@IMAGE="$(IMAGE)" $(VENV)/bin/python tools/demo_cluster.py

# --- to develop -----------------------------------------------------------------------------

.PHONY: packages tools cluster cluster-down lint test soak
packages:
	@tools/test-packages.sh

tools: venv
	@$(VENV)/bin/python tests/testbed/tools.py build
	@$(VENV)/bin/python -m tests.testbed.mysqltree

cluster: packages venv tools
	@$(VENV)/bin/python tests/testbed/cluster.py up

cluster-down: venv
	@$(VENV)/bin/python tests/testbed/cluster.py down

lint: venv
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy --strict
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python tools/generated.py --check

test: packages venv tools lint
	$(VENV)/bin/python -m pytest -m "not soak" -n $(WORKERS) $(PYTEST)

soak: packages venv tools
	$(VENV)/bin/python -m pytest -m soak --timeout=0 -s $(PYTEST)

# --- to measure -----------------------------------------------------------------------------

.PHONY: bench bench-large
bench: packages venv tools
	$(VENV)/bin/python -m benchmarks run $(BENCH)

bench-large: packages venv tools
	$(VENV)/bin/python -m benchmarks large $(BENCH)

# --- upkeep ---------------------------------------------------------------------------------

.PHONY: lock generated clean clean-bench
lock: venv
	UV=$(VENV)/bin/uv tools/lock.sh --upgrade

generated: venv
	$(VENV)/bin/python tools/generated.py

clean:
	rm -rf build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache bench-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

clean-bench:
	rm -rf "$${S3GC_TOOLS:-$$HOME/.cache/s3gc-testbed}/bench"
