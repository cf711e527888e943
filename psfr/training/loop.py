"""Training loop with checkpoints, loss monitoring and graceful shutdown."""

import math
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from psfr.compute import processes
from psfr.data.datasets import VariantBatchSampler, make_dataloader
from psfr.training import checkpoint
from psfr.training.checkpoint import CheckpointManager
from psfr.utils.errors import UserError, join_first

MAX_LOSS = 1e4  # absolute value of a loss or score beyond which the training has diverged
MAX_SKIPPED = 32  # steps after which loss scaling that still overflows has failed: the scale has fallen by 2^32
CHECK_INTERVAL = 10  # steps between two checks of the losses: reading a loss waits for the GPU


class Watcher(Protocol):
    """What is told of a training while it runs, on rank 0 only. It must change neither modules nor random numbers.

    Attributes:
        log_every: steps over which losses are averaged.
        validate_every: steps between two validations; 0: none.
    """

    log_every: int
    validate_every: int

    def on_log(self, step: int, means: dict[str, float], /) -> object:
        """Take the mean losses of the steps since the last call, after `step` steps."""

    def validate(self, step: int, /) -> dict[str, float]:
        """Return scores of the modules after `step` steps."""
        ...

    def on_validation(self, step: int, scores: dict[str, float], /) -> object:
        """Take the result of `validate`."""


class Stateful(Protocol):
    """A network, an optimizer or a learning rate scheduler."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> object: ...


@dataclass
class TrainState:
    """Progress of a training, saved in its checkpoints beside the state of the modules."""

    step: int = 0  # finished steps
    # Sum of each loss over the steps since the last entry of the history, averaged over the processes; their number.
    loss_sums: dict[str, Tensor] = field(default_factory=dict)
    loss_counts: dict[str, int] = field(default_factory=dict)
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)  # steps and mean losses
    validations: list[tuple[int, dict[str, float]]] = field(default_factory=list)  # steps and scores


def training_loop(
    *,
    name: str,  # Name of the training in messages and on the progress bar.
    dataset: Dataset,  # Maps (index, epoch) to a sample.
    sample_names: list[str],  # Name of each sample, for error messages.
    modules: Mapping[str, Stateful],  # All that a step changes (networks, optimizers, schedulers), by checkpoint key.
    # Trains on this process's part of a batch in a step, counted from 0. Returns detached losses, not the same ones in
    # every step, norms of gradients, whose names begin with "grad_", and whether loss scaling skipped an update, 1 or
    # 0, under a name that begins with "skipped".
    step_fn: Callable[[Any, int], dict[str, Tensor]],
    batch_size: int,  # Samples per step, over all processes.
    epochs: int,  # Passes over the dataset.
    seed: int,  # Seed of the sample order.
    num_workers: int,  # Data loading processes; 0 loads in this process.
    device: torch.device,  # Where the training runs.
    checkpoints: CheckpointManager,  # Where and how often the state is saved.
    watcher: Watcher | None = None,  # Used on rank 0.
) -> list[dict[str, float]]:
    """Train until the last epoch, starting from the latest checkpoint if there is one.

    A resumed training computes the same weights, bit for bit, as an uninterrupted one. The watcher is first told all
    earlier results again. After the last step it is told the losses and validates, whatever its intervals are.

    Returns:
        The mean losses of each interval of the watcher, or of each epoch without one.

    Raises:
        UserError: if a loss is not finite or exceeds `MAX_LOSS`, if a tensor of the modules' state is not finite after
            an epoch or where a checkpoint is due, or if the processes cannot share a batch evenly.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the step is finished and the state is saved.
    """
    sampler = VariantBatchSampler(len(sample_names), batch_size, seed, processes.get_rank(), processes.get_world_size())
    batches = make_dataloader(dataset, sampler, num_workers, device)
    monitor = LossMonitor(name, sample_names, VariantBatchSampler(len(sample_names), batch_size, seed), checkpoints)
    steps_per_epoch = len(sampler)
    total_steps = epochs * steps_per_epoch
    log_every = watcher.log_every if watcher else steps_per_epoch
    is_rank_zero = processes.get_rank() == 0

    state = _load_checkpoint(name, modules, checkpoints, device)
    if watcher:
        _replay(state, watcher)

    with (
        GracefulInterrupt() as interrupt,
        tqdm(total=total_steps, initial=state.step, desc=name, unit="step", disable=not is_rank_zero) as progress,
    ):
        for epoch in range(state.step // steps_per_epoch, epochs):
            sampler.epoch = epoch
            sampler.start_batch = state.step % steps_per_epoch
            for batch in batches:
                losses = step_fn(batch, state.step)
                processes.all_reduce_mean_(losses.values())  # the sums in a checkpoint are those of all processes
                monitor.update(state.step, losses)
                state.step += 1
                for key, loss in losses.items():
                    state.loss_sums[key] = state.loss_sums.get(key, 0) + loss
                    state.loss_counts[key] = state.loss_counts.get(key, 0) + 1
                progress.update()
                is_finished = state.step == total_steps

                if state.step % steps_per_epoch == 0:
                    monitor.check()
                    _check_modules(name, modules, state.step, checkpoints)

                if state.step % log_every == 0 or is_finished:
                    monitor.check()
                    means = _mean_losses(state)
                    state.loss_sums, state.loss_counts = {}, {}
                    state.history.append((state.step, means))
                    progress.set_postfix({key: f"{mean:.3g}" for key, mean in means.items()})
                    if watcher:
                        watcher.on_log(state.step, means)

                if watcher and watcher.validate_every and (state.step % watcher.validate_every == 0 or is_finished):
                    state.validations.append((state.step, watcher.validate(state.step)))
                    watcher.on_validation(*state.validations[-1])

                if is_rank_zero and (checkpoints.is_due() or interrupt.signum or is_finished):
                    monitor.check()
                    _check_modules(name, modules, state.step, checkpoints)
                    _save_checkpoint(modules, state, checkpoints, device)

                if is_rank_zero and interrupt.signum and not is_finished:
                    raise KeyboardInterrupt(
                        f"{name}: stopped at step {state.step} of {total_steps}, its state is saved: "
                        "run it again to resume",
                        128 + interrupt.signum,
                    )
    return [means for _, means in state.history]


def _replay(state: TrainState, watcher: Watcher) -> None:
    """Tell the watcher the results before a checkpoint, in the order in which it was told them."""
    results = [(step, 0, watcher.on_log, means) for step, means in state.history]
    results += [(step, 1, watcher.on_validation, scores) for step, scores in state.validations]
    for step, _, tell, values in sorted(results, key=lambda result: result[:2]):
        tell(step, values)


def all_reduce_gradients(network: nn.Module) -> None:
    """Average the gradients of a network over the processes."""
    processes.all_reduce_mean_([parameter.grad for parameter in network.parameters() if parameter.grad is not None])


def _mean_losses(state: TrainState) -> dict[str, float]:
    """Return the mean of each loss over the steps since the last entry of the history that computed it."""
    means = torch.stack([loss_sum / state.loss_counts[key] for key, loss_sum in state.loss_sums.items()])
    return dict(zip(state.loss_sums, means.tolist(), strict=True))


def _check_modules(name: str, modules: Mapping[str, Stateful], step: int, checkpoints: CheckpointManager) -> None:
    """Raise a `UserError` that names the first tensor of the modules' state that is not finite after a step."""
    not_finite = checkpoint.non_finite_tensors({key: module.state_dict() for key, module in modules.items()})
    if not_finite:
        problem = f"{not_finite[0]} has values that are not finite after step {step}"
        if len(not_finite) > 1:
            problem += f", like {len(not_finite) - 1} other tensors"
        raise UserError(f"{name}: {problem}: lower the learning rates; {_kept_checkpoint(checkpoints)}")


def _kept_checkpoint(checkpoints: CheckpointManager) -> str:
    """Return the part of an error message that says from where the training can be resumed."""
    step = checkpoints.latest_step()
    return "no checkpoint was saved before" if step is None else f"the checkpoint of step {step} is kept"


def _save_checkpoint(
    modules: Mapping[str, Stateful], state: TrainState, checkpoints: CheckpointManager, device: torch.device
) -> None:
    module_states = {key: module.state_dict() for key, module in modules.items()}
    checkpoints.save(state.step, {"modules": module_states, "train_state": vars(state), "rng": _rng_state(device)})


def _load_checkpoint(
    name: str, modules: Mapping[str, Stateful], checkpoints: CheckpointManager, device: torch.device
) -> TrainState:
    """Load the latest checkpoint into the modules and torch's random number generators, if there is one."""
    path = processes.broadcast_from_rank_zero(checkpoints.latest() if processes.get_rank() == 0 else None)
    if path is None:
        return TrainState()
    saved = checkpoint.load(path)
    for key, module in modules.items():
        module.load_state_dict(saved["modules"][key])
    torch.set_rng_state(saved["rng"]["cpu"])
    if "cuda" in saved["rng"] and device.type == "cuda":
        torch.cuda.set_rng_state(saved["rng"]["cuda"], device)
    if "mps" in saved["rng"] and device.type == "mps":
        torch.mps.set_rng_state(saved["rng"]["mps"])
    state = TrainState(**saved["train_state"])
    state.loss_sums = {key: loss_sum.to(device) for key, loss_sum in state.loss_sums.items()}
    if processes.get_rank() == 0:
        print(f"{name}: resuming after step {state.step} from {path}", flush=True)
    return state


def _rng_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of torch's random number generators, the only ones whose state a training on `device` uses.

    The sample order and the degradations draw from generators that are seeded per epoch and per image.
    """
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":  # reading the state opens a CUDA context
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


class GracefulInterrupt:
    """Context manager that records the first SIGINT or SIGTERM in `signum` instead of ending the process within a step.

    A second signal of the same number is handled as before. Only the main thread of rank 0 listens. Data loading
    processes ignore Ctrl-C, so they keep running until the process that started them ends.
    """

    signum = 0

    def __enter__(self) -> "GracefulInterrupt":
        self._previous_handlers = {}
        if threading.current_thread() is threading.main_thread() and processes.get_rank() == 0:
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous_handlers[signum] = signal.signal(signum, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)

    def _record(self, signum: int, _: FrameType | None) -> None:
        self.signum = signum
        signal.signal(signum, self._previous_handlers[signum])


class LossMonitor:
    """Ends the training with an error if a loss is NaN, infinite or diverging, before such a state is saved.

    Also if loss scaling has skipped more than `MAX_SKIPPED` updates in a row.

    Losses are collected and read together every `CHECK_INTERVAL` steps.

    Args:
        name: name of the training, for the message.
        sample_names: name of each sample, for the message.
        sampler: the sampler of the batches that the losses belong to, those of all processes together.
        checkpoints: the checkpoints of the training, for the message.
    """

    def __init__(
        self, name: str, sample_names: list[str], sampler: VariantBatchSampler, checkpoints: CheckpointManager
    ):
        self.name, self.sample_names, self.sampler, self.checkpoints = name, sample_names, sampler, checkpoints
        self.unchecked: list[tuple[int, dict[str, Tensor]]] = []
        self.num_skipped: dict[str, int] = {}  # updates in a row

    def update(self, step: int, losses: dict[str, Tensor]) -> None:
        """Record the losses of a step, counted from 0."""
        self.unchecked.append((step, losses))
        if len(self.unchecked) == CHECK_INTERVAL:
            self.check()

    def check(self) -> None:
        """Check the losses recorded since the last check.

        Raises:
            UserError: naming the first bad step, its loss and its samples, or the network that is not updated.
        """
        if not self.unchecked:
            return
        keys = [(step, key) for step, losses in self.unchecked for key in losses]
        values = torch.stack([loss.float() for _, losses in self.unchecked for loss in losses.values()])
        for (step, key), value in zip(keys, values.tolist(), strict=True):  # one transfer from the device
            max_value = math.inf if key.startswith("grad_") else MAX_LOSS
            if not abs(value) < max_value:  # also true for NaN
                raise UserError(self._message(step, key, value))
            if key.startswith("skipped"):
                self._count_skipped(key, bool(value))
        self.unchecked.clear()

    def _count_skipped(self, key: str, is_skipped: bool) -> None:
        self.num_skipped[key] = self.num_skipped.get(key, 0) + 1 if is_skipped else 0
        if self.num_skipped[key] > MAX_SKIPPED:
            raise UserError(
                f"{self.name}: gradients overflow float16 in each of {self.num_skipped[key]} steps ({key}): "
                "set compute.precision to fp32"
            )

    def _message(self, step: int, key: str, value: float) -> str:
        epoch, index = divmod(step, len(self.sampler))
        names = join_first([self.sample_names[sample] for sample, _ in self.sampler.batch(epoch, index)], ", ")
        problem = f"is {value:.3g}" if math.isfinite(value) else "is not finite"
        return (
            f"{self.name}: {key} {problem} at step {step + 1} (images {names}): check these images or lower the "
            f"learning rates; {_kept_checkpoint(self.checkpoints)}"
        )
