"""What several test files build on."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.running import clone, ran


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A clone in which `dvc repro` has run on params/tiny.yaml, its results committed: to be copied, not changed."""
    folder = clone(tmp_path_factory.mktemp("finished") / "project")
    ran(["dvc", "repro"], folder)
    ran(["git", "add", "-A"], folder)
    ran(["git", "commit", "-q", "-m", "results"], folder)
    return folder


@pytest.fixture
def project(finished, tmp_path) -> Path:
    """A copy of `finished` to do as one likes with."""
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))
