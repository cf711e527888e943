"""A pipeline that is killed and restarted gives the same bytes as an uninterrupted one.

python -m pytest -m slow tests/pipeline/test_crashes.py     # 50 kills over all stages
"""

import itertools
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils import strictyaml

from tests.helpers.running import (
    clone,
    damaged_objects,
    kill,
    run_command,
    set_cache_type,
    set_params,
    stages_run,
    start_command,
    start_process,
)

RESULTS = ("dvc.lock", "models/fpn.safetensors", "models/psfrgan", "metrics", "data/testset")

# When to kill a run: after some seconds, when a file that matches a pattern exists, or when a function of the run's
# output returns True.
KillCondition = float | str | Callable[[str], bool]


def result_files(project: Path) -> dict[str, bytes]:
    """Return the content of all results."""
    paths: list[Path] = []
    for name in RESULTS:
        path = project / name
        paths += [path] if path.is_file() else sorted(path.rglob("*"))
    return {str(path.relative_to(project)): path.read_bytes() for path in paths if path.is_file()}


def partial_files(project: Path) -> list[str]:
    return [str(path.relative_to(project)) for path in project.rglob(".*.partial") if ".dvc" not in path.parts]


def is_met(condition: KillCondition | None, project: Path, log: Path, start: float) -> bool:
    if condition is None:
        return False
    if isinstance(condition, str):
        return any(project.glob(condition))
    if callable(condition):
        return condition(log.read_text())
    return time.monotonic() - start > condition


def remove_half_written(project: Path) -> None:
    """Remove what the last kill left half-written: DVC writes these files in place (docs/reliability.md)."""
    rwlock, lock = project / ".dvc/tmp/rwlock", project / "dvc.lock"
    if rwlock.is_file() and not rwlock.read_bytes():
        rwlock.unlink()
    if lock.is_file():
        try:
            strictyaml.load(str(lock), COMPILED_LOCKFILE_SCHEMA)
        except DvcException:
            lock.unlink()


def run_with_kills(project: Path, log: Path, runs: Iterable[tuple[Callable, KillCondition | None]]) -> list[str]:
    """Run `dvc repro` once for each condition and kill it when the condition is met.

    Args:
        runs: what starts the run, `start_command` or `start_process`, and its condition; None in the last one.

    Returns:
        The output of each run. A run that ends before its condition is met is the last one.
    """
    outputs = []
    for start, condition in runs:
        remove_half_written(project)
        process = start(["dvc", "repro"], project, log)
        start_time = time.monotonic()
        while process.poll() is None:
            if is_met(condition, project, log, start_time):
                kill(process)
            time.sleep(0.002)
        outputs.append(log.read_text())
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, outputs[-1]
    assert process.returncode == 0
    return outputs


def test_clone_whose_training_is_killed_gets_the_same_lock(finished_project, tmp_path):
    """It runs as from a shell, with a process per core for images, which changes no result.

    The runs in forks, which start sooner, are killed while DVC or a stage writes.
    """
    killed = clone(tmp_path / "killed", workers="null", devices="null", checkpoint_seconds=0)
    set_cache_type(killed, "symlink")
    state_dir = "models/.train.unfinished/*/"
    runs = [
        (start_command, random.Random(4).uniform(1, 5)),
        (start_process, state_dir + "step_00000001-*"),
        (start_command, state_dir + "*step_0000002*"),
        (start_command, state_dir + "*step_00000002*"),
        (start_process, None),
    ]
    outputs = run_with_kills(killed, tmp_path / "log", runs)
    assert len(outputs) == len(runs) and stages_run(outputs[-1]) == ["train", "infer", "evaluate"]
    assert sum("train: resuming after step" in output for output in outputs) >= 2
    assert result_files(killed) == result_files(finished_project)
    assert partial_files(killed) == []
    assert damaged_objects(killed) == []


def once_in_each_stage(rng: random.Random) -> Callable[[str], bool]:
    """Return a condition that is met once in each stage, up to 0.2 seconds after its start, before a quick one ends."""
    seen: set[str] = set()
    deadline: float | None = None

    def condition(output: str) -> bool:
        nonlocal deadline
        stages = stages_run(output)
        if stages and stages[-1] not in seen:
            seen.add(stages[-1])
            deadline = time.monotonic() + rng.uniform(0, 0.2)
        if deadline is None or time.monotonic() <= deadline:
            return False
        deadline = None
        return True

    return condition


@pytest.mark.slow
def test_fifty_kills_over_all_stages(project, tmp_path):
    """Reproduce the counts of docs/reliability.md: first a kill in every stage, then kills at random times."""
    set_params(project, epochs=6, checkpoint_seconds=0)
    killed = Path(shutil.copytree(project, tmp_path / "other", symlinks=True))
    run_command(["dvc", "repro"], project)
    rng = random.Random(5)
    num_kills = 0
    cache_types = itertools.cycle(["hardlink", "symlink", "copy"])
    kills_per_stage: dict[str, int] = {}
    while num_kills < 50:
        for path in ("data", "models", "metrics", ".dvc/cache", ".dvc/tmp", "dvc.lock"):
            shutil.rmtree(killed / path, ignore_errors=True)
        run_command(["git", "checkout", "--force", "."], killed)
        set_params(killed, epochs=6, checkpoint_seconds=0)
        set_cache_type(killed, next(cache_types))
        (killed / "dvc.lock").unlink()
        conditions: list[KillCondition] = [once_in_each_stage(rng)] * 60
        if num_kills:
            conditions = [rng.uniform(0.5, 12) for _ in range(60)]
        runs = [(start_process, condition) for condition in [*conditions, None]]
        outputs = run_with_kills(killed, tmp_path / "log", runs)
        num_kills += len(outputs) - 1
        for output in outputs[:-1]:
            stage = (stages_run(output) or ["before any"])[-1]
            kills_per_stage[stage] = kills_per_stage.get(stage, 0) + 1
        assert result_files(killed) == result_files(project)
        assert partial_files(killed) == []
        assert damaged_objects(killed) == []
    assert kills_per_stage.keys() >= {
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
    print(f"{num_kills} kills: {kills_per_stage}")
