# make repro       everything, from a fresh clone to trained networks, restored faces and metrics
# make test        the tests
# make lint        formatter, linter and type checker
# make check-lock  whether dvc.lock belongs to this code and these parameters
# Each works alone: it makes the environment in .venv first.

PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test lint check-lock

repro: .venv/installed .dvc/plots/offline.html
	dvc repro

test: .venv/installed-dev
	python -m pytest

lint: .venv/installed-dev
	ruff format --check .
	ruff check .
	basedpyright

check-lock: .venv/installed
	python .ci/check_lock.py

.venv/installed: requirements.txt
	@command -v $(PYTHON) > /dev/null || { echo "error: no $(PYTHON) found: install Python 3.11, or name it, as in 'make PYTHON=python3'" >&2; exit 1; }
	@$(PYTHON) -m psfr.utils.system
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

# The template of DVC's page of plots, with Vega inside: it draws without the internet
.dvc/plots/offline.html: .dvc/plots/page.html psfr/utils/plots_page.py .venv/installed
	python -m psfr.utils.plots_page
