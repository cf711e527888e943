"""Training loop: bit-exact resuming after a signal, and the errors of a diverging loss and of weights that are NaN."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from psfr.training import checkpoint, loop
from psfr.training.checkpoint import CheckpointManager
from psfr.training.loop import training_loop
from psfr.utils.errors import UserError

BATCH_SIZE, EPOCHS = 3, 4  # 3 steps per epoch, 12 in all


class Points(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, key):
        index, epoch = key
        return torch.tensor([index / 10, epoch / 10])


class Training:
    """A small network, trained with noise from torch's default generator.

    Args:
        on_step: called in each step with its number from 1; what it returns, if not None, is reported as the loss.
    """

    def __init__(self, on_step=lambda step: None):
        torch.manual_seed(3)
        self.network = torch.nn.Linear(2, 1)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 0.1)
        self.on_step, self.num_steps, self.batches, self.indices = on_step, 0, [], []

    def step(self, batch, index):
        self.indices.append(index)
        self.num_steps += 1
        reported = self.on_step(self.num_steps)
        self.batches.append(batch)
        loss = (self.network(batch) - torch.rand(1)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach() if reported is None else torch.tensor(reported), "doubled": 2 * loss.detach()}

    def run(self, folder: Path, checkpoint_interval: float = 0.0, watcher=None):
        return training_loop(
            name="small",
            dataset=Points(),
            sample_names=list("abcdefghij"),
            modules={"network": self.network, "optimizer": self.optimizer},
            step_fn=self.step,
            batch_size=BATCH_SIZE,
            epochs=EPOCHS,
            seed=1,
            num_workers=0,
            device=torch.device("cpu"),
            checkpoints=CheckpointManager(folder, checkpoint_interval),
            watcher=watcher,
        )


class Watcher:
    """Notes what it is told; a score is the sum of the weights."""

    def __init__(self, training: Training, log_every: int = 4, validate_every: int = 5):
        self.training, self.log_every, self.validate_every = training, log_every, validate_every
        self.told, self.validated = [], []

    def on_log(self, step, means):
        self.told.append(("log", step, means))

    def validate(self, step):
        self.validated.append(step)
        return {"weights": self.training.network.weight.sum().item()}

    def on_validation(self, step, scores):
        self.told.append(("validation", step, scores))


def send_signal(step: int, signum: signal.Signals):
    return lambda current: os.kill(os.getpid(), signum) if current == step else None


@pytest.mark.heavy
@pytest.mark.parametrize("step", range(1, 12))
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_resumes_exactly(tmp_path, capsys, step, signum):
    uninterrupted = Training()
    history = uninterrupted.run(tmp_path / "whole")
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as stopped:
        Training(send_signal(step, signum)).run(tmp_path / "parts")
    message, status = stopped.value.args
    assert message.startswith(f"small: stopped at step {step} of 12") and status == 128 + signum
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    resumed = Training()
    assert resumed.run(tmp_path / "parts") == history
    assert resumed.num_steps == 12 - step
    assert resumed.indices == list(range(step, 12))
    assert f"resuming after step {step}" in capsys.readouterr().out
    assert torch.equal(resumed.network.weight, uninterrupted.network.weight)
    assert all(map(torch.equal, resumed.batches, uninterrupted.batches[step:]))


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in ("whole", "parts", "plain"):
        (tmp_path / name).mkdir()


def test_finished_training_runs_no_step(tmp_path):
    first, second = Training(), Training()
    assert first.run(tmp_path / "whole") == second.run(tmp_path / "whole")
    assert second.num_steps == 0
    assert torch.equal(first.network.weight, second.network.weight)


@pytest.mark.parametrize("step", [3, 4, 5, 7, 11])
def test_watcher_is_told_the_same_after_an_interruption(tmp_path, step):
    """And neither its intervals nor an interruption change a weight."""
    plain = Training()
    plain.run(tmp_path / "plain")
    whole = Training()
    watcher = Watcher(whole)
    whole.run(tmp_path / "whole", watcher=watcher)
    assert [entry[:2] for entry in watcher.told] == [
        *(("log", 4), ("validation", 5), ("log", 8), ("validation", 10), ("log", 12), ("validation", 12))
    ]
    assert torch.equal(whole.network.weight, plain.network.weight)
    first = Training(send_signal(step, signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "parts", watcher=Watcher(first))
    resumed = Training()
    resumed_watcher = Watcher(resumed)
    resumed.run(tmp_path / "parts", watcher=resumed_watcher)
    assert resumed_watcher.told == watcher.told
    assert resumed_watcher.validated == [validated for validated in (5, 10, 12) if validated > step]
    assert torch.equal(resumed.network.weight, whole.network.weight)


def test_logged_losses_are_means_over_the_interval(tmp_path):
    training = Training(lambda step: float(step))
    watcher = Watcher(training, log_every=5, validate_every=0)
    training.run(tmp_path / "whole", watcher=watcher)
    assert [(step, means["loss"]) for _, step, means in watcher.told] == [(5, 3.0), (10, 8.0), (12, 11.5)]
    assert watcher.validated == []


@pytest.mark.parametrize(
    ("value", "problem"), [(float("nan"), "is not finite"), (float("inf"), "is not finite"), (-2e4, "is -2e\\+04")]
)
@pytest.mark.parametrize("checkpoint_interval", [0.0, 60.0])
def test_diverging_loss_names_step_loss_and_images(tmp_path, value, problem, checkpoint_interval):
    training = Training(lambda step: value if step == 5 else None)
    with pytest.raises(UserError, match=f"small: loss {problem} at step 5 ") as caught:
        training.run(tmp_path / "parts", checkpoint_interval)
    indices = (training.batches[4][:, 0] * 10).round().int().tolist()
    assert f"(images {', '.join('abcdefghij'[index] for index in indices)})" in str(caught.value)
    latest = CheckpointManager(tmp_path / "parts", 0).latest()
    if checkpoint_interval:
        assert latest is None
        assert str(caught.value).endswith("lower the learning rates; no checkpoint was saved before")
    else:
        assert latest.name.startswith("step_00000004"), "the checkpoint is from before the bad step"
        assert str(caught.value).endswith("lower the learning rates; the checkpoint of step 4 is kept")


class CorruptedTraining(Training):
    """Makes a tensor of its state not finite in one step; its losses stay finite."""

    def __init__(self, corrupted_step: int, tensor: str, value: float):
        super().__init__()
        self.corrupted_step, self.tensor, self.value = corrupted_step, tensor, value

    def step(self, batch, index):
        super().step(batch, index)
        if self.num_steps == self.corrupted_step:
            if self.tensor == "network.weight":
                self.network.weight.data[0, 1] = self.value
            else:
                self.optimizer.state[self.network.bias]["exp_avg_sq"].fill_(self.value)
        return {"loss": torch.tensor(0.5)}


@pytest.mark.parametrize(
    ("tensor", "value"), [("network.weight", float("nan")), ("optimizer.state.1.exp_avg_sq", float("inf"))]
)
@pytest.mark.parametrize("step", [5, 12])
@pytest.mark.parametrize("checkpoint_interval", [0.0, 60.0])
def test_state_that_is_not_finite_is_not_saved(tmp_path, tensor, value, step, checkpoint_interval):
    training = CorruptedTraining(step, tensor, value)
    watcher = Watcher(training, log_every=3, validate_every=3)
    with pytest.raises(UserError) as caught:
        training.run(tmp_path / "parts", checkpoint_interval, watcher)
    found_after = 6 if checkpoint_interval and step == 5 else step  # at a checkpoint or at the end of an epoch
    message = str(caught.value)
    assert message.startswith(f"small: {tensor} has values that are not finite after step {found_after}")
    told = [told_step for _, told_step, _ in watcher.told]
    assert told == [told_step for told_step in (3, 3, 6, 6, 9, 9) if told_step < step]
    latest = CheckpointManager(tmp_path / "parts", 0).latest()
    if checkpoint_interval:
        assert latest is None and message.endswith("lower the learning rates; no checkpoint was saved before")
    else:
        assert message.endswith(f"lower the learning rates; the checkpoint of step {step - 1} is kept")
        assert latest.name.startswith(f"step_{step - 1:08}")
        assert not checkpoint.non_finite_tensors(checkpoint.load(latest))


def test_losses_of_some_steps_are_averaged_over_them(tmp_path):
    """Also if the training is resumed within an epoch; norms of gradients may be larger than losses."""

    class AlternatingLosses(Training):
        def step(self, batch, index):
            super().step(batch, index)
            return {"odd" if index % 2 else "even": torch.tensor(float(index)), "grad_odd": torch.tensor(1e9)}

    with pytest.raises(KeyboardInterrupt):
        AlternatingLosses(send_signal(2, signal.SIGTERM)).run(tmp_path / "parts")
    history = AlternatingLosses().run(tmp_path / "parts")
    assert [(means["even"], means["odd"]) for means in history] == [(1, 1), (4, 4), (7, 7), (10, 10)]


@pytest.mark.skipif(
    torch.version.cuda is not None, reason="torch's CUDA build asks for its device in an optimizer's step"
)
def test_training_on_the_cpu_opens_no_cuda_context(tmp_path, monkeypatch):
    """Also on a machine with a GPU: neither random states nor batches in pinned memory."""

    def fail(*_):
        raise AssertionError("opens a CUDA context")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", fail)
    with pytest.raises(KeyboardInterrupt):
        Training(send_signal(5, signal.SIGINT)).run(tmp_path / "parts")
    resumed = Training()
    resumed.run(tmp_path / "parts")
    assert resumed.num_steps == 7


def test_losses_of_an_unfinished_epoch_are_on_the_device_of_the_training(tmp_path):
    checkpoints, losses = CheckpointManager(tmp_path / "parts", 0), {"grad_ss": torch.tensor(1.0)}
    loop._save_checkpoint({}, loop.TrainState(3, losses, {"grad_ss": 1}), checkpoints, torch.device("cpu"))
    state = loop._load_checkpoint("small", {}, checkpoints, torch.device("meta"))
    assert state.loss_sums["grad_ss"].device.type == "meta"


def test_random_state_of_the_gpu_is_saved_and_restored(tmp_path, monkeypatch):
    states = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.tensor([7, 3], dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states.append((state.tolist(), device)))
    device = torch.device("cuda")
    checkpoints = CheckpointManager(tmp_path / "parts", 0)
    loop._save_checkpoint({}, loop.TrainState(3), checkpoints, device)
    assert loop._load_checkpoint("small", {}, checkpoints, device).step == 3
    assert states == [([7, 3], device)]
    loop._load_checkpoint("small", {}, checkpoints, torch.device("cpu"))
    assert len(states) == 1, "a training that continues on the CPU leaves the GPU alone"
