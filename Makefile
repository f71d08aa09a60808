# tinyprof: what to type. Everything made here goes to build/ and .venv/.

PYTHON ?= python3
BUILD_PY = $(PYTHON) firmware_builds/build.py
VENV = .venv/bin
VENV_STAMP = .venv/stamp

.PHONY: help demo test lint setup tools firmware clean

help:
	@echo 'make demo      emulate a board, put a small model on it, profile it, show the report'
	@echo 'make test      run the tests'
	@echo 'make firmware  build MicroPython for the emulated boards (BOARDS="m4 unix": only these)'
	@echo 'make setup     all that the three above need: tools, firmware, .venv'
	@echo 'make lint      ruff and mypy'
	@echo 'make clean     remove what was made'
	@echo 'SANITIZE=1 make firmware BOARDS=unix   the unix port with sanitizers, in unix-asan'
	@echo 'MICROPY_DIR=/path/to/micropython make firmware   build from that tree'

demo: setup
	$(VENV)/tinyprof-bridge demo

test: setup
	@SANITIZE=1 $(BUILD_PY) boards unix unix-fixed
	$(VENV)/python -m pytest

lint: $(VENV_STAMP)
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

setup: firmware $(VENV_STAMP)

tools:
	@$(BUILD_PY) tools

firmware: tools
	@$(BUILD_PY) boards $(BOARDS)

$(VENV_STAMP): pyproject.toml | tools
	@echo 'installing the Python packages into .venv ...'
	@$(PYTHON) -m venv .venv
	@$(VENV)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

clean:
	rm -rf build .venv results .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name '*.egg-info' -prune -exec rm -rf {} +
