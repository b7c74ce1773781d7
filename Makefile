# Everything needs only make and Python 3.11 or newer; the rest is installed into .venv from requirements.lock.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
BIN := .venv/bin
UV_VERSION := 0.11.13
READY := .venv/.ready
HOST ?= 127.0.0.1
PORT ?= 7860

.PHONY: help app setup test lint types bench browser wheel lock clean

help:
	@echo "make app     open the studio at http://$(HOST):$(PORT)"
	@echo "make test    run every test"
	@echo "make lint    check style"
	@echo "make types   check types"
	@echo "make bench   measure the shipped model on this machine"
	@echo "make browser walk through the page in a real Chromium"
	@echo "make setup   only make .venv, for example before going offline"
	@echo "make wheel   build dist/*.whl"
	@echo "make lock    resolve requirements.in again"
	@echo "make clean   remove what the other targets made"

app: $(READY)
	$(BIN)/dsv4 app --host $(HOST) --port $(PORT)

setup: $(READY)

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore=tests/browser
	$(BIN)/python -m pytest -q tests/browser

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/pyright

bench: $(READY)
	$(BIN)/python bench/verbs.py

browser: $(READY)
	$(BIN)/python -m tests.browser.walk

wheel: $(READY)
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

lock: $(READY)
	$(BIN)/uv pip compile requirements.in --output-file requirements.lock --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --no-annotate --quiet

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no python3 found; install Python 3.11 or newer"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")'
	"$(PYTHON)" -m venv .venv

$(READY): requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'from dsv4.ops.native import library; library()'  # compiled loops, where there is a compiler
	@touch $@
