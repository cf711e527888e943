"""A training's state on disk: exact, two of them, and a damaged one is passed over."""

import pickle

import pytest
import torch

from psfr.training import checkpoint
from psfr.training.checkpoint import Snapshots


def state(value: float) -> dict:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(network.parameters(), 0.1, (0.5, 0.999))
    network(torch.full((1, 3), value)).sum().backward()
    optimizer.step()
    return {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [{"loss": 0.1 * value}, None],
        "none": {},
    }


def same(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def test_a_state_comes_back_as_it_was(tmp_path):
    kept, before = Snapshots(tmp_path, 60), state(1.0)
    kept.save(7, before)
    assert same(before, checkpoint.load(kept.newest()))
    assert 0 in checkpoint.load(kept.newest())["optimizer"]["state"], "numbers stay numbers where they are keys"


def test_the_newest_two_stay(tmp_path):
    kept = Snapshots(tmp_path, 60)
    for step in (9, 10, 100):
        kept.save(step, state(float(step)))
    assert sorted(path.name[:13] for path in tmp_path.iterdir()) == ["step_00000010", "step_00000100"]
    assert kept.newest().name.startswith("step_00000100")


@pytest.mark.parametrize("damage", ["a flipped bit", "cut off", "empty", "a pickle"])
def test_a_damaged_one_is_passed_over_and_said(tmp_path, capsys, damage):
    kept = Snapshots(tmp_path, 60)
    kept.save(1, state(1.0))
    kept.save(2, state(2.0))
    newest = kept.newest()
    data = bytearray(newest.read_bytes())
    data[-3] ^= 4
    newest.write_bytes(
        {"a flipped bit": data, "cut off": data[: len(data) // 2], "empty": b"", "a pickle": pickle.dumps(state(3.0))}[
            damage
        ]
    )
    assert kept.newest().name.startswith("step_00000001")
    assert f"{newest}: damaged" in capsys.readouterr().err
    assert Snapshots(tmp_path, 60).newest() == kept.newest()


def test_nothing_half_written_is_taken(tmp_path):
    kept = Snapshots(tmp_path, 60)
    (tmp_path / ".step.safetensors.partial").write_bytes(b"half")
    assert kept.newest() is None
    kept.save(1, state(1.0))
    assert [path.name[:13] for path in tmp_path.iterdir()] == ["step_00000001"]


def test_due_after_its_seconds(tmp_path):
    assert Snapshots(tmp_path, 0).due()
    assert not Snapshots(tmp_path, 60).due()
