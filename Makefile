# The commands of this project; `make` alone lists them.
# Needs Python >= 3.11 and a package registry; everything else it fetches itself.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SITE := build/site
ARGS ?=
# Two processes per core, since many tests wait for servers.  Tests of one file stay
# together, for the fixtures they share; files with many tests come first.
PROCESSES := $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN))
PARALLEL := -n $(PROCESSES) --dist loadfile
# What runs pytest: CI puts tools/second_look.sh in its place.
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
SECONDS ?= 300
SEED ?=

.PHONY: help install check fix test coverage proof soak demo serve bench traces screenshots docs dist clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

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

test: $(READY) ## what every change must pass; ARGS="-k name"
	@tools/ensure_servers.sh $(VENV) redis-server memcached valkey-server
	$(PYTEST) $(PARALLEL) -m "not proof" $(ARGS)

coverage: override ARGS += --cov --cov-report=term:skip-covered
coverage: test ## the same, and which lines it did not reach

proof: $(READY) ## what takes longer: schedules, faults, suites; ARGS="-k name"
	@tools/ensure_servers.sh $(VENV) redis-server memcached chromium
	$(PYTEST) $(PARALLEL) -m proof $(ARGS)

soak: $(READY) ## random load and faults over 4 processes; SECONDS=300 SEED=7 STORE=redis
	@tools/ensure_servers.sh $(VENV) redis-server memcached
	$(BIN)/python -m tests.proofs.soak --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(STORE),--store $(STORE)) $(ARGS)

demo: $(READY) ## drive the example shop over HTTP and print what was measured
	@tools/ensure_servers.sh --no-root $(VENV) redis-server
	$(BIN)/python -m example_project.demo $(ARGS)

serve: $(READY) ## leave the example shop running and print its address
	@tools/ensure_servers.sh --no-root $(VENV) redis-server
	$(BIN)/python -m example_project.serve $(ARGS)

bench: $(READY) ## measure against the peers in one run
	@tools/ensure_servers.sh --no-root $(VENV) redis-server memcached
	$(BIN)/python -m benchmarks $(ARGS)

traces: $(READY) ## compare the policies of L1 on traces; writes docs/eviction.png
	$(BIN)/python -m benchmarks.traces --png docs/eviction.png $(ARGS)

screenshots: $(READY) ## make the pictures in docs/ anew, with Chromium; takes three minutes
	@tools/ensure_servers.sh $(VENV) redis-server chromium
	$(BIN)/python -m tests.proofs.browser.screenshots docs $(ARGS)

docs: $(READY) ## build the site in build/site, without a warning; check links and reference
	$(BIN)/python -m tools.check_links
	$(BIN)/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going --jobs auto docs $(SITE)
	$(BIN)/python -m tools.check_reference $(SITE)
	@echo "The site is $(SITE)/index.html"

dist: $(READY) ## build and check the source archive and the wheel in dist/
	tools/build_dist.sh $(BIN)
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m tools.check_dist

clean: ## remove the environment and everything generated
	rm -rf $(VENV) .cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	rm -rf build dist htmlcov .coverage .coverage.*
