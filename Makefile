# `make demo` and `make test` work on a fresh machine: the first target they need is a virtual environment.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/installed

.PHONY: demo test test-all check bench clean

$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/edgepass demo

test: $(STAMP)
	$(BIN)/python -m pytest -m 'not slow'

test-all: $(STAMP)
	$(BIN)/python -m pytest --hypothesis-profile=thorough

check: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q -m 'not slow and not export'

bench: $(STAMP)
	$(BIN)/python -m runtime_tests.bench

clean:
	rm -rf $(VENV) build *.egg-info demo-out
