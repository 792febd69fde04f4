# The two commands: `make demo` and `make test`. Each makes the environment (.venv) where it is not there.
#
#   make test TORCH="torch --index-url URL"   another build of torch than the one in constraints.txt
#   make test SYSTEM_SITE=1                   use the torch that is already installed on this machine (a GPU build)

PYTHON ?= python3
VENV ?= .venv
TORCH ?=
SYSTEM_SITE ?=
BIN := $(VENV)/bin
# pip would replace an installed torch to satisfy the exact pin; without that line any torch in the range stays.
CONSTRAINTS := $(VENV)/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test fast coverage gpu lint format types parity clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.done  ## create .venv and install (done by the others where needed)

$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed" if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(if $(SYSTEM_SITE),--system-site-packages) $(VENV)
	$(if $(TORCH),$(BIN)/python -m pip install $(TORCH))
	if $(BIN)/python -c 'import torch' 2>/dev/null; then grep -v '^torch==' constraints.txt; else cat constraints.txt; fi > $(CONSTRAINTS)
	$(BIN)/python -m pip install -c $(CONSTRAINTS) -e '.[dev]'
	touch $@

# The reference implementation for the parity tests: without its dependencies, which bring torchvision and another torch.
$(VENV)/.parity: $(VENV)/.done
	@if $(BIN)/python -m pip install -q -c $(CONSTRAINTS) 'setuptools>=77' wheel 'hydra-core>=1.3.2,<2' 'iopath>=0.1.10' tqdm \
	  && SAM2_BUILD_CUDA=0 $(BIN)/python -m pip install -q --no-deps --no-build-isolation 'sam2>=1.1,<2'; \
	then touch $@; \
	else echo "The sam2 package could not be installed: the parity tests will be skipped."; fi

# Every method is fine-tuned briefly from its committed nano weights, then all are scored on the same videos. Finished steps
# are not repeated: a second call prints at once; `rm -r runs/tiny` starts over.
demo: setup  ## train and compare all methods on generated clips, and correct by clicks; under twelve minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python cli.py leaderboard --run configs/leaderboards/tiny.yaml --jobs 2 --output runs/tiny/leaderboard.md
	$(BIN)/python cli.py report runs/tiny --output runs/tiny/report.html
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/clicks.py

test: setup $(VENV)/.parity  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

fast: setup  ## the tests that take a moment only
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow"

coverage: setup  ## the same, and the share of lines that they run
	OMP_NUM_THREADS=1 VIDSEG_TEST_SECONDS=0 $(BIN)/python -m pytest -q -n 2 -m "not slow" --cov --cov-report=term

parity: $(VENV)/.parity  ## only the tests against other implementations
	$(BIN)/python -m pytest -q -m parity

# GPU build of torch: see TORCH and SYSTEM_SITE above. DEVICE=cpu runs the same script at small sizes.
DEVICE ?= cuda
gpu: setup  ## all methods on a GPU: same answers as on the CPU, and how fast
	$(BIN)/python benchmarks/gpu.py --device $(DEVICE) --output runs/gpu.json

lint: setup  ## style and format, changing nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## mend style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup  ## static types
	$(BIN)/mypy

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
