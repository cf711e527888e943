"""A training that was stopped goes on as if it had not been; one that has gone wrong says where."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from psfr import params
from psfr.training import loop
from psfr.training.checkpoint import Snapshots
from psfr.training.loop import Course
from psfr.utils.errors import InputError

PARAMS = params.read(Path(__file__).parents[2] / "params/tiny.yaml")
QUICK = PARAMS.model_copy(
    update={"compute": PARAMS.compute.model_copy(update={"workers": 0, "checkpoint_seconds": 0.0})}
)


class Points(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, key):
        index, epoch = key
        return torch.tensor([index / 10, epoch / 10])


class Training:
    """A small network, trained with noise from torch's own generator; `at` is called in every step, with its number."""

    def __init__(self, at=lambda step: None):
        torch.manual_seed(3)
        self.network = torch.nn.Linear(2, 1)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 0.1)
        self.at, self.steps, self.epochs, self.seen = at, 0, [], []

    def step(self, batch):
        self.steps += 1
        change = self.at(self.steps)
        self.seen.append(batch)
        loss = (self.network(batch) - torch.rand(1)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach() if change is None else torch.tensor(change), "twice": 2 * loss.detach()}

    def run(self, folder: Path, values=QUICK):
        given = Course(
            "small",
            Points(),
            list("abcdefghij"),
            3,
            4,
            {"network": self.network, "optimizer": self.optimizer},
            self.step,
            self.after,
        )
        return loop.run(given, values, Snapshots(folder, values.compute.checkpoint_seconds))

    def after(self, epoch, means):
        self.epochs.append((epoch, means))


def stop(step: int, number: signal.Signals):
    return lambda at: os.kill(os.getpid(), number) if at == step else None


@pytest.mark.parametrize("step", range(1, 12))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_ends_as_an_undisturbed_one(tmp_path, capsys, step, number):
    undisturbed = Training()
    history = undisturbed.run(tmp_path / "whole")
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as stopped:
        Training(stop(step, number)).run(tmp_path / "parts")
    assert stopped.value.args == (
        f"small: stopped at step {step} of 12, its state is kept: run it again to go on",
        128 + number,
    )
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    resumed = Training()
    assert resumed.run(tmp_path / "parts") == history
    assert resumed.steps == 12 - step
    assert f"goes on after step {step}" in capsys.readouterr().out
    assert resumed.epochs == undisturbed.epochs
    assert torch.equal(resumed.network.weight, undisturbed.network.weight)
    assert all(map(torch.equal, resumed.seen, undisturbed.seen[step:]))


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()


def test_a_finished_training_does_no_step_again(tmp_path):
    first, second = Training(), Training()
    assert first.run(tmp_path / "whole") == second.run(tmp_path / "whole")
    assert second.steps == 0 and second.epochs == first.epochs
    assert torch.equal(first.network.weight, second.network.weight)


@pytest.mark.parametrize(
    ("value", "said"), [(float("nan"), "is not a number"), (float("inf"), "is not a number"), (-2e4, "is -2e\\+04")]
)
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_loss_gone_wrong_names_step_loss_and_images(tmp_path, value, said, seconds):
    values = QUICK.model_copy(update={"compute": QUICK.compute.model_copy(update={"checkpoint_seconds": seconds})})
    bad = Training(lambda step: value if step == 5 else None)
    with pytest.raises(InputError, match=f"small: loss {said} at step 5 ") as caught:
        bad.run(tmp_path / "parts", values)
    indices = (bad.seen[4][:, 0] * 10).round().int().tolist()
    assert f"(images {', '.join('abcdefghij'[index] for index in indices)})" in str(caught.value)
    newest = Snapshots(tmp_path / "parts", 0).newest()
    assert newest is None if seconds else newest.name.startswith("step_00000004"), "what is kept is from before it"
