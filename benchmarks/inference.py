"""Measure time and memory of parsing and restoring with the published networks, with random images and weights.

python -m benchmarks.inference --image-size 512 --batch-size 1 --precision bf16 --images 10
"""

import math

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
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference.fuse import fuse
from psfr.training import fpn, gan


def main() -> None:
    options = make_parser("inference", __doc__.splitlines()[0], "images").parse_args()
    params = published_params(options)
    device = get_device(params.compute)
    torch.manual_seed(0)
    face_parser = FaceParsingNetwork(**fpn.network_config(params)).to(device).eval()
    generator = Generator(**gan.generator_config(params)).to(device).eval()
    _, lq, _, _ = random_batch(params.batch_size, params.image_size, device)
    if options.plain:
        from psfr.training import reference

        restore = reference.make_restore(face_parser, generator, lq)
    else:
        dtype = compute_dtype(params.compute, device)
        fused_parser, fused_generator = fuse(face_parser, dtype), fuse(generator, dtype)
        image = lq.contiguous(memory_format=torch.channels_last)

        def restore() -> torch.Tensor:
            return fused_generator(image, fused_parser.predict_seg(image))

    with torch.inference_mode():
        seconds = time_calls(restore, math.ceil(options.images / params.batch_size), "inference", device)
        memory = peak_memory_gb(device)
    with torch.no_grad(), OperationCounter() as counter:  # inference mode would hide the convolutions from it
        restore()
    seconds_per_image = [value / params.batch_size for value in seconds]
    operations_per_image = counter.total / params.batch_size
    print_result(options, "seconds_per_image", seconds_per_image, memory, operations_per_image, device)


if __name__ == "__main__":
    main()
