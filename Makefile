.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
WORKERS ?= 2
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
# Editable in strict mode: `data`, `modeling` and `retrieval` are importable as parts of tercet only.
EDITABLE := -e ".[dev]" --config-settings editable_mode=strict

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(VENV)/.installed  ## a .venv with the development extras, by uv where it is installed, else pip

# Strict mode links file by file, so a new file needs installing again.
$(VENV)/.installed: setup.cfg pyproject.toml $(shell find src data modeling retrieval -name '*.py')
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

quickstart: models  ## adapt a small model to a corpus of bookmarks, and report
	$(BIN)/python train.py recipes/quickstart.yaml

test: install weaviate  ## all tests, against a real Weaviate, by WORKERS processes (2)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not weaviate" -n $(WORKERS) --dist loadfile
	eval "$$(scripts/weaviate.sh env)" && OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m weaviate

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p tercet

weaviate:  ## start a real Weaviate on this machine, if none runs
	scripts/weaviate.sh start

weaviate-stop:  ## stop it, and keep its data
	scripts/weaviate.sh stop

bench: models weaviate  ## time every stage, metrics, indexes and the ingest beside their peers
	$(BIN)/python -m pip install --quiet "ranx>=0.3.21"
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/teacher.py
	$(BIN)/python benchmarks/generate.py
	$(BIN)/python benchmarks/in_batch.py
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/indexes.py
	eval "$$(scripts/weaviate.sh env)" && $(BIN)/python benchmarks/ingest.py

.PHONY: help install models quickstart test lint weaviate weaviate-stop bench
