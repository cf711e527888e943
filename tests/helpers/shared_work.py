"""Functions that tests/compute/test_processes.py runs in several processes. Rank 0 writes each result to NAME.pt.

python -m tests.helpers.shared_work NAME ...
"""

import importlib
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from psfr import inference
from psfr.compute import exchange, processes
from psfr.data import images, labels
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.inference.fuse import fuse
from psfr.networks.vgg import VggFeatures
from psfr.params import read_params
from psfr.training import fpn, gan
from psfr.training.checkpoint import CheckpointManager
from psfr.training.loop import training_loop
from psfr.training.schedule import make_schedule

NUM_STEPS = 6
BATCH_SIZE = 4


def random_batch(size: int) -> gan.Batch:
    """Make the batch of all processes together: random images, and parsing maps of 8 x 8 blocks."""
    rng = np.random.default_rng(0)
    shape = (BATCH_SIZE, 3, size, size)
    hq, lq = (torch.from_numpy(rng.random(shape, np.float32)) * 2 - 1 for _ in range(2))
    blocks = torch.from_numpy(rng.integers(0, 6, (BATCH_SIZE, size // 8, size // 8)))
    seg = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return hq, lq, seg, seg.flip(2)


def local_part(batch: gan.Batch) -> gan.Batch:
    """Return this process's part of a batch."""
    hq, lq, hq_seg, lq_seg = (tensor.chunk(processes.get_world_size())[processes.get_rank()] for tensor in batch)
    return hq, lq, hq_seg, lq_seg


def gan_steps() -> dict[str, list]:
    """Return the gradients of the first training step and the losses of each step."""
    params = read_params()
    torch.manual_seed(0)
    state = gan.build(params, VggFeatures("vgg16", 64, 3e3))
    batch = local_part(random_batch(params.image_size))
    gradients, history = None, []
    for _ in range(NUM_STEPS):
        losses = gan.train_step(state, batch, torch.float32, make_schedule(params, 1).loss_weights)
        if gradients is None:
            parameters = [*state.generator.parameters(), *state.discriminator.parameters()]
            gradients = [parameter.grad.clone() for parameter in parameters]
        means = torch.stack(list(losses.values()))
        processes.all_reduce_mean_([means])
        history.append(dict(zip(losses, means.tolist(), strict=True)))
    return {"gradients": gradients, "losses": history}


def fpn_gradients() -> dict:
    """Return the gradients of one step of the parsing network, and its batch norms' statistics."""
    params = read_params()
    torch.manual_seed(0)
    network = FaceParsingNetwork(**fpn.network_config(params))
    hq, lq, seg, _ = local_part(random_batch(params.image_size))
    weights = torch.linspace(0.1, 2, labels.NUM_CLASSES)
    logits, restored = network(lq)
    cross_entropy = torch.nn.functional.cross_entropy(logits, seg, weights)
    loss = cross_entropy * fpn._batch_loss_scale(weights, seg) + (restored - hq).abs().mean()
    loss.backward()
    processes.all_reduce_mean_(parameter.grad for parameter in network.parameters())
    gradients = [parameter.grad for parameter in network.parameters()]
    return {"gradients": gradients, "buffers": dict(network.named_buffers())}


def collectives() -> list:
    """Return the results of sharding, gathering and broadcasting."""
    squares = [item**2 for item in processes.shard(list(range(11)))]
    rank = processes.get_rank()
    return [
        processes.gather_in_order(squares),
        processes.all_gather_object(rank),
        processes.broadcast_from_rank_zero(rank),
    ]


def exchanged_tensors() -> dict:
    """Return what `exchange.all_gather` gives for small tensors, with each process late in turn, and for a large one.

    Each tensor is filled with the sum of its number and the rank.
    """
    rank, gathered = processes.get_rank(), []
    for number in range(60):
        if number % 10 == rank:
            time.sleep(0.01)  # the others wait longer than they poll
        gathered.append(exchange.all_gather(torch.full((2, 1 + number), float(number + rank))))
    large = exchange.all_gather(torch.full((5000,), rank, dtype=torch.float64))
    return {"small": gathered, "large": large, "sockets": exchange._exchange is not None}


def parse_with_delays() -> dict[str, torch.Tensor]:
    """Return the parsing maps of 24 images; each process starts a second after the previous one."""
    params = read_params()
    torch.manual_seed(0)
    network = FaceParsingNetwork(**fpn.network_config(params))
    paths = [Path(f"images/{number:02}.png") for number in range(24)]
    if processes.get_rank() == 0:
        shape = (params.image_size, params.image_size, 3)
        for number, path in enumerate(paths):
            images.write(path, np.random.default_rng(number).integers(0, 256, shape, np.uint8))
    processes.all_gather_object(None)
    time.sleep(processes.get_rank())
    compute = params.compute.model_copy(update={"batch_size": 2})
    inference.parse(fuse(network, torch.float32), paths, Path("maps"), params.image_size, compute, "parse")
    processes.all_gather_object(None)
    return {path.name: torch.from_numpy(labels.read(path)) for path in images.list_images(Path("maps"))}


class Indices(Dataset):
    """Six samples, the numbers from 0 to 5."""

    def __getitem__(self, key: tuple[int, int]) -> int:
        return key[0]


def resumed_epoch_means() -> list:
    """Return each process's history of a training whose losses depend on the rank, stopped and resumed in its epoch."""

    def train(max_steps: int) -> list[dict[str, float]]:
        remaining = iter(range(max_steps))

        def step_fn(_batch: object, _step: int) -> dict[str, torch.Tensor]:
            if next(remaining, None) is None:
                raise KeyboardInterrupt
            rank = processes.get_rank()
            return {"rank": torch.tensor(float(rank)), "double": torch.tensor(10.0 * rank, dtype=torch.float64)}

        return training_loop(
            name="small",
            dataset=Indices(),
            sample_names=list("abcdef"),
            modules={"network": torch.nn.Linear(1, 1)},
            step_fn=step_fn,
            batch_size=2,
            epochs=1,
            seed=0,
            num_workers=0,
            device=torch.device("cpu"),
            checkpoints=CheckpointManager(Path("checkpoints"), 0),
        )

    Path("checkpoints").mkdir(exist_ok=True)
    with suppress(KeyboardInterrupt):
        train(2)
    return processes.all_gather_object(train(1))


def stages() -> None:
    """Run the stages that processes share, in the folder of a project."""
    for name in ("fpn", "parse", "train", "infer", "evaluate"):
        importlib.import_module(f"stages.{name}").main()
        processes.all_gather_object(None)  # the others leave a stage while rank 0 still writes its results


FUNCTIONS = {
    function.__name__: function
    for function in (
        gan_steps,
        fpn_gradients,
        collectives,
        exchanged_tensors,
        parse_with_delays,
        resumed_epoch_means,
        stages,
    )
}


def main() -> None:
    for name in sys.argv[1:]:
        result = FUNCTIONS[name]()
        if processes.get_rank() == 0:
            torch.save(result, f"{name}.pt")


if __name__ == "__main__":
    processes.run_distributed(main, work=lambda _: processes.Work(0))
