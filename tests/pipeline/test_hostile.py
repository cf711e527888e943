"""No file of others breaks a reader: each is read or refused in one line, within time and memory, and nothing is written elsewhere."""

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

from tests.helpers import hostile

KINDS = [
    *hostile.SUFFIXES,
    "image",
    "image",
    "mask",
    "checkpoint",
    "weights",
]  # more of those that others' libraries read


def write(folder: Path, seed: int, count: int, large: bool) -> list[tuple[int, str, str]]:
    """Write `count` hostile files; number, kind and path of each."""
    rng = np.random.default_rng(seed)
    samples = hostile.samples()
    every = [content for contents in samples.values() for content in contents]
    files = hostile.built(large)
    files = [files[i] for i in rng.permutation(len(files))[: count // (1 if large else 2)]]
    listed = []
    for number in range(count):
        kind = KINDS[rng.integers(len(KINDS))]
        path = folder / f"{number:05}"
        if number < len(files):
            kind, suffix, content = files[number]
        elif kind != "folder":
            suffix = hostile.SUFFIXES[kind][rng.integers(len(hostile.SUFFIXES[kind]))]
            of_kind = samples[kind]
            other = of_kind if rng.random() < 0.8 else every
            content = hostile.changed(rng, of_kind[rng.integers(len(of_kind))], other[rng.integers(len(other))])
        if kind == "folder":
            hostile.odd_folder(rng, path)
        else:
            if kind == "model":
                path = path / "shape_predictor_5_face_landmarks.dat"
                path.parent.mkdir()
            path = path.with_suffix(suffix)
            path.write_bytes(content)
        listed.append((number, kind, str(path)))
    return listed


def outcomes(sandbox: Path, listed: list[tuple[int, str, str]]) -> dict[int, str]:
    """What became of each file, read in a child process; where one ends it, another child takes the rest."""
    (sandbox / "out").mkdir()
    for name in ("tmp", "home"):
        (sandbox / name).mkdir()
    environment = os.environ | {
        "PYTHONPATH": str(hostile.REPOSITORY),
        "TMPDIR": str(sandbox / "tmp"),
        "HOME": str(sandbox / "home"),
        "PYTHONWARNINGS": "ignore",
    }
    found: dict[int, str] = {}
    while rest := [each for each in listed if each[0] not in found]:
        (sandbox / "list.json").write_text(json.dumps(rest))
        command = [sys.executable, str(hostile.REPOSITORY / "tests/helpers/read_hostile.py"), "list.json", "out"]
        done = subprocess.run(
            command,
            cwd=sandbox,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        before = len(found)
        for line in done.stdout.splitlines():
            number, outcome = json.loads(line)
            found[number] = outcome
        begun = [number for number, outcome in found.items() if outcome == "begun"]
        for number in begun:
            found[number] = f"ended with status {done.returncode}"
        assert len(found) > before, done.stderr[-2000:]
    return found


def state(folder: Path) -> dict[str, str]:
    """Every entry of a folder, with the digest of each file."""
    entries = {}
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in folders + files:
            path = os.path.join(place, name)
            regular = os.path.isfile(path) and not os.path.islink(path)
            entries[repr(path)] = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest() if regular else ""
    return entries


def attack(sandbox: Path, seed: int, count: int, large: bool) -> None:
    files = sandbox / "files"
    files.mkdir()
    start = time.perf_counter()
    listed = write(files, seed, count, large)
    before, written = state(files), time.perf_counter()
    found = outcomes(sandbox, listed)
    table = Counter(
        (kind, found[number] if found[number] in ("read", "refused") else "FAULT") for number, kind, _ in listed
    )
    for kind in hostile.SUFFIXES:
        print(
            f"{kind:12}", *(f"{outcome} {table[kind, outcome]:5}" for outcome in ("read", "refused", "FAULT")), sep="  "
        )
    print(f"{len(listed)} files, written in {written - start:.1f} s, read in {time.perf_counter() - written:.1f} s")
    assert state(files) == before
    assert sorted(path.name for path in sandbox.iterdir()) == ["files", "home", "list.json", "out", "tmp"]
    assert not [*(sandbox / "tmp").iterdir(), *(sandbox / "home").iterdir()]
    assert not [
        f"{kind} {path}: {found[number]}" for number, kind, path in listed if found[number] not in ("read", "refused")
    ]


def test_hostile_files(tmp_path):
    attack(tmp_path, seed=1, count=300, large=False)


@pytest.mark.slow
def test_thousands_of_hostile_files(tmp_path):
    attack(tmp_path, seed=2, count=3000, large=True)
