# make repro      environment, then the whole pipeline on the dataset of params.yaml
# make test       environment, then style, types and tests: minutes
# make test-all   the same with the sweeps: random kills, mutated files, every command of the pages, benchmarks
# make notebook   the notebook's own recipe on DATASET=folder [SET="key=value ..."]; results in reports/notebook/
# make zoo        every fusion that there is, with ten seeds [DATASET=folder]; results in reports/zoo/; 66 minutes
# make lint       style and types
# make setup      the environment alone

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
ACTIVATE := . $(VENV)/bin/activate
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check install --no-compile
# What stands in the environment so far, in as many processes as follow; some packages hold templates that do not compile.
COMPILE := $(VENV)/bin/python -W ignore -m compileall -qq -x '/tests?/' $$(ls -d $(VENV)/lib/python*/site-packages/*) -j

.PHONY: repro test test-all notebook zoo lint setup checkout

repro: setup
	$(ACTIVATE) && python -m scripts.restore_lock && python -m stages.check && dvc repro

test: lint
	$(ACTIVATE) && python -m pytest $(PYTEST_ARGS)

test-all: lint
	$(ACTIVATE) && python -m pytest --sweeps $(PYTEST_ARGS)

notebook: setup
	$(ACTIVATE) && python -m scripts.preset_runs notebook "$(DATASET)" $(SET)

zoo: setup
	$(ACTIVATE) && python -m scripts.preset_runs zoo "$(or $(DATASET),data/synthetic)" $(SET)

lint: setup
	$(ACTIVATE) && ruff check . && ruff format --check . && mypy

setup: checkout $(READY)

# Said before minutes of installing: DVC works in a Git repository, or has to be told to do without.
checkout:
	@git rev-parse --git-dir >/dev/null 2>&1 || grep -qs '^ *no_scm *= *true' .dvc/config .dvc/config.local || \
		{ echo "error: this folder is no Git repository, which DVC needs: run git init, or let DVC do without" \
		"Git by adding the line no_scm = true to .dvc/config"; exit 1; }

# Packages in three steps, so that one sees where it is; while one is installed, those of the step before are
# compiled. The stamp is made last: an installation that broke off is taken up again.
$(READY): requirements.txt | checkout
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; name another with make PYTHON=python3.11"; exit 1; }
	@echo "[1/5] making the environment $(VENV) (some minutes in all)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) pip==26.3 # twice as fast as the one that Python 3.11 brings
	@echo "[2/5] installing PyTorch"
	@$(PIP) -c requirements.txt torch
	@echo "[3/5] installing FiftyOne"
	@$(COMPILE) 1 & $(PIP) -c requirements.txt fiftyone && wait
	@echo "[4/5] installing DVC and all others"
	@$(COMPILE) 1 & $(PIP) -r requirements.txt && wait
	@$(COMPILE) 0 || true
	@echo "[5/5] looking for FiftyOne's database server"
	@$(VENV)/bin/python -m scripts.install_mongodb
	@touch $@
