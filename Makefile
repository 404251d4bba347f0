# `make demo` separates two real recordings, `make test` checks the code, the pages and what quick tests can show,
# `make slow` runs the tests that take long, `make docs` builds the pages into site/.
# Each sets up .venv first if it is not there.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test slow check docs

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py --out out

# Tests run side by side with one thread each. One more than two cores have fills the times in which a test waits for
# other processes.
JOBS ?= 3
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

test: $(VENV)/.test check docs
	$(PYTEST)

# Killed clusters and batches, the peak of memory of long recordings, trainings of two processes, the pages' examples.
slow: $(VENV)/.test
	$(PYTEST) -m "slow and not gpu"

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Strict: a warning fails the build (with --quiet none would be counted). The variable silences an announcement that the
# theme prints.
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps make a second run quick: pip runs again only when what it would install has changed.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing audiosep and torch into $(VENV) (once, some minutes)"
	$(INSTALL) --editable . matplotlib
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing audiosep and what its tests need into $(VENV) (once, some minutes)"
	$(INSTALL) --editable ".[train,eval,formats,loudness,ray,onnx,openvino,demucs,openunmix,roformer,corpus,studio,docs,dev]"
	@touch $@
