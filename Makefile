# tinyprof: what to type. Everything made here goes to build/ and .venv/.

PYTHON ?= python3
BUILDER = $(PYTHON) firmware_builds/build
VENV = .venv/bin
VENV_STAMP = .venv/stamp
OLDER = 1.25.0
# two tests a core: they wait for boards and for time to pass
WORKERS = $$((2 * $$(getconf _NPROCESSORS_ONLN)))

.PHONY: help demo test lint versions setup tools firmware rp2040 families modules wheel clean

help:
	@echo 'make demo      emulate a board, put a small model on it, profile it, show the report'
	@echo 'make test      run the tests'
	@echo 'make versions  build the boards with an older MicroPython too, and compare their logits'
	@echo 'make firmware  build MicroPython for the emulated boards (BOARDS="m4 unix": only these)'
	@echo 'make rp2040    a Pico with its simulator: --board rp2040, rp2040-stock'
	@echo 'make families  firmware with tinyprof inside for a Pico and a Pico 2, tested; takes minutes'
	@echo 'make modules   build the native modules for stock firmware'
	@echo 'make wheel     build the package with them, in build/wheel'
	@echo 'make setup     tools, firmware, .venv: what the demo needs'
	@echo 'make lint      ruff, mypy and codespell'
	@echo 'make clean     remove what was made'
	@echo 'SANITIZE=1 make firmware BOARDS=unix   the unix port with sanitizers, in unix-asan'
	@echo 'MICROPY_DIR=/path/to/micropython make firmware   build from that tree'

demo: setup
	$(VENV)/tinyprof-bridge demo

test: setup modules
	@$(BUILDER) boards stock
	-@$(BUILDER) tools xtensa
	-@$(MAKE) --no-print-directory rp2040
	@SANITIZE=1 $(BUILDER) boards unix unix-fixed
	OPENBLAS_NUM_THREADS=1 $(VENV)/python -m pytest -n $(WORKERS) --dist worksteal

# The release before the current one, built beside it, must give the same logits.
versions: setup modules
	@TINYPROF_BUILD=build/$(OLDER) MICROPY_VERSION=$(OLDER) $(BUILDER) boards m3 m4 m4-stock rv32
	$(VENV)/python -m pytest tests/firmware/test_versions.py

lint: $(VENV_STAMP)
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/codespell

setup: firmware $(VENV_STAMP)

tools:
	@$(BUILDER) tools

modules: tools $(VENV_STAMP)
	@$(VENV)/python firmware_builds/build modules $(ARCHS)

wheel: tools
	@$(BUILDER) tools xtensa
	@$(MAKE) --no-print-directory modules
	@$(VENV)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel .

firmware: tools
	@$(BUILDER) boards $(BOARDS)

# A Pico's firmware, and what runs it here: takes Node.js, CMake and the Pico SDK.
rp2040: tools
	@$(BUILDER) tools rp2040
	@$(BUILDER) boards rp2040 rp2040-stock

families: setup rp2040
	TINYPROF_FAMILIES=1 $(VENV)/python -m pytest tests/firmware/test_families.py

$(VENV_STAMP): pyproject.toml | tools
	@echo 'installing the Python packages into .venv ...'
	@$(PYTHON) -m venv .venv
	@$(VENV)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

clean:
	rm -rf build .venv results .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	find . -name '*.egg-info' -prune -exec rm -rf {} +
