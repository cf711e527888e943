"""Seconds and memory of a training step of the published networks, on random images and weights.

python -m benchmarks.train_step --image-size 512 --batch-size 1 --precision bf16 --steps 5
"""

import torch

from benchmarks.machine import Operations, arguments, faces, full_size, peak_memory_gb, report, timed
from psfr.compute.devices import get_device, compute_dtype
from psfr.networks.vgg import VggFeatures
from psfr.training import gan


def main() -> None:
    options = arguments(__doc__.splitlines()[0], "steps").parse_args()
    values = full_size(options)
    where = get_device(values.compute)
    state = gan.build(values, VggFeatures(**values.perceptual.model_dump()))
    batch = faces(values.batch_size, values.image_size, where)
    if options.plain:
        from psfr.training import reference

        step = reference.make_train_step(values, state, batch)
    else:
        batch = tuple(
            tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor for tensor in batch
        )

        def step() -> None:
            gan.train_step(state, batch, compute_dtype(values.compute, where))

    seconds = timed(step, options.steps, "train step", where)
    memory = peak_memory_gb(where)
    with Operations() as counter:
        step()
    report(options, "seconds_per_step", seconds, memory, counter.total, where)


if __name__ == "__main__":
    main()
