# The daily commands. `make` alone lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PROVE  ?=

.DEFAULT_GOAL := help
.PHONY: help prove test lint types fmt wheel ci lock guests clean

help: ## list the commands
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

prove: $(VENV)/run.stamp ## the main job: model, reference server, conformance, load, report (PROVE='--target URL' for another server)
	$(BIN)/realm prove $(PROVE)

test: $(VENV)/dev.stamp ## all tests, with coverage
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --cov --cov-report=term:skip-covered

lint: $(VENV)/dev.stamp ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp ## mypy, strict
	$(BIN)/mypy

fmt: $(VENV)/dev.stamp ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: $(VENV)/dev.stamp ## build the wheel, install it in an empty venv, run it
	PYTHON=$(abspath $(BIN)/python) ci/wheel

ci: lint types wheel test ## what the pipeline runs

guests: $(VENV)/dev.stamp ## rebuild the guest modules and what the contract generates
	$(BIN)/python -m realm_abi.generate
	$(BIN)/python wasm/guest/build.py
	$(BIN)/python wasm/probes/build.py

lock: ## pin all dependencies again, with hashes (needs uv on the PATH)
	ci/lock

clean: ## remove the environment and what was built
	rm -rf $(VENV) build dist prove

$(VENV)/%.stamp: ci/locks/%.txt pyproject.toml
	PYTHON=$(PYTHON) ci/setup $(VENV) $<
	@touch $@
