PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Debian's Python comes without ensurepip: the pip that is there fills the new environment.
INSTALL := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check --no-input install --quiet

# Where this is set, each process of the tests would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check clean

demo: $(VENV)/installed
	$(BIN)/python manage.py demo

test: $(VENV)/installed-for-tests
	$(BIN)/python -m pytest -n 6
	$(BIN)/python -m pytest -n 4 -p tests.postgres

check: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit -q -ll -r deploy_portal jobs releases manage.py
	DEBUG=1 $(BIN)/python manage.py makemigrations --check --dry-run

clean:
	rm -rf $(VENV) .demo .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv --without-pip $(VENV)

$(VENV)/installed: requirements.txt | $(BIN)/python
	$(INSTALL) -r requirements.txt
	touch $@

$(VENV)/installed-for-tests: requirements.txt tests/requirements.txt | $(BIN)/python
	$(INSTALL) -r tests/requirements.txt
	touch $@ $(VENV)/installed
