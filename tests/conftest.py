"""Fixtures shared by several test files."""

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers.running import clone, run_command

# Hypothesis's time limit of 200 ms per example fails on a busy machine and tests nothing of this project.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory) -> Path:
    """A clone in which `dvc repro` has run on params/tiny.yaml, results committed. Copy it, do not modify it."""
    folder = clone(tmp_path_factory.mktemp("finished") / "project")
    run_command(["dvc", "repro"], folder)
    run_command(["git", "add", "-A"], folder)
    run_command(["git", "commit", "-q", "-m", "results"], folder)
    return folder


@pytest.fixture
def project(finished_project, tmp_path) -> Path:
    """A copy of `finished_project` that the test may modify."""
    return Path(shutil.copytree(finished_project, tmp_path / "project", symlinks=True))
