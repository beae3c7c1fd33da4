.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
WORKERS ?= 2
BIN := $(VENV)/bin
# A file is one process's, for its runs are shared; files begin in the order that conftest.py gives.
SHARED := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Bytecode is kept, for the tests start many programs.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest
UV := $(shell command -v uv 2>/dev/null)
# Editable in strict mode: `data`, `modeling` and `retrieval` are importable as parts of tercet only.
EDITABLE := -e ".[dev]" --config-settings editable_mode=strict

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18
	@echo
	@echo "Of Tercet alone, pip install tercet takes some 3 GB of downloads on Linux, most of them"
	@echo "CUDA's. Without a GPU: pip install tercet --extra-index-url https://download.pytorch.org/whl/cpu"

install: $(VENV)/.installed  ## a .venv with the development extras, by uv where it is installed, else pip

# Strict mode links file by file, so a new file needs installing again.
$(VENV)/.installed: setup.cfg pyproject.toml $(shell find src data modeling retrieval -name '*.py')
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1), and Tercet needs Python 3.11 or newer:" \
	    "make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
ifneq ($(UV),)
	test -d $(VENV) || $(UV) venv --seed --python $(PYTHON) $(VENV)
	$(UV) pip install --python $(BIN)/python $(EDITABLE)
else
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install $(EDITABLE)
endif
	@touch $@

models: install  ## the offline models and the bookmarks that the recipes here use
	$(BIN)/python scripts/fetch_models.py

models-multilingual: install  ## multilingual-e5-small, 4 bits a weight, for other languages than English
	$(BIN)/python scripts/fetch_models.py multilingual

quickstart: install  ## adapt a small model to a corpus of bookmarks, and report
	$(BIN)/tercet demo
	@echo "tercet is in $(VENV): type $(BIN)/tercet, or first: source $(BIN)/activate"

# A browser and the offline models are expected; what is skipped for want of them says so. The tests
# of Weaviate run beside the others, in one process, for they share the server.
test: install models weaviate  ## all tests but the longest, by WORKERS processes (2), with a real Weaviate
	@log=$$(mktemp); trap 'rm -f "$$log"; kill $$beside 2>/dev/null' EXIT; failed=0; \
	eval "$$(scripts/weaviate.sh env)"; \
	$(PYTEST) -m "weaviate and not long" $(FILES) >"$$log" 2>&1 & beside=$$!; \
	$(PYTEST) -m "not weaviate and not long" $(SHARED) $(FILES) || failed=$$?; \
	wait $$beside || failed=$$?; \
	cat "$$log"; \
	exit $$failed

test-fast: install  ## the tests that need no server and no browser, and some seconds each at most
	$(PYTEST) -m "not slow and not long and not browser and not weaviate" $(SHARED)

test-slow: install models weaviate  ## the longest tests, which `test` leaves out
	eval "$$(scripts/weaviate.sh env)"; $(PYTEST) -m long

# One process, for the table counts its own tests.
faults: install models weaviate  ## the tests of faults (kills, full disks, dead servers), and their table
	eval "$$(scripts/weaviate.sh env)"; $(PYTEST) --faults -q

N ?= 100
soak: install  ## kill and resume runs at N (100) random moments, and compare their bytes
	SOAK_KILLS=$(N) $(PYTEST) -q -s tests/test_soak.py::test_soak

fuzz: install  ## N mutated inputs (100) for each parser; `make fuzz N=2000` takes an hour
	FUZZ=$(N) $(PYTEST) -q -s -o timeout=0 tests/fuzz

lint: install  ## ruff, mypy, and the rule that an import points left
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p tercet
	$(BIN)/lint-imports

lock:  ## requirements-dev.lock: the versions and hashes of the tests' environment, by uv
	uv pip compile --quiet --python $(BIN)/python --extra dev --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate setup.cfg -o requirements-dev.lock

# Advisories come from the network; where they cannot be had, that is said, and nothing is vouched for.
audit: install  ## known vulnerabilities of the locked packages (pip-audit --strict)
	@$(BIN)/python -m pip install --quiet pip-audit && \
	  $(BIN)/python -m pip_audit --strict --disable-pip --require-hashes -r requirements-dev.lock || \
	  { echo "audit: vulnerable packages above, or no advisory data could be had: nothing is vouched for" >&2; exit 1; }

docs: install  ## the documentation, into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "site/index.html: serve it with $(BIN)/python -m http.server --directory site"

weaviate:  ## start a real Weaviate on this machine, if none runs
	scripts/weaviate.sh start

weaviate-stop:  ## stop it, and keep its data
	scripts/weaviate.sh stop

bench: models weaviate  ## time every stage, metrics, indexes and the ingest beside their peers
	$(BIN)/python -m pip install --quiet "ranx>=0.3.21"
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/teacher.py
	$(BIN)/python benchmarks/reranker_shapes.py
	$(BIN)/python benchmarks/generate.py
	$(BIN)/python benchmarks/in_batch.py
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/indexes.py
	eval "$$(scripts/weaviate.sh env)" && $(BIN)/python benchmarks/ingest.py

.PHONY: help install models models-multilingual quickstart test test-fast test-slow faults fuzz soak lock audit lint docs weaviate weaviate-stop bench
