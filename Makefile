# make repro       everything, from a fresh clone to trained networks, restored faces and metrics
# make test        the tests
# make check       formatter, linter, type checker and the quick tests: a second at most, no processes
# make lint        formatter, linter and type checker
# make check-lock  whether dvc.lock belongs to this code and these parameters
# make lock        requirements.lock, after a pin in requirements*.txt has changed
# Each works alone: it makes the environment in .venv first.

# The newest Python 3.11 to 3.14 in PATH that can make an environment; `make PYTHON=...` names another one
SUITABLE = import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHONS = python3.14 python3.13 python3.12 python3.11 python3
PYTHON ?= $(shell for python in $(PYTHONS); do $$python -c '$(SUITABLE)' 2> /dev/null && echo $$python && break; done)
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock
UV = uv==0.13.9
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# One worker of pytest-xdist per core, at most 8: each imports PyTorch
PYTEST = python -m pytest --numprocesses logical --maxprocesses 8 --dist worksteal

.PHONY: repro test check test-quick lint check-lock lock

repro: .venv/installed .dvc/plots/offline.html
	dvc repro

test: .venv/installed-dev
	$(PYTEST)

check:
	@$(MAKE) --jobs 2 --no-print-directory lint test-quick

test-quick: .venv/installed-dev
	$(PYTEST) -m "not slow and not process and not heavy"

lint: .venv/installed-dev
	ruff format --check .
	ruff check .
	basedpyright

check-lock: .venv/installed
	python .ci/check_lock.py

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.14 with venv found: install one (Debian and Ubuntu: apt-get install python3-venv), or name it, as in 'make PYTHON=/path/to/python'" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: requirements.txt requirements.lock .venv/bin/python
	@.venv/bin/python -m psfr.utils.system
	$(PIP_INSTALL) --requirement requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt requirements-demo.txt .venv/installed
	$(PIP_INSTALL) --requirement requirements-dev.txt --requirement requirements-demo.txt
	@touch $@

lock: .venv/bin/python
	.venv/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --no-emit-index-url \
		--custom-compile-command 'make lock' requirements.txt requirements-dev.txt requirements-demo.txt --output-file requirements.lock

# The template of DVC's page of plots, with Vega inside: it draws without the internet
.dvc/plots/offline.html: .dvc/plots/page.html psfr/utils/plots_page.py .venv/installed
	python -m psfr.utils.plots_page
