# make setup | demo | test | lint.  Another interpreter: make setup PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: setup demo test lint

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	touch $@

# Dubs the example clip and scores the mouth against the true one.
demo: setup
	$(BIN)/latentsync demo --out outputs/demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# One thread for each of the two workers: more would fight for the cores.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2
