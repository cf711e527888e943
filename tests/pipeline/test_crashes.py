"""What is killed at any moment and started again ends with the same bytes.

python -m pytest -m slow tests/test_crashes.py     # 50 kills over all stages
"""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.running import changed, kill, ran, stages_run, started

OUTCOMES = ("dvc.lock", "models/fpn.safetensors", "models/psfrgan", "metrics", "data/testset")


def outcome(project: Path) -> dict[str, bytes]:
    """The bytes of all that a run leaves."""
    files = [
        file
        for name in OUTCOMES
        for file in ([project / name] if (project / name).is_file() else sorted((project / name).rglob("*")))
    ]
    return {str(file.relative_to(project)): file.read_bytes() for file in files if file.is_file()}


def leftovers(project: Path) -> list[str]:
    """What is unfinished, but the state of finished trainings."""
    return [str(path.relative_to(project)) for path in project.rglob(".*.partial") if ".dvc" not in path.parts]


def repeated(project: Path, log: Path, moments) -> list[str]:
    """Start `dvc repro` and kill it after a moment, once for each of the moments; then let it end. Returns what each start printed.

    A moment is seconds, a pattern of a file that must appear, or a function that looks at what was printed.
    """
    said = []
    for moment in [*moments, None]:
        process = started(["dvc", "repro"], project, log)
        began = time.monotonic()
        while process.poll() is None:
            if isinstance(moment, str):
                over = any(project.glob(moment))
            elif callable(moment):
                over = moment(log.read_text())
            else:
                over = moment is not None and time.monotonic() - began > moment
            if over:
                kill(process)
            time.sleep(0.002)
        said.append(log.read_text())
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said[-1]
    assert process.returncode == 0
    return said


def test_a_killed_training_ends_as_an_undisturbed_one(project, tmp_path):
    changed(project, epochs=6, checkpoint_seconds=0)
    other = Path(shutil.copytree(project, tmp_path / "other", symlinks=True))
    ran(["dvc", "repro"], project)
    state, rng = "models/.train.unfinished/*/", random.Random(4)
    moments = [
        rng.uniform(2, 12),
        state + "step_00000002*",
        rng.uniform(2, 12),
        state + ".step*.partial",
        rng.uniform(2, 12),
        state + "epoch_005.png",
    ]
    said = repeated(other, tmp_path / "log", moments)
    assert sum("train: goes on after step" in text for text in said) >= 2
    assert outcome(other) == outcome(project)
    assert leftovers(other) == []


def in_each_stage(rng: random.Random):
    """A moment soon after the beginning of each stage, once."""
    met, due = set(), []

    def moment(text: str) -> bool:
        stage = (stages_run(text) or [None])[-1]
        if stage and stage not in met:
            met.add(stage)
            due[:] = [time.monotonic() + rng.uniform(0.2, 2)]
        return bool(due) and time.monotonic() > due[0] and bool(due.pop())

    return moment


@pytest.mark.slow
def test_fifty_kills_over_all_stages(project, tmp_path):
    """Figures of docs/reliability.md, in minutes: the first time through every stage is met, then any moment is."""
    changed(project, epochs=6, checkpoint_seconds=0)
    other = Path(shutil.copytree(project, tmp_path / "other", symlinks=True))
    ran(["dvc", "repro"], project)
    rng = random.Random(5)
    kills, stages = 0, {}
    while kills < 50:
        for path in ("data", "models", "metrics", ".dvc/cache", ".dvc/tmp", "dvc.lock"):
            shutil.rmtree(other / path, ignore_errors=True)
        ran(["git", "checkout", "--force", "."], other)
        changed(other, epochs=6, checkpoint_seconds=0)
        (other / "dvc.lock").unlink()
        moments = [rng.uniform(0.5, 12) for _ in range(60)] if kills else [in_each_stage(rng)] * 60
        said = repeated(other, tmp_path / "log", moments)
        kills += len(said) - 1
        for text in said[:-1]:
            stage = (stages_run(text) or ["before any"])[-1]
            stages[stage] = stages.get(stage, 0) + 1
        assert outcome(other) == outcome(project)
        assert leftovers(other) == []
    assert stages.keys() >= {
        "download@ffhq",
        "resize@ffhq",
        "degrade",
        "fpn",
        "parse",
        "train",
        "make_testset",
        "infer",
        "evaluate",
    }
    print(f"{kills} kills: {stages}")
