# `make demo` and `make test` work on a fresh machine: the first target they need is a virtual environment.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
# Two workers of a thread each: each imports the converters, 1 to 2 GB. A file's tests stay together, for what they share
# is made once. The files that export come first, see conftest.py, so that both workers end together.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
STAMP = $(VENV)/installed

.PHONY: demo test test-all check bench clean

$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --no-deps timm facenet-pytorch
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/edgepass demo

test: $(STAMP)
	$(PYTEST) -m 'not slow'

test-all: $(STAMP)
	$(PYTEST) --hypothesis-profile=thorough

check: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(PYTEST) -q -m 'not slow and not export'

bench: $(STAMP)
	$(BIN)/python -m runtime_tests.bench

clean:
	rm -rf $(VENV) build *.egg-info demo-out
