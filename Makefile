# Every target first makes .venv hold exactly what requirements.lock pins; once it does, that costs nothing.

PYTHON ?= python3
BIN := .venv/bin
DVC := $(BIN)/python -m dvc

# The stages' `python` is the environment's, whatever else is active where make was called.
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONPATH PYTHONHOME

# The download stage leaves this file when no source of the raw data could be reached.
UNREACHABLE := .dvc/tmp/sources-unreachable

# DVC writes its table of locks in place, so a kill can leave half of it, which stops every later
# run (https://github.com/treeverse/dvc/issues/7615). What can't be read locks nothing.
RWLOCK := .dvc/tmp/rwlock
HEAL := test ! -e $(RWLOCK) || $(BIN)/python -m json.tool $(RWLOCK) >/dev/null 2>&1 || rm -f $(RWLOCK)

.PHONY: help env repro digits queue search report push export demo test lint bench lock deps

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

env:  ## create .venv and install the pinned dependencies
	@cmp -s requirements.lock .venv/requirements.lock || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), expected Python 3.10 or newer; name one: make PYTHON=python3.12" >&2; exit 2; }; \
	  echo "Installing requirements.lock into .venv (several minutes on a slow line; torch is large)"; \
	  rm -rf .venv && $(PYTHON) -m venv .venv && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	  cp requirements.lock .venv/requirements.lock; }

repro: env  ## run the pipeline: dvc repro (on the embedded digits if no source can be reached)
	@$(HEAL); rm -f $(UNREACHABLE); \
	$(DVC) repro || { status=$$?; test -e $(UNREACHABLE) || exit $$status; \
	  echo; echo "The raw data cannot be had here: none of its sources could be reached (see above)."; \
	  echo "Running the same pipeline on scikit-learn's embedded digits instead, as an experiment;"; \
	  echo "params.yaml, dvc.lock and metrics/ will say so. 'git checkout params.yaml dvc.lock metrics' goes back."; echo; \
	  $(MAKE) --no-print-directory digits; }
	@$(DVC) metrics show

digits: env  ## run the pipeline on the embedded digits, as an experiment; needs no network
	@$(DVC) exp run -S dataset=digits -S optimizer=adam -S optimizers.adam.lr=0.0003 \
	  -S epochs=40 -S batch_size=32 -S log_every=20

# Workers share the cores. Neither DVC nor a stage knows how many there are, but all inherit this.
WORKERS ?= 1
COUNTED := case '$(WORKERS)' in 0*|*[!0-9]*|'') \
  echo "error: WORKERS: found $(WORKERS), expected a whole number above 0" >&2; exit 2;; esac
SHARE := $(if $(filter-out 1,$(WORKERS)),OMP_NUM_THREADS=$$($(BIN)/python -c \
  'import os; print(max(1, os.cpu_count() // max(1, $(WORKERS))))'))

queue: env  ## run the queued experiments, WORKERS=n at a time
	@$(COUNTED); $(SHARE) $(DVC) queue start --jobs $(WORKERS)

TRIALS ?= 20
search: env  ## try the settings of search.yaml until TRIALS=n are done, WORKERS=n at a time
	@$(COUNTED); $(SHARE) $(BIN)/python tools/search.py --trials $(TRIALS) --workers $(WORKERS) $(if $(STORAGE),--storage '$(STORAGE)')

report: env  ## write reports/index.html: metrics, plots, pictures, experiments on one page
	@$(BIN)/python tools/report.py

push: env  ## push the cache and all its runs to DVC's default remote
	@$(BIN)/python tools/push.py

export: env  ## write the model as models/model.onnx, checked against PyTorch on the test split
	@$(BIN)/python tools/export.py

demo: env  ## draw a digit on a page of this machine, and see the probabilities
	@$(BIN)/python tools/demo.py

# pytest has a worker a core already: more threads would wait for each other.
test: lint  ## lint, types and the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lint: env  ## ruff (lint and format) and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

bench: env  ## measure speed and accuracy into benchmarks/results.json (an hour; QUICK=1: 2 minutes)
	@$(BIN)/python benchmarks/run.py $(if $(QUICK),--quick)

lock: env  ## renew requirements.lock from pyproject.toml
	$(BIN)/python -m uv pip compile pyproject.toml --extra s3 --group dev --universal --python-version 3.10 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet --upgrade -o requirements.lock

deps: env  ## write each stage's code dependencies into dvc.yaml
	$(BIN)/python tests/pipeline/code_deps.py --write
