# The two commands that a newcomer needs are `make demo` and `make test`; the rest is for those who change it.
# Everything runs in .venv, which this file makes; nothing is installed outside it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run
DEV_STAMP := $(VENV)/.dev

.PHONY: help demo test test-real test-faults test-models bench check format clean

help: ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(RUN_STAMP) ## speak a real text through the real pipeline, on embedded parts
	@$(BIN)/speechmill demo

test: $(DEV_STAMP) ## everything that needs no service and no torch
	$(BIN)/pytest -m "not real and not models and not bench"

test-real: $(DEV_STAMP) ## the same pipeline on Apache Kafka and a MinIO server, provisioned here
	$(BIN)/python -m tests.services provision
	$(BIN)/pytest -m real

test-faults: $(DEV_STAMP) ## workers killed under load, on Apache Kafka; KILLS=100 makes it long
	$(BIN)/python -m tests.services provision
	$(BIN)/pytest -s -m "fault and real"

test-models: $(DEV_STAMP) ## what needs torch
	@if grep -rq "mark\.models" tests --include='test_*.py'; then $(BIN)/pytest -m models; \
	else echo "make test-models: no engine of this release needs torch, so there is nothing to run"; fi

bench: $(DEV_STAMP) ## figures, each against a baseline of the same run; ROUNDS=1 is quick
	$(BIN)/python -m tests.services provision
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[peers]'
	$(BIN)/python -m tests.benchmarks.hibari_lanes
	$(BIN)/python -m tests.benchmarks.table $(ROWS)

check: $(DEV_STAMP) ## style, types, and the way the imports run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## put the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what this file made
	rm -rf $(VENV) .speechmill .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[hibari,local]'
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[hibari,local,registry,dev]'
	@touch $@ $(RUN_STAMP)
