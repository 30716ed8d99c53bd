# Each target is the one command: it makes .venv and installs what it needs when that is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One process a core; the tests of a file stay together, for they share what takes long to make.
SPREAD := -n auto --dist loadfile
# Each process of the tests would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick lint check format

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[weights,export,dev]'
	touch $(STAMP)

demo: $(STAMP)  ## trains a detector on real handwritten digits and writes its report
	$(BIN)/trivet demo

test: $(STAMP)  ## every test
	$(BIN)/pytest $(SPREAD)

quick: $(STAMP)  ## the tests that take seconds
	$(BIN)/pytest $(SPREAD) -m 'not slow'

lint: $(STAMP)  ## format, lint, types, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## all that is asked of a change

format: $(STAMP)  ## put the sources in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
