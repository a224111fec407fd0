PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test test-vm lint bench bench-convert clean

help: ## say what each target does
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(BIN)/rootless ## make a virtual environment with rootless and its tools in it

$(BIN)/rootless: pyproject.toml
	PYTHON=$(PYTHON) VENV=$(VENV) ./contrib/setup.sh

demo: setup ## convert the example archive and run it
	./contrib/demo.sh

test: setup ## run the tests (as root also as an ordinary user)
	./contrib/test.sh

test-vm: ## run the tests of limits in a virtual machine with all cgroup controllers
	./tests/vm/run

lint: setup ## ruff and mypy
	$(BIN)/ruff check rootless oci tests contrib
	$(BIN)/ruff format --check rootless oci tests contrib
	$(BIN)/mypy

bench: setup ## compare with crun and runc where they are installed
	$(BIN)/python tests/bench/runtime.py

bench-convert: setup ## compare conversion with tar, umoci and podman where they are installed
	$(BIN)/python tests/oci/bench_convert.py --svg docs/convert.svg

clean: ## remove what the other targets made
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
