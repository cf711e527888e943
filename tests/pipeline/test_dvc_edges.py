"""Edges of the pipeline: which stages DVC reruns after a module has changed."""

import re
from pathlib import Path

import pytest

from tests.helpers.running import run_command


def changed_stages(project: Path) -> set[str]:
    """Return the stages that `dvc status` reports as changed."""
    return set(re.findall(r"(?m)^(\w+(?:@\w+)?):$", run_command(["dvc", "status"], project)))


def append_comment(path: Path) -> None:
    path.write_text(path.read_text() + "\n# a comment\n")


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("psfr/pretrained/registry.py", {"fetch_weights"}),
        # fpn degrades its training images itself, train reads the images and the table of degradations.
        ("psfr/data/degradation.py", {"degrade", "fpn", "make_testset"}),
    ],
)
def test_an_edit_reruns_only_the_stages_that_use_the_module(project, module, stages):
    assert not changed_stages(project)
    append_comment(project / module)
    assert changed_stages(project) == stages
