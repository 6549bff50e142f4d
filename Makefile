# Every target first installs what it needs into .venv, unless that is already there.

# The only setting that is a part of commands. The others are variables of the shell, as $$EXPS, which runs
# nothing that is in them.
PYTHON ?= python3
BIN := .venv/bin
DVC := $(BIN)/python -m dvc

# The stages run `python`: the one in .venv, whichever environment is active.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Nor do other variables change where Python finds modules, or what it does with a script or a warning.
unexport PYTHONHOME PYTHONINSPECT PYTHONOPTIMIZE PYTHONPATH PYTHONPLATLIBDIR PYTHONSAFEPATH PYTHONWARNINGS
# uv leaves it to the first import to write bytecode; without any, each stage starts 10 s later.
unexport PYTHONDONTWRITEBYTECODE

# Written by the download stage when no source of the raw data could be reached.
UNREACHABLE := .dvc/tmp/sources-unreachable

# `rm -rf data` takes along two files of Git, without which the stages do not run or Git sees their data.
KEPT := git ls-files -z --deleted data/none data/.gitignore | xargs -0 -r git checkout --quiet --

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: env-dev  ## install all pinned dependencies into .venv (TORCH=cpu: PyTorch without CUDA)

# The other targets install only what they need: the stages' packages, and a group of pyproject.toml or
# what an extra lists.
env-%:
	@$(PYTHON) tools/env.py $*

# What an experiment on the embedded digits would overwrite.
REPLACED := if ! git diff --quiet HEAD -- params.yaml; then echo "uncommitted changes of params.yaml"; \
  elif test -n "$$(ls models)" && ! grep -qs '"name": "digits"' data/processed/dataset.json; then \
  echo "the model of another data set in models/"; fi
DIGITS := $(DVC) exp run $$(cat recipes/digits)

repro: env-repro  ## run the pipeline (dvc repro); a fresh clone that reaches no source uses the embedded digits
	@$(BIN)/python tools/mend.py
	@rm -f $(UNREACHABLE); $(KEPT); \
	$(DVC) repro || { status=$$?; test -e $(UNREACHABLE) || exit $$status; replaced=$$($(REPLACED)); echo; \
	  test -z "$$replaced" || { echo "error: no source of the raw data could be reached (see the warnings above)," \
	    "and the embedded digits would replace $$replaced; if they may: make digits" >&2; exit $$status; }; \
	  echo "No source of the raw data could be reached (see the warnings above)."; \
	  echo "Running the same pipeline on scikit-learn's embedded digits instead, as an experiment."; \
	  echo "It changes params.yaml, dvc.lock and metrics/; 'git checkout params.yaml dvc.lock metrics' undoes that."; echo; \
	  $(DIGITS); }
	@$(DVC) metrics show

digits: env-repro  ## run the pipeline on the embedded digits, as an experiment; without network
	@$(DIGITS)

export WORKERS ?= 1
COUNTED := case "$$WORKERS" in 0*|*[!0-9]*|'') \
  echo "error: WORKERS: found $$WORKERS, expected a positive integer" >&2; exit 2;; esac

queue: env-repro  ## run the queued experiments, WORKERS=n at a time
	@$(COUNTED); $(BIN)/python tools/workers.py "$$WORKERS"

vote: env-repro  ## accuracy of the models of EXPS="a b ..." and of their averaged probabilities
	@set -f; $(BIN)/python tools/compare.py --vote $$EXPS

compare: env-repro  ## is one of EXPS="a b" (default: HEAD workspace) better? (CLASSES=1: in which classes)
	@set -f; $(BIN)/python tools/compare.py $$EXPS $${CLASSES:+--classes}

verify: env-repro  ## run HEAD (or EXP=name) again from the raw files: are its results the committed ones?
	@$(BIN)/python tools/verify.py $${EXP:+-- "$$EXP"}

report: env-report  ## write reports/index.html: metrics, plots, pictures, experiments (BASE=commit: beside it)
	@$(BIN)/python tools/report.py $${BASE:+--base="$$BASE"}

export: env-export  ## export the model to models/model.onnx, checked against PyTorch
	@$(BIN)/python tools/export.py

# pytest runs one worker per core, so more threads would only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

check: lint  ## lint, types and unit tests, in about a minute
	$(PYTEST) -m "not pipeline and not browser"

test: lint  ## lint, types and all tests
	$(PYTEST)

lint: env-dev  ## ruff (lint and format) and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy --platform win32 --cache-dir .mypy_cache/win32 src stages tools $(wildcard extras/*/*.py) & \
	  windows=$$!; $(BIN)/python -m mypy && wait $$windows

COMPILE := $(BIN)/uv pip compile --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
  --custom-compile-command "make lock" --quiet $${UPGRADE:+--upgrade}
lock: env-repro  ## pin what pyproject.toml and extras declare in the locks (UPGRADE=1: newer versions of all)
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --group dev $(foreach extra,$(wildcard extras/*/pyproject.toml),--group $(extra):run --group $(extra):test) -c requirements.lock -o tools.lock

weekly::  ## check what the project depends on outside of it, as CI does every week
	@:

# Everything optional: a folder each, which can be deleted.
-include extras/*/targets.mk

.PHONY: $(shell awk -F : '/^[a-z]+:.*## / {print $$1}' $(MAKEFILE_LIST))
