"""Seconds and memory of parsing and restoring an image with the published networks, on random images and weights.

python -m benchmarks.inference --image-size 512 --batch-size 1 --precision bf16 --images 10
"""

import torch

from benchmarks.machine import Operations, arguments, faces, full_size, peak_memory_gb, report, timed
from psfr.compute.devices import device, precision
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference.fusion import fold
from psfr.training import fpn, gan


def main() -> None:
    options = arguments(__doc__.splitlines()[0], "images").parse_args()
    values = full_size(options)
    where = device(values.compute)
    torch.manual_seed(0)
    parser = FaceParsingNetwork(**fpn.sizes(values)).to(where).eval()
    generator = Generator(**gan.generator_sizes(values)).to(where).eval()
    image = faces(values.batch_size, values.image_size, where)[1]
    if options.plain:
        from psfr.training import reference

        restore = reference.restoration(parser, generator, image)
    else:
        parser, generator = (fold(network, precision(values.compute, where)) for network in (parser, generator))
        image = image.contiguous(memory_format=torch.channels_last)

        def restore() -> None:
            generator(image, parser.regions(image))

    with torch.inference_mode():
        seconds = timed(restore, -(-options.images // values.batch_size), "inference", where)
        memory = peak_memory_gb(where)
    with torch.no_grad(), Operations() as counter:  # inference mode hides the convolutions from it
        restore()
    per_image = [value / values.batch_size for value in seconds]
    report(options, "seconds_per_image", per_image, memory, counter.total / values.batch_size, where)


if __name__ == "__main__":
    main()
