"""Training checkpoints: exact, the latest two, damaged ones are skipped."""

import pickle

import pytest
import torch

from psfr.networks.spectral_norm import SpectralNormConv2d
from psfr.training import checkpoint
from psfr.training.checkpoint import CheckpointManager


def make_state(value: float) -> dict:
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


def equal(first: object, second: object) -> bool:
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


def test_round_trip_is_exact(tmp_path):
    checkpoints, state = CheckpointManager(tmp_path, 60), make_state(1.0)
    checkpoints.save(7, state)
    loaded = checkpoint.load(checkpoints.latest())
    assert equal(state, loaded)
    assert 0 in loaded["optimizer"]["state"], "integer keys stay integers"


def test_keeps_latest_two(tmp_path):
    checkpoints = CheckpointManager(tmp_path, 60)
    for step in (9, 10, 100):
        checkpoints.save(step, make_state(float(step)))
    assert sorted(path.name[:13] for path in tmp_path.iterdir()) == ["step_00000010", "step_00000100"]
    assert checkpoints.latest().name.startswith("step_00000100")
    assert checkpoints.latest_step() == 100


@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "empty", "pickle"])
def test_skips_damaged_checkpoint_with_warning(tmp_path, capsys, damage):
    checkpoints = CheckpointManager(tmp_path, 60)
    checkpoints.save(1, make_state(1.0))
    checkpoints.save(2, make_state(2.0))
    latest = checkpoints.latest()
    content = latest.read_bytes()
    flipped = bytearray(content)
    flipped[-3] ^= 4
    damaged = {
        "flipped bit": flipped,
        "truncated": content[: len(content) // 2],
        "empty": b"",
        "pickle": pickle.dumps(make_state(3.0)),
    }
    latest.write_bytes(damaged[damage])
    assert checkpoints.latest().name.startswith("step_00000001")
    assert f"{latest}: damaged" in capsys.readouterr().err
    assert CheckpointManager(tmp_path, 60).latest() == checkpoints.latest()


def test_ignores_partially_written_file(tmp_path):
    checkpoints = CheckpointManager(tmp_path, 60)
    (tmp_path / ".step.safetensors.partial").write_bytes(b"half")
    assert checkpoints.latest() is None and checkpoints.latest_step() is None
    checkpoints.save(1, make_state(1.0))
    assert [path.name[:13] for path in tmp_path.iterdir()] == ["step_00000001"]


def test_is_due_after_interval(tmp_path):
    assert CheckpointManager(tmp_path, 0).is_due()
    assert not CheckpointManager(tmp_path, 60).is_due()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_finds_every_tensor_that_is_not_finite(value):
    network = torch.nn.Sequential(SpectralNormConv2d(2, 3), torch.nn.BatchNorm2d(3))
    network(torch.randn(2, 2, 4, 4)).sum().backward()
    optimizer = torch.optim.Adam(network.parameters())
    optimizer.step()
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    assert checkpoint.non_finite_tensors(state) == []
    tensors = dict(checkpoint._floating_tensors(state, ""))
    assert {"network.0.weight", "network.0.u", "network.1.running_var", "optimizer.state.0.exp_avg"} < set(tensors)
    for name, tensor in tensors.items():
        with torch.no_grad():
            flat = tensor.view(-1)
            finite = flat[-1].clone()
            flat[-1] = value
            assert checkpoint.non_finite_tensors(state) == [name]
            flat[-1] = finite
