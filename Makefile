# Everything a fresh machine needs is Python 3.11 or later, make and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEERS := build/peers

.PHONY: demo test lint bench reliability clean

demo: $(READY)  ## Train with and without CutMix on the built-in pictures, and print what came of it.
	$(BIN)/cutmix demo

test: $(READY)  ## Run all tests, the README's code among them.
	$(BIN)/python -m pytest -n 2
	$(BIN)/python -m pytest -n 2 --override-ini addopts=--import-mode=importlib tests/graphs

lint: $(READY)  ## Format, lint, types, import floors.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ty check
	$(BIN)/lint-imports

bench: $(READY) $(PEERS)/.ready  ## Measure what everything costs, and the op beside its peers; results go to benchmarks/results.
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/loop_overhead.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/plan.py
	$(BIN)/python benchmarks/loss.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/sharded.py
	$(BIN)/python benchmarks/op_growth.py
	$(BIN)/python benchmarks/op_threads.py
	PYTHONPATH=$(PEERS) $(BIN)/python benchmarks/op_speed.py
	PYTHONPATH=$(PEERS) $(BIN)/python benchmarks/scaling.py
	PYTHONPATH=$(PEERS) $(BIN)/python benchmarks/triton_gpu.py

reliability: $(READY)  ## Kill, cut and interrupt real runs, and write down what came of it: half an hour.
	$(BIN)/python -m reliability
	$(BIN)/python docs/update.py

clean:  ## Remove the environment and what was run.
	rm -rf $(VENV) runs build

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cutmix needs Python 3.11 or later: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

# A folder of their own, seen by the benchmark alone, keeps the library's environment clean and shares its torch.
$(PEERS)/.ready: benchmarks/peers.txt $(READY)
	rm -rf $(PEERS)
	mkdir -p $(PEERS)
	grep -v '^#' benchmarks/peers.txt | while read -r package; do \
		$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --target $(PEERS) "$$package" < /dev/null \
		|| echo "could not be installed, and is left out: $$package"; \
	done
	touch $@
