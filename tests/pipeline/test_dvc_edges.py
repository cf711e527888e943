"""Edges of the pipeline: which stages DVC reruns after a module has changed."""

import re
from pathlib import Path

import pytest

from tests.helpers.running import run_command, set_params


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


def test_the_number_of_degraded_copies_does_not_rerun_the_training_of_the_parsing_network(project):
    set_params(project, variants=3)
    assert changed_stages(project) == {"degrade", "parse"}


def test_another_reference_set_reruns_the_evaluation_alone(project):
    (project / "data/reference/ffhq512.npz").write_bytes(b"statistics")
    assert changed_stages(project) == {"evaluate"}


def test_check_lock_finds_a_stale_lock_without_the_data(project, tmp_path):
    """A comment runs one stage again, a generator of one's own `infer`, another OpenCV all stages with images."""
    clone = tmp_path / "clone"
    run_command(["git", "clone", "-q", str(project), str(clone)], tmp_path)
    run_command(["python", ".ci/check_lock.py"], clone)
    append_comment(clone / "psfr/pretrained/registry.py")
    pins = clone / "psfr/utils/versions.yaml"
    pins.write_text(re.sub(r"opencv-python: .*", "opencv-python: 9.9.9", pins.read_text()))
    (clone / "models/external/mine.safetensors").write_bytes(b"another generator")
    output = run_command(["python", ".ci/check_lock.py"], clone, status=1)
    head, *problems, hint = re.split(": (?=run)|; ", output.strip().removeprefix("error: dvc.lock is stale: "))
    problems = sorted([head, *problems])
    assert hint == "run `dvc repro` and commit dvc.lock with the results"
    stages = [f"{stage}@{name}" for stage in ("download", "resize") for name in ("ffhq", "celebahq", "celebamask")]
    stages += ["degrade", "fpn", "parse", "train", "make_testset", "infer", "evaluate"]
    expected = [f"{stage}: versions.images in psfr/utils/versions.yaml is modified" for stage in stages]
    expected += ["fetch_weights: psfr/pretrained/registry.py is modified", "infer: models/external is modified"]
    assert problems == sorted(expected)
