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
.PHONY: help setup demo test fast lint format types parity clean

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

# Goes on from the committed nano weights for a few hundred steps, then scores three methods on the same videos.
DEMO := $(BIN)/python cli.py
NANO := --config configs/sam2long/nano.yaml
TRAINED := --ckpt_path runs/demo/train/checkpoints/last.ckpt
demo: setup  ## train and compare on generated clips, in under ten minutes on two cores
	rm -rf runs/demo
	$(DEMO) fit $(NANO) --trainer.default_root_dir runs/demo/train
	$(DEMO) test $(NANO) --model common.baselines.CopyFirstMask --trainer.default_root_dir runs/demo/copy
	$(DEMO) test $(NANO) --config configs/sam2long/sam2.yaml $(TRAINED) --trainer.default_root_dir runs/demo/sam2
	$(DEMO) test $(NANO) $(TRAINED) --trainer.default_root_dir runs/demo/sam2long
	$(DEMO) leaderboard runs/demo --output runs/demo/leaderboard.md

test: setup $(VENV)/.parity  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

fast: setup  ## the tests that take a moment only
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m "not slow"

parity: $(VENV)/.parity  ## only the tests against other implementations
	$(BIN)/python -m pytest -q -m parity

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
