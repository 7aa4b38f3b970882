# make demo: from a fresh clone to a trained detector.  make demo-faster: one that finds its own proposals.  make test: the tests.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: all demo demo-faster test test-slow test-oldest lint clean bench

all: .venv/installed

.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info < (3, 14) else "Python 3.10 to 3.13 is needed, $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -r requirements.txt
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: .venv/installed
	@PYTHON=$(PY) experiments/scripts/demo.sh

demo-faster: .venv/installed
	@PYTHON=$(PY) experiments/scripts/demo.sh faster

# two processes, each on one core: small nets gain nothing from threads
test: .venv/installed
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2

# One thread each, as above: what one process computes is compared with what several do, byte for byte
test-slow: .venv/installed
	OMP_NUM_THREADS=1 $(PY) -m pytest -m slow

# The oldest versions that pyproject.toml promises. Where one cannot be had: make test-oldest PYTHON_OLDEST=python3.11 TORCH=2.5.0
PYTHON_OLDEST ?= python3.10
TORCH ?= 2.2.0

test-oldest: .venv-oldest/installed
	OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR)/lib .venv-oldest/bin/python -m pytest -n 2

.venv-oldest/installed: requirements-oldest.txt
	$(PYTHON_OLDEST) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet -r requirements-oldest.txt torch==$(TORCH)
	@touch $@

bench: .venv/installed
	$(PY) experiments/bench_parts.py
	$(PY) experiments/bench.py

lint: .venv/installed
	$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

# photographs of one's own in data/demo stay
clean:
	rm -rf .venv .venv-oldest output .pytest_cache .ruff_cache
	rm -rf $(addprefix data/demo/,Annotations ImageSets JPEGImages proposals classes.txt)
	@[ ! -d data/demo ] || rmdir data/demo 2>/dev/null || echo "kept: data/demo, which holds files that make demo did not write"
