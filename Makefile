PYTHON ?= python3
BIN := .venv/bin
# Two test workers with one thread each, instead of one worker with two: the suite is many small calls.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

.PHONY: demo test test-all lint types fix clean

demo: .venv/installed            ## train, evaluate, predict and report on embedded data
	$(BIN)/fullconv demo

test: .venv/installed            ## the quick suite
	$(PYTEST) -m "not slow and not gpu" --cov --cov-report=term:skip-covered

test-all: .venv/installed        ## the quick suite and the slow tests
	$(PYTEST) -m "not gpu"

lint: .venv/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/pyright

fix: .venv/installed
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

.venv/installed: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis .coverage runs
