# One command a job. `make setup` runs by itself when pyproject.toml or constraints.txt changed.

PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
STAMP := .venv/.setup-stamp

# More threads than cores make small models slower, and the test workers share the cores.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1

# The sandbox for model-written programs: from Debian where apt needs no password, else the kernel's own means are used.
BUBBLEWRAP := command -v bwrap >/dev/null || ! command -v apt-get >/dev/null || \
	{ test "$$(id -u)" = 0 && apt-get install -qq -y bubblewrap; } >/dev/null 2>&1 || \
	sudo -n apt-get install -qq -y bubblewrap >/dev/null 2>&1 || true

.PHONY: setup demo test test-slow test-real check lint types docs format clean

setup: $(STAMP)

# torch comes first and exactly pinned, so that nothing else can pull another build of it.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)" -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@$(BUBBLEWRAP)
	touch $(STAMP)

demo: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/langbridge demo --out demo

test: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-slow: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) -m slow

# With real pretrained models, a folder each (tests/real/conftest.py names them): make test-real REAL=FOLDER
test-real: $(STAMP)
	@test -d "$(REAL)" || { echo "make test-real REAL=FOLDER: the folder that holds the models' folders" >&2; exit 2; }
	HF_HUB_OFFLINE=1 LANGBRIDGE_REAL="$(abspath $(REAL))" $(BIN)/python -m pytest -n 0 tests/real

check: lint types docs test

lint: $(STAMP)
	$(BIN)/ruff format --check src studies benchmarks tests docs/hooks
	$(BIN)/ruff check src studies benchmarks tests docs/hooks

types: $(STAMP)
	$(BIN)/mypy

# Every relative link of the prose must lead somewhere, and the site must build without a warning. (With
# `--quiet` MkDocs does not see its own warnings, and `--strict` would let all of them pass.)
docs: $(STAMP)
	$(BIN)/python -m pytest -q -n 0 tests/test_structure.py -k links
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(STAMP)
	$(BIN)/ruff format src studies benchmarks tests docs/hooks
	$(BIN)/ruff check --fix src studies benchmarks tests docs/hooks

clean:
	rm -rf build dist demo site .mypy_cache .pytest_cache .ruff_cache
