# make repro: everything, from a fresh clone to trained networks, restored faces and metrics.
# make test: the tests. Each works alone.

PYTHON ?= python3.11
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: repro test

repro: .venv/installed .dvc/plots/offline.html
	dvc repro

test: .venv/installed
	python -m pytest

.venv/installed: requirements.txt
	@command -v $(PYTHON) > /dev/null || { echo "error: there is no $(PYTHON): install Python 3.11, or name it, as in 'make PYTHON=python3'" >&2; exit 1; }
	@$(PYTHON) -m psfr.utils.system
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

# DVC's pages of plots, drawn without the internet
.dvc/plots/offline.html: .dvc/plots/page.html psfr/utils/plots_page.py .venv/installed
	python -m psfr.utils.plots_page
