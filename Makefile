PYTHON ?= python3
BIN := .venv/bin
ECOSYSTEM := .venv-ecosystem/bin
# Two test workers with one thread each, instead of one worker with two: the suite is many small calls.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

.PHONY: demo test test-slow test-ecosystem lint types fix clean

demo: .venv/installed            ## train, evaluate, predict and report on embedded data
	$(BIN)/fullconv demo

test: .venv/installed            ## the quick suite; with COV=1 it reports coverage, and takes a third longer
	$(PYTEST) -m "not slow and not gpu" $(if $(COV),--cov --cov-report=term:skip-covered)

test-slow: .venv/installed       ## the slow tests
	$(PYTEST) -m "slow and not gpu"

test-ecosystem: .venv-ecosystem/installed   ## networks of other projects; writes docs/coverage.md, or checks it with CHECK=1
	OMP_NUM_THREADS=1 $(ECOSYSTEM)/pytest -n 2 tests/ecosystem $(if $(CHECK),--check-coverage)

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

# Another PyTorch, and the networks of other projects: 6 GB.
.venv-ecosystem/installed: constraints-ecosystem.txt pyproject.toml
	$(PYTHON) -m venv .venv-ecosystem
	$(ECOSYSTEM)/python -m pip install --quiet --disable-pip-version-check --constraint constraints-ecosystem.txt \
		--editable . torchvision timm segmentation_models_pytorch monai braindecode \
		hypothesis pytest pytest-timeout pytest-xdist
	touch $@

clean:
	rm -rf .venv .venv-ecosystem .pytest_cache .ruff_cache .hypothesis .coverage runs
