"""Hostile files are read or refused with one line, within limits of time and memory and without side effects."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import hostile, hostile_crafted, hostile_mutations

# Kinds that are read by libraries are drawn more often.
KINDS = [*hostile.SUFFIXES, "image", "image", "photograph", "photograph", "mask", "checkpoint", "weights"]


def write_files(folder: Path, seed: int, count: int, large: bool) -> list[tuple[int, str, str]]:
    """Write `count` hostile files and return the number, kind and path of each."""
    rng = np.random.default_rng(seed)
    valid = hostile.valid_files()
    all_valid = [content for contents in valid.values() for content in contents]
    crafted = hostile_crafted.crafted_files(large)
    crafted = [crafted[i] for i in rng.permutation(len(crafted))[: count // (1 if large else 2)]]
    files = []
    for number in range(count):
        kind = KINDS[rng.integers(len(KINDS))]
        path = folder / f"{number:05}"
        if number < len(crafted):
            kind, suffix, content = crafted[number]
        elif kind != "folder":
            suffix = hostile.SUFFIXES[kind][rng.integers(len(hostile.SUFFIXES[kind]))]
            same_kind = valid[kind]
            others = same_kind if rng.random() < 0.8 else all_valid
            source, other = same_kind[rng.integers(len(same_kind))], others[rng.integers(len(others))]
            content = hostile_mutations.mutate(rng, source, other)
        if kind == "folder":
            hostile.write_odd_folder(rng, path)
        else:
            if kind == "model":
                path = path / "shape_predictor_5_face_landmarks.dat"
                path.parent.mkdir()
            path = path.with_suffix(suffix)
            path.write_bytes(content)
        files.append((number, kind, str(path)))
    return files


def read_files(sandbox: Path, files: list[tuple[int, str, str]]) -> dict[int, str]:
    """Read the files in a child process, and the rest in another one if a file crashes it; return all outcomes."""
    (sandbox / "out").mkdir()
    for name in ("tmp", "home"):
        (sandbox / name).mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(hostile.ROOT),
        "TMPDIR": str(sandbox / "tmp"),
        "HOME": str(sandbox / "home"),
        "PYTHONWARNINGS": "ignore",
    }
    outcomes: dict[int, str] = {}
    while rest := [file for file in files if file[0] not in outcomes]:
        (sandbox / "list.json").write_text(json.dumps(rest))
        command = [sys.executable, str(hostile.ROOT / "tests/helpers/read_hostile.py"), "list.json", "out"]
        process = subprocess.run(
            command,
            cwd=sandbox,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
        )
        num_outcomes = len(outcomes)
        for line in process.stdout.splitlines():
            number, outcome = json.loads(line)
            outcomes[number] = outcome
        for number, outcome in outcomes.items():
            if outcome == "begun":
                outcomes[number] = f"exit status {process.returncode}"
        assert len(outcomes) > num_outcomes, process.stderr[-2000:]
    return outcomes


def snapshot(folder: Path) -> dict[str, str]:
    """Return all entries of a folder, with the hash of each regular file."""
    entries = {}
    for parent, folders, files in os.walk(os.fsencode(folder)):
        for name in folders + files:
            path = os.path.join(parent, name)
            is_regular = os.path.isfile(path) and not os.path.islink(path)
            entries[repr(path)] = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest() if is_regular else ""
    return entries


def attack(sandbox: Path, seed: int, count: int, large: bool) -> None:
    """Read `count` hostile files, print the outcomes by kind, and assert that there are no crashes or side effects."""
    folder = sandbox / "files"
    folder.mkdir()
    start = time.perf_counter()
    files = write_files(folder, seed, count, large)
    before, written = snapshot(folder), time.perf_counter()
    outcomes = read_files(sandbox, files)
    faults = [
        f"{kind} {path}: {outcomes[number]}"
        for number, kind, path in files
        if outcomes[number] not in ("read", "refused")
    ]
    counts = Counter(
        (kind, outcomes[number] if outcomes[number] in ("read", "refused") else "FAULT") for number, kind, _ in files
    )
    for kind in hostile.SUFFIXES:
        print(
            f"{kind:12}", *(f"{result} {counts[kind, result]:5}" for result in ("read", "refused", "FAULT")), sep="  "
        )
    print(f"{len(files)} files, written in {written - start:.1f} s, read in {time.perf_counter() - written:.1f} s")
    assert snapshot(folder) == before
    assert sorted(path.name for path in sandbox.iterdir()) == ["files", "home", "list.json", "out", "tmp"]
    assert not [*(sandbox / "tmp").iterdir(), *(sandbox / "home").iterdir()]
    assert not faults


@pytest.mark.process
def test_hostile_files(tmp_path):
    attack(tmp_path, seed=1, count=300, large=False)


@pytest.mark.slow
@pytest.mark.process
def test_thousands_of_hostile_files(tmp_path):
    attack(tmp_path, seed=2, count=3000, large=True)
