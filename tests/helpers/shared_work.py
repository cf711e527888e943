"""What tests/test_distributed.py lets several processes do: each function is a stage's `main`, and the first process writes result.pt."""

import sys
import time
from pathlib import Path

import numpy as np
import torch

from psfr import inference, params
from psfr.compute import processes
from psfr.data import images, labels
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.vgg import VggFeatures
from psfr.training import fpn, gan

STEPS = 20
BATCH = 4


def faces(size: int, count: int = BATCH) -> gan.Batch:
    """A batch for all processes together."""
    rng = np.random.default_rng(0)
    images = [torch.from_numpy(rng.random((count, 3, size, size), np.float32)) * 2 - 1 for _ in range(2)]
    regions = (
        torch.from_numpy(rng.integers(0, 6, (count, size // 8, size // 8)))
        .repeat_interleave(8, 1)
        .repeat_interleave(8, 2)
    )
    return images[0], images[1], regions, regions.flip(2)


def mine(batch: gan.Batch) -> gan.Batch:
    return tuple(tensor.chunk(processes.count())[processes.rank()] for tensor in batch)


def write(result: object) -> None:
    if processes.rank() == 0:
        torch.save(result, "result.pt")


def gan_steps() -> None:
    values = params.read()
    torch.manual_seed(0)
    state = gan.build(values, VggFeatures("vgg16", 64, 3e3))
    batch = mine(faces(values.image_size))
    gradients, losses = None, []
    for _ in range(STEPS):
        terms = gan.train_step(state, batch, torch.float32)
        gradients = gradients or [
            parameter.grad.clone()
            for network in (state.generator, state.discriminator)
            for parameter in network.parameters()
        ]
        means = torch.stack(list(terms.values()))
        processes.mean_([means])
        losses.append(dict(zip(terms, means.tolist(), strict=True)))
    write({"gradients": gradients, "losses": losses})


def fpn_gradients() -> None:
    values = params.read()
    torch.manual_seed(0)
    network = FaceParsingNetwork(**fpn.sizes(values))
    high, low, regions, _ = mine(faces(values.image_size))
    balance = torch.linspace(0.1, 2, labels.COUNT)
    logits, restored = network(low)
    loss = (
        torch.nn.functional.cross_entropy(logits, regions, balance) * fpn._weight_in_batch(balance, regions)
        + (restored - high).abs().mean()
    )
    loss.backward()
    processes.mean_(parameter.grad for parameter in network.parameters())
    write(
        {"gradients": [parameter.grad for parameter in network.parameters()], "buffers": dict(network.named_buffers())}
    )


def collecting() -> None:
    items = list(range(11))
    write(
        [
            processes.unshared([item**2 for item in processes.share(items)]),
            processes.gathered(processes.rank()),
            processes.of_first(processes.rank()),
        ]
    )


def parsing() -> None:
    """The region maps of 24 images, by processes that come late, each later than the one before."""
    values = params.read()
    torch.manual_seed(0)
    network = FaceParsingNetwork(**fpn.sizes(values))
    pictures = [Path(f"pictures/{number:02}.png") for number in range(24)]
    if processes.rank() == 0:
        for number, path in enumerate(pictures):
            images.write(
                path,
                np.random.default_rng(number).integers(0, 256, (values.image_size, values.image_size, 3), np.uint8),
            )
    processes.gathered(None)
    time.sleep(processes.rank())
    inference.parse(
        network, pictures, Path("maps"), values.image_size, values.compute.model_copy(update={"batch_size": 2}), "parse"
    )
    processes.gathered(None)
    write({path.name: torch.from_numpy(labels.read(path)) for path in images.listed(Path("maps"))})


if __name__ == "__main__":
    processes.run(
        {"gan_steps": gan_steps, "fpn_gradients": fpn_gradients, "collecting": collecting, "parsing": parsing}[
            sys.argv[1]
        ]
    )
