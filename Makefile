# Everything a newcomer types. The virtual environment is made once and again only when what it installs has changed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Whatever a site sets for its own Python: no installation beside the environment, and no packages counted that are not in it.
OWN := env -u PYTHONPATH PIP_USER=0 $(BIN)/python
PIP := $(OWN) -m pip
OUT ?= outputs/quickstart

.PHONY: help quickstart test quick lint typecheck networks clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

quickstart: $(STAMP)  ## Run the quick-start study on the bundled digits and write its report
	$(BIN)/python -m recipes run recipes/studies/quickstart.yaml --out "$(OUT)"

test: $(STAMP) lint typecheck  ## Run every check and every test
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

quick: $(STAMP) lint typecheck  ## Run every check, and the tests that start no run; the pre-push hook
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m 'not run'

lint: $(STAMP)  ## Check style and the layers of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

typecheck: $(STAMP)  ## Check types
	$(BIN)/mypy

networks: $(STAMP)  ## Print every network beside the papers' numbers
	$(BIN)/python -m common.models

clean:  ## Remove runs and caches, keep the virtual environment
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(STAMP): pyproject.toml constraints.txt $(wildcard common/data/augment/bicubic_kernel/*)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --version > /dev/null 2>&1 || $(OWN) -m ensurepip \
		|| { echo "No pip in $(VENV). Install Python's venv (Debian: apt install python3-venv), or remove $(VENV)"; exit 1; }
	$(PIP) install --quiet --upgrade pip
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)
