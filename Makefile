# The commands of this project; `make` alone lists them.
# Needs Python >= 3.11 and a package registry; everything else it fetches itself.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=
# A process per core; tests of one file stay together, for the fixtures they share.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
SECONDS ?= 300
SEED ?=

.PHONY: help install check fix test soak demo serve bench docs dist clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

install: $(READY) ## create the environment in .venv

# Again only when what it installs, or how, has changed.
$(READY): pyproject.toml tools/install.sh tools/fetch_pip.py
	@tools/install.sh $(VENV)
	@touch $@

check: $(READY) ## format, lint, types, import contracts, module sizes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.check_sizes

fix: $(READY) ## format, and repair what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(READY) ## run all tests with coverage; ARGS="-k name" for some
	@tools/ensure_servers.sh $(VENV) redis-server memcached
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term:skip-covered $(ARGS)

soak: $(READY) ## random load and faults over 4 processes; SECONDS=300 SEED=7
	@tools/ensure_servers.sh $(VENV) redis-server
	$(BIN)/python -m tests.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

demo: $(READY) ## drive the example shop over HTTP and print what was measured
	@tools/ensure_servers.sh --no-root $(VENV) redis-server
	$(BIN)/python -m example_project.demo $(ARGS)

serve: $(READY) ## leave the example shop running and print its address
	@tools/ensure_servers.sh --no-root $(VENV) redis-server
	$(BIN)/python -m example_project.serve $(ARGS)

bench: $(READY) ## measure against the peers in one run
	@tools/ensure_servers.sh --no-root $(VENV) redis-server memcached
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(READY) ## check the links of README.md and docs/
	$(BIN)/python -m tools.check_links

dist: $(READY) ## build and check the source archive and the wheel in dist/
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m tools.check_dist

clean: ## remove the environment and everything generated
	rm -rf $(VENV) .cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	rm -rf build dist htmlcov .coverage .coverage.*
