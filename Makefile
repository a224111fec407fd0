PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test check test-pythons test-vm fuzz lint docs reference called build sbom release-notes lock zipapp deb
.PHONY: test-install bench bench-leaks bench-convert clean

help: ## say what each target does
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(BIN)/rootless ## make a virtual environment with rootless and its tools in it

$(BIN)/rootless: pyproject.toml
	PYTHON=$(PYTHON) VENV=$(VENV) ./scripts/setup.sh

demo: setup ## convert the example archive and run it
	./scripts/demo.sh

test: setup ## run the tests (as root also as an ordinary user)
	./scripts/test.sh

check: setup ## run some tests: make check T=tests/containers/test_hooks.py (default: the unit tests)
	$(BIN)/python -m pytest -p no:cacheprovider -q $(or $(T),tests/unit)

test-pythons: setup ## run the unit tests and one file of container tests under every Python from 3.11 on
	./scripts/test-pythons.sh

test-vm: ## run the tests of limits in a virtual machine with all cgroup controllers
	./tests/vm/run

fuzz: setup ## make every system call of every command fail, kill and stop at each (hours; docs/reliability.md)
	./scripts/fuzz.sh

lint: setup ## ruff, mypy and codespell
	$(BIN)/ruff check rootless oci tests contrib scripts
	$(BIN)/ruff format --check rootless oci tests contrib scripts
	$(BIN)/mypy
	@[ -x $(BIN)/codespell ] || $(BIN)/pip install -q --disable-pip-version-check codespell
	$(BIN)/codespell $(wildcard *.md) docs rootless oci tests contrib scripts bin .ci Makefile pyproject.toml

docs: setup ## build the documentation as a site in site/, links checked
	@[ -x $(BIN)/mkdocs ] || $(BIN)/pip install -q --disable-pip-version-check 'mkdocs-material>=9.5'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html"

reference: setup ## write docs/reference/commands.md, the man pages and the completions from the table of options
	$(BIN)/python scripts/reference.py

called: setup ## write rootless/startup/called.py from what the hot commands call, as root and as an ordinary user
	./scripts/called.sh

build: setup ## build the sdist and the wheel in dist/, twice, and compare the digests
	./scripts/build.sh

test-install: setup ## install the wheel with pip, pipx, uv and in an environment, and run it (ALL=1: every Python in every way)
	./scripts/test-install.sh $(if $(ALL),--all)

deb: ## build the Debian package in dist/
	./scripts/debian.sh

sbom: build ## write the bill of materials of the wheel (CycloneDX) in dist/
	$(BIN)/python scripts/sbom.py dist/rootless-*.whl

release-notes: setup ## print what CHANGELOG.md says about a version: make release-notes VERSION=0.1.0
	@$(BIN)/python scripts/release_notes.py $(VERSION)

lock: setup ## write requirements-dev.lock anew, the versions for development with their digests (UPGRADE=1: the newest)
	./scripts/lock.sh $(if $(UPGRADE),--upgrade)

zipapp: setup ## write dist/rootless.pyz, one file that Python runs where nothing can be installed
	$(BIN)/python scripts/zipapp.py

bench: setup ## compare with crun, runc and bubblewrap; write docs/bench.json and the plots
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall .
	$(BIN)/python tests/bench/report.py

bench-leaks: setup ## run 10,000 containers through one launcher and compare what it holds before and after
	$(BIN)/python tests/bench/leaks.py

bench-convert: setup ## compare conversion with tar, umoci and podman where they are installed
	$(BIN)/python tests/oci/bench_convert.py --svg docs/guide/convert.svg

clean: ## remove what the other targets made
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
