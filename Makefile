# Everything a fresh machine needs is Python 3.11 or later, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint bench clean

demo: $(READY)  ## Train with and without CutMix on the built-in pictures, and print what came of it.
	$(BIN)/cutmix demo

test: $(READY)  ## Run all tests, the README's code among them.
	$(BIN)/python -m pytest -n 2

lint: $(READY)  ## Format, lint, types, import floors.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ty check
	$(BIN)/lint-imports

bench: $(READY)  ## Measure what the machinery costs; results go to benchmarks/results.
	$(BIN)/python benchmarks/loop_overhead.py
	$(BIN)/python benchmarks/import_time.py

clean:  ## Remove the environment and what was run.
	rm -rf $(VENV) runs build

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cutmix needs Python 3.11 or later: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
