"""Seconds and memory of parsing and restoring an image with the published networks, on random images and weights.

python -m benchmarks.inference --image-size 512 --batch-size 1 --precision bf16 --images 10
"""

import torch

from benchmarks.machine import Operations, arguments, faces, full_size, peak_memory_gb, report, timed
from psfr.compute.devices import get_device, compute_dtype
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference.fuse import fuse
from psfr.training import fpn, gan


def main() -> None:
    options = arguments(__doc__.splitlines()[0], "images").parse_args()
    values = full_size(options)
    where = get_device(values.compute)
    torch.manual_seed(0)
    parser = FaceParsingNetwork(**fpn.network_config(values)).to(where).eval()
    generator = Generator(**gan.generator_config(values)).to(where).eval()
    image = faces(values.batch_size, values.image_size, where)[1]
    if options.plain:
        from psfr.training import reference

        restore = reference.make_restore(parser, generator, image)
    else:
        parser, generator = (fuse(network, compute_dtype(values.compute, where)) for network in (parser, generator))
        image = image.contiguous(memory_format=torch.channels_last)

        def restore() -> None:
            generator(image, parser.predict_seg(image))

    with torch.inference_mode():
        seconds = timed(restore, -(-options.images // values.batch_size), "inference", where)
        memory = peak_memory_gb(where)
    with torch.no_grad(), Operations() as counter:  # inference mode hides the convolutions from it
        restore()
    per_image = [value / values.batch_size for value in seconds]
    report(options, "seconds_per_image", per_image, memory, counter.total / values.batch_size, where)


if __name__ == "__main__":
    main()
