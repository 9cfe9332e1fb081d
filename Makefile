# Every target sets up what it needs in .venv; PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help demo bench bench-scores test test-slow notebooks lint clean

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/ready: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: .venv/ready   ## the three posteriors on penguins: table, picture, files in results/penguins
	$(BIN)/bayeslin compare data/penguins.csv --control 20 --out results/penguins

.venv/bench: .venv/ready
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

bench: .venv/bench   ## speed: compilation, efficiency, overhead, sizes, other programs, into benchmarks/speed.md
	$(BIN)/python benchmarks/speed.py

bench-scores: .venv/ready   ## held-out scores of every law, noise and hyperparameter, into benchmarks/predictive.md
	$(BIN)/python benchmarks/predictive.py

# One process for each core; a file stays in one process, so that its fits are made once.
PYTEST := python -m pytest -n auto --dist loadfile

test: .venv/ready   ## the default suite, doctests included
	$(BIN)/$(PYTEST)

test-slow: .venv/ready   ## what takes longer: calibration at full size, a network of 100 layers of 1000
	$(BIN)/$(PYTEST) -m slow

notebooks: .venv/ready   ## execute the notebooks again, in place
	$(BIN)/python notebooks/execute.py

lint: .venv/ready   ## ruff and the type checker
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:   ## forget the environment and what was made in it
	rm -rf .venv results .jax_cache .pytest_cache .mypy_cache .ruff_cache
