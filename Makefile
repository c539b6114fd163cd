# `make up` runs the whole network on the example; `make test` checks everything; `make bench` measures,
# `make fuzz` looks for what the readers of bytes from outside cannot take, `make soak` for what breaks in long runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Else every process that tests and `up` start would compile all of nearmile anew: a third of its start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: up test bench fuzz soak install dev clean

up: install
	$(BIN)/nearmile up examples/world

# Side by side what can be, but for what counts seconds: how long answers are fresh, until all is well again.
ALONE := tests/conformance tests/system
test: dev
	@tools/system-packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder $(ALONE:%=--ignore %)
	$(BIN)/pytest $(ALONE)

# In short turns: for figures to rely on, run each alone, with more and longer ones (--seconds, --rounds).
bench: dev
	@tools/system-packages varnishd:varnish
	$(BIN)/python benchmarks/anatomy.py
	$(BIN)/python benchmarks/edge.py --seconds 2 --rounds 3
	$(BIN)/python benchmarks/edge_kinds.py --seconds 2 --rounds 3
	$(BIN)/python benchmarks/latency.py --seconds 2 --rounds 3
	$(BIN)/python benchmarks/herd.py --rounds 1
	$(BIN)/python benchmarks/tls.py --seconds 2 --rounds 3
	$(BIN)/python benchmarks/http3.py --seconds 2 --rounds 3
	$(BIN)/python benchmarks/purge.py

# SECONDS=600 for a longer search; all targets together.
fuzz: dev
	$(BIN)/python fuzz/run.py --seconds $(or $(SECONDS),66)

# Twenty minutes of everything going wrong at once; SECONDS=3600 for longer.
soak: dev
	NEARMILE_SOAK_S=$(or $(SECONDS),1200) $(BIN)/pytest -s tests/system/test_when_all_goes_wrong.py

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nearmile needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python lacks venv: apt install python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
