"""The course of a training: epochs of steps, kept on disk on the way, watched, and ended early on demand."""

import math
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from psfr.compute import processes
from psfr.compute.devices import workers
from psfr.data.datasets import ShuffledVariants, loader
from psfr.params import Params
from psfr.training import checkpoint
from psfr.training.checkpoint import Snapshots
from psfr.utils.errors import InputError

EXPLODED = 1e4  # no loss or score of a sound training comes near it
WATCHED = 10  # steps whose losses are looked at together: each look makes a GPU wait


class Stateful(Protocol):
    """A network, an optimiser or a schedule."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> object: ...


@dataclass
class Course:
    """A training as it is described before it begins.

    Args:
        name: said in messages and before the progress bar.
        dataset: takes (index, epoch).
        names: of the dataset's images, by index.
        batch_size: images of a step, over all processes.
        epochs: how often each image is seen.
        state: all that a step changes.
        step: trains on a batch of this process and returns its losses, detached.
        after_epoch: gets an epoch's number, from 1, and the means of what its steps returned, in the first process; when a training goes
            on, the past ones first.
    """

    name: str
    dataset: Dataset
    names: list[str]
    batch_size: int
    epochs: int
    state: dict[str, Stateful]
    step: Callable[[tuple[Tensor, ...]], dict[str, Tensor]]
    after_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, means: None


@dataclass
class Place:
    """How far a training has come: steps done, sums of the epoch's losses, means of the past epochs."""

    step: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


def run(course: Course, params: Params, kept: Snapshots) -> list[dict[str, float]]:
    """Train to the end, from the newest snapshot if there is one.

    Returns:
        The mean losses of each epoch.

    Raises:
        InputError: a loss is not a number or has exploded, or the batch cannot be shared evenly by the processes.
        KeyboardInterrupt: after Ctrl-C or SIGTERM; the state is kept.
    """
    order = ShuffledVariants(len(course.dataset), course.batch_size, params.seed, processes.rank(), processes.count())
    batches = loader(course.dataset, order, workers(params.compute))
    watch = Watch(course, order)
    place = _resume(course, kept)
    first, total = processes.rank() == 0, course.epochs * len(order)
    for epoch, means in enumerate(place.history if first else [], 1):
        course.after_epoch(epoch, means)

    with (
        Signals() as signals,
        tqdm(total=total, initial=place.step, desc=course.name, unit="step", disable=not first) as progress,
    ):
        while place.step < total:
            order.epoch, order.start = divmod(place.step, len(order))
            for batch in batches:
                terms = course.step(batch)
                watch.saw(place.step, terms)
                place.step += 1
                place.sums = {name: place.sums.get(name, 0) + term for name, term in terms.items()}
                progress.update()
                if place.step % len(order) == 0:
                    watch.look()
                    means = _means(place.sums, len(order))
                    place.sums = {}
                    place.history.append(means)
                    progress.set_postfix({name: f"{mean:.3g}" for name, mean in means.items()})
                    if first:
                        course.after_epoch(len(place.history), means)
                if first and (kept.due() or signals.received or place.step == total):
                    watch.look()
                    _keep(course, kept, place)
                if first and signals.received and place.step < total:
                    said = f"{course.name}: stopped at step {place.step} of {total}, its state is kept: run it again to go on"
                    raise KeyboardInterrupt(said, 128 + signals.received)
    return place.history


def _means(sums: dict[str, Tensor], steps: int) -> dict[str, float]:
    means = torch.stack([total / steps for total in sums.values()])
    processes.mean_([means])
    return dict(zip(sums, means.tolist(), strict=True))


def _keep(course: Course, kept: Snapshots, place: Place) -> None:
    state = {name: part.state_dict() for name, part in course.state.items()}
    kept.save(place.step, {"state": state, "place": vars(place), "random": _random()})


def _resume(course: Course, kept: Snapshots) -> Place:
    path = processes.of_first(kept.newest() if processes.rank() == 0 else None)
    if path is None:
        return Place()
    found = checkpoint.load(path)
    for name, part in course.state.items():
        part.load_state_dict(found["state"][name])
    torch.set_rng_state(found["random"]["cpu"])
    if "cuda" in found["random"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["random"]["cuda"])
    place = Place(**found["place"])
    if processes.rank() == 0:
        print(f"{course.name}: goes on after step {place.step}, from {path}", flush=True)
    return place


def _random() -> dict[str, Tensor]:
    """The states of torch's random number generators. Nothing here draws from another one: images and their order have seeds of their own."""
    return {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


class Signals:
    """Takes note of Ctrl-C and SIGTERM instead of dying in the middle of a step; the second one ends the process as usual.

    Workers of the loader are made within and inherit it: they live until the process that asked for them ends.
    """

    received = 0

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread() and processes.rank() == 0:
            self._before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        else:
            self._before = {}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _) -> None:
        self.received = number
        signal.signal(number, self._before[number])


class Watch:
    """Looks at the losses of the last steps: what is not a number, or exploded, ends the training before it is kept."""

    def __init__(self, course: Course, order: ShuffledVariants):
        self.course, self.order = course, order
        self.steps: list[tuple[int, dict[str, Tensor]]] = []

    def saw(self, step: int, terms: dict[str, Tensor]) -> None:
        """Note the losses of a step, the number of which counts from 0."""
        self.steps.append((step, terms))
        if len(self.steps) == WATCHED:
            self.look()

    def look(self) -> None:
        """
        Raises:
            InputError: with the first bad step, its loss and its images.
        """
        if not self.steps:
            return
        table = torch.stack(
            [torch.stack([term.float() for term in terms.values()]) for _, terms in self.steps]
        ).tolist()
        for (step, terms), values in zip(self.steps, table, strict=True):
            for name, value in zip(terms, values, strict=True):
                if not abs(value) < EXPLODED:
                    names = ", ".join(
                        self.course.names[index] for index, _ in self.order.batch(*divmod(step, len(self.order)))
                    )
                    what = f"is {value:.3g}" if math.isfinite(value) else "is not a number"
                    raise InputError(
                        f"{self.course.name}: {name} {what} at step {step + 1} (images {names}): look at these images, or lower the learning rates; "
                        "the state before it is kept"
                    )
        self.steps.clear()
