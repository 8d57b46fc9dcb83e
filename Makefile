# Needs make, sh and a Python of 3.11 or newer with its venv module. Everything else is installed into .venv, in the
# versions that requirements/ pins. Other Python: make PYTHON=/path/to/python3. More for pytest: make test ARGS="-k copy".

PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11 python; do \
	$$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo $$candidate; break; }; done)
ARGS ?=
ROWS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
# By one process more than there are cores (some tests wait), four at most, each with database servers of its own.
# One of them alone: make test ARGS="-n 0"
WORKERS := $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); [ "$$n" -lt 4 ] && echo $$((n + 1)) || echo 4)
PYTEST := $(BIN)/python -m pytest --no-skips -n $(WORKERS) --dist worksteal $(ARGS)
CODE := $(wildcard etl tests bench docs sample_data)

# A .venv that was copied from another place, or whose Python has gone, is made anew.
_ := $(shell [ "$$(cat .venv/made 2>/dev/null)" = "$(CURDIR)" ] && .venv/bin/python -c '' 2>/dev/null || rm -f .venv/made)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart venv install test test-long test-containers check format bench bench-peers bench-page docs \
	coverage lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

quickstart: .venv/runtime ## install etl and load the sample shop into quickstart.db
	@$(BIN)/python sample_data/create_tables.py sqlite:///quickstart.db
	@$(BIN)/etl load configs/quickstart.toml || { code=$$?; [ $$code -eq 3 ] || exit $$code; } # 3: some records were rejected

venv: .venv/made ## make .venv, still empty

install: .venv/dev ## install etl and everything for its development into .venv

test: .venv/test ## run the tests on SQLite and on real PostgreSQL servers
	$(PYTEST)

test-long: .venv/test ## run the tests that take minutes
	$(PYTEST) -m long

test-containers: .venv/test ## run the PostgreSQL tests in a container (as root on Debian, or with a Docker engine)
	tests/containers/run.sh $(ARGS)

check: .venv/dev ## lint, types, import contracts, dependencies, spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry --no-ansi .
	$(BIN)/codespell

format: .venv/dev ## format the code and repair what ruff can repair
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/test ## measure etl beside the databases' own shells (ROWS=1000000 ARGS="--scenario clean-csv")
	$(if $(ROWS),ROWS=$(ROWS)) $(BIN)/python bench/run.py $(ARGS)

bench-peers: .venv-peers/made ## install the other tools that the bench measures into .venv-peers

bench-page: .venv/test ## make docs/bench.md and its pictures from docs/bench/results.json
	$(BIN)/python bench/page.py $(ARGS)

docs: .venv/runtime ## make the tables of docs/config.md and configs/etl.schema.json from the models of the config
	$(BIN)/python docs/reference.py

coverage: .venv/dev ## run the tests and show the lines of etl/ that no test reaches
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

lock: ## pin the newest versions that pyproject.toml allows (needs uv)
	requirements/lock.sh

clean: ## remove .venv, the quickstart database and everything else that was made here
	rm -rf .venv .venv-peers .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist htmlcov
	rm -f quickstart.db*
	find etl tests bench sample_data -name __pycache__ -type d -prune -exec rm -rf {} +

# Each of these files says that a step was done with the versions that are pinned now.

.venv/made:
	@[ -n "$(PYTHON)" ] || { echo "etl needs Python 3.11 or newer with its venv module, and there is none on PATH:" \
		"install it (Debian: apt install python3-venv) or name it with make PYTHON=/path/to/python3." >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) -c 'import sys; print(sys.executable, sys.version.split()[0])')"
	@$(PYTHON) -m venv --clear .venv
	@echo "$(CURDIR)" > $@

.venv/runtime: requirements/build.txt requirements/runtime.txt pyproject.toml .venv/made
	@echo "Installing etl into .venv"
	@$(PIP) -r requirements/build.txt -r requirements/runtime.txt
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

.venv/test: requirements/test.txt .venv/runtime
	@echo "Installing what the tests need into .venv"
	@$(PIP) -r requirements/test.txt
	@touch $@

.venv-peers/made: requirements/peers.txt .venv/made
	@echo "Installing the other tools of the bench into .venv-peers"
	@.venv/bin/python -m venv --clear .venv-peers
	@.venv-peers/bin/python -m pip install -qq --disable-pip-version-check -r requirements/peers.txt
	@touch $@

.venv/dev: requirements/dev.txt .venv/test
	@echo "Installing what the checks need into .venv"
	@$(PIP) -r requirements/dev.txt
	@touch $@
