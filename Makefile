# `make` alone lists the targets. Each makes the environments that it needs, once: .venv for the builder and operator,
# .venv-device and .venv-device-litert for a device with either runtime. They are made again when pyproject.toml or the
# constraints change.
#
#   PYTHON=python3.12 make test     another interpreter than the one scripts/setup chooses
#   make test ARGS='-m "not slow"'  words for the command behind demo, browse, test or bench
#   make bench LETOR=folder         judged queries beside MovieLens (docs/benchmarks.md)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

builder := .venv/.stamp
devices := .venv-device/.stamp .venv-device-litert/.stamp
ARGS ?=
# A device's Python: with tflite-runtime, or with ai-edge-litert where the other one can't be installed.
device_python = $(shell for each in $(CURDIR)/.venv-device $(CURDIR)/.venv-device-litert; do if [[ -e $$each/.stamp ]]; then echo $$each/bin/python; break; fi; done)

# The arrays of one slate are small: more BLAS threads than one cost more than they bring.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help setup demo browse test check bench clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(builder) $(devices) ## make the three environments and stop

demo: $(builder) $(devices) ## the loop, end to end, on MovieLens-100K: build/demo/report.html
	@.venv/bin/python -m examples.movielens --device-python $(device_python) $(ARGS)

browse: $(builder) ## movies on the terminal, ordered by the bundle of the demo, which has to be run first
	@.venv/bin/python -m examples.browser $(ARGS)

test: $(builder) $(devices) ## all tests, then the device's once per runtime, with only a device's packages
	@scripts/test $(ARGS)

check: $(builder) ## lint, format, types, layers
	@scripts/check

bench: $(builder) $(devices) ## the product beside what one would use instead: build/bench/
	@.venv/bin/python -m benchmarks $(ARGS)
	@.venv/bin/python -m benchmarks.distillation $(if $(LETOR),--letor $(LETOR))

clean: ## remove what was built and all caches; the environments stay
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find sdk export federated server tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove the environments too
	@rm -rf .venv .venv-device .venv-device-litert

$(builder): pyproject.toml constraints.txt scripts/setup
	@scripts/setup builder

.venv-device/.stamp: pyproject.toml constraints-device.txt scripts/setup
	@scripts/setup device

.venv-device-litert/.stamp: pyproject.toml constraints.txt scripts/setup
	@scripts/setup device-litert
