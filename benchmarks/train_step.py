"""Measure time and memory of a training step of the published networks, with random images and weights.

python -m benchmarks.train_step --image-size 512 --batch-size 1 --precision bf16 --steps 5
"""

import torch

from benchmarks.machine import (
    OperationCounter,
    make_parser,
    peak_memory_gb,
    print_result,
    published_params,
    random_batch,
    time_calls,
)
from psfr.compute.devices import compute_dtype, get_device
from psfr.networks.vgg import VggFeatures
from psfr.training import gan
from psfr.training.schedule import make_schedule


def main() -> None:
    options = make_parser("train_step", __doc__.splitlines()[0], "steps").parse_args()
    params = published_params(options)
    device = get_device(params.compute)
    model = gan.build(params, VggFeatures(**params.perceptual.model_dump()))
    batch = random_batch(params.batch_size, params.image_size, device)
    if options.plain:
        from psfr.training import reference

        step = reference.make_train_step(params, model, batch)
    else:
        loss_weights = make_schedule(params, steps_per_epoch=1).loss_weights
        hq, lq, hq_seg, lq_seg = batch
        hq, lq = (image.contiguous(memory_format=torch.channels_last) for image in (hq, lq))

        def step() -> None:
            gan.train_step(model, (hq, lq, hq_seg, lq_seg), compute_dtype(params.compute, device), loss_weights)

    seconds = time_calls(step, options.steps, "train step", device)
    memory = peak_memory_gb(device)
    with OperationCounter() as counter:
        step()
    print_result(options, "seconds_per_step", seconds, memory, counter.total, device)


if __name__ == "__main__":
    main()
