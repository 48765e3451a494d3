# make repro      environment, then the whole pipeline on the dataset of params.yaml
# make test       environment, then all tests
# make notebook   the notebook's own recipe on DATASET=folder [SET="key=value ..."]; results in reports/notebook/
# make zoo        every fusion that there is, with ten seeds [DATASET=folder]; results in reports/zoo/; 66 minutes
# make lint       style and type checks

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
ACTIVATE := . $(VENV)/bin/activate

.PHONY: repro test notebook zoo lint setup

repro: setup
	$(ACTIVATE) && python -m stages.check && dvc repro

test: lint
	$(ACTIVATE) && python -m pytest $(PYTEST_ARGS)

notebook: setup
	$(ACTIVATE) && python -m stages.lib.recipes notebook "$(DATASET)" $(SET)

zoo: setup
	$(ACTIVATE) && python -m stages.lib.recipes zoo "$(or $(DATASET),data/synthetic)" $(SET)

lint: setup
	$(ACTIVATE) && ruff check . && ruff format --check . && mypy

setup: $(READY)

# The stamp is made last: an installation that broke off is taken up again.
$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than 3.11; name another with make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(VENV)/bin/python -m stages.lib.database
	touch $@
