# cd4ml from a clone: `make demo`, then `make test`. Needs Python 3.11 to 3.13, git and make; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Imports are nearly three times slower without byte-compiled files.
unexport PYTHONDONTWRITEBYTECODE
# Another environment that happens to be active must not leak into this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

# OpenMP's threads sleep while they wait: spinning ones of two processes block each other.
export OMP_WAIT_POLICY ?= passive

# The Python that .venv is made with; empty takes the first usable one of python3, python3.13, python3.12, python3.11.
PYTHON ?=
export PYTHON
PROBLEM ?= flights
PYTEST_OPTIONS ?=

BIN := .venv/bin
READY := .venv/.installed
NOUNS = $(wildcard nbs/base nbs/data nbs/model nbs/delivery nbs/production nbs/problems nbs/cli)
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile $(PYTEST_OPTIONS)
COMPILE = $(BIN)/python -m uv --quiet pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate $(UPGRADE)

.PHONY: help install demo test test-notebooks test-python test-fast check lint types layers exports lab bench notebooks \
	lock clean clean-all

help: ## Show this list
	@echo "cd4ml: continuous delivery for machine learning, from the notebook"; echo
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | while IFS='|' read -r name what; do \
		printf '  make %-16s %s\n' "$$name" "$$what"; done

# An environment that was made elsewhere (the folder was moved or copied) is not ready, whatever its stamp says.
ifneq ($(shell cat .venv/.root 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif
$(READY): requirements.lock pyproject.toml ci/bootstrap.lock ci/install-venv
	@ci/install-venv
	@touch $(READY)

install: $(READY) ## Set up .venv from the hashed lock; instant when nothing changed

demo: $(READY) ## Deliver flights: from notebook to released report (PROBLEM=houses for another)
	@$(BIN)/cd4ml release $(PROBLEM)

test: test-notebooks test-python ## Run every test, the notebooks' own included

test-notebooks: $(READY) ## Run the tests that stand in the notebooks
	$(BIN)/nbdev-test

test-python: $(READY) ## Run pytest (PYTEST_OPTIONS='-k gate -x')
	$(PYTEST)

test-fast: $(READY) ## Run the quick tests only: no notebooks, servers or browser
	$(PYTEST) -m "not slow and not services and not browser"

check: lint types layers exports ## Lint, types, layers, stale exports

lint: $(READY)
	$(BIN)/ruff check

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

exports: $(READY)
	$(BIN)/python ci/check_exports.py

lab: $(READY) ## Open the notebooks in JupyterLab
	@$(BIN)/cd4ml lab

bench: $(READY) ## Measure against peers and print ratios
	@$(BIN)/python benchmarks

notebooks: $(READY) ## Execute the module notebooks again and save their outputs
	for folder in $(NOUNS) nbs/index.ipynb; do $(BIN)/nbdev-test "$$folder" --save; done
	$(BIN)/nbdev-test nbs/guide --save --ignore-fname none
	$(BIN)/nbdev-clean

lock: $(READY) ## Write the locks again (UPGRADE=--upgrade for newer versions)
	$(COMPILE) pyproject.toml --extra dev -o requirements.lock >/dev/null
	$(COMPILE) ci/bootstrap.in -o ci/bootstrap.lock >/dev/null
	$(COMPILE) ci/tools/requirements.in -o ci/tools/requirements.lock >/dev/null

clean: ## Remove the environment, the tools and every cache; keep runs and releases
	rm -rf .venv .ci-tools .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist *.egg-info htmlcov .coverage
	find cd4ml nbs tests ci -name __pycache__ -prune -exec rm -rf {} + -o -name .ipynb_checkpoints -prune -exec rm -rf {} +

clean-all: clean ## Remove runs, releases and the site as well
	rm -rf .cd4ml releases
