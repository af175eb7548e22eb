# `make` alone lists the targets. Each makes the environments that it needs, once: .venv for the builder and operator,
# .venv-device for the device. They are made again when pyproject.toml or the constraints change.
#
#   PYTHON=python3.12 make test     another interpreter than the one scripts/setup chooses
#   make test ARGS='-m "not slow"'  words for the command behind demo, test or bench

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

builder := .venv/.stamp
device := .venv-device/.stamp
ARGS ?=

# The arrays of one slate are small: more BLAS threads than one cost more than they bring.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help setup demo test check bench clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(builder) $(device) ## make both environments and stop

demo: $(builder) $(device) ## the loop, end to end, on MovieLens-100K: build/demo/report.html
	@.venv/bin/python -m examples.movielens $(ARGS)

test: $(builder) $(device) ## all tests, then the device's in an environment that holds only a device's packages
	@scripts/test $(ARGS)

check: $(builder) ## lint, format, types, layers
	@scripts/check

bench: $(builder) $(device) ## the product beside what one would use instead: build/bench/
	@.venv/bin/python -m benchmarks $(ARGS)

clean: ## remove what was built and all caches; the environments stay
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find sdk export federated server tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove the environments too
	@rm -rf .venv .venv-device

$(builder): pyproject.toml constraints.txt scripts/setup
	@scripts/setup builder

$(device): pyproject.toml constraints.txt constraints-device.txt scripts/setup
	@scripts/setup device
