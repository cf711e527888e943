"""What the benchmarks share: the full-size parameters, the machine's ceiling, memory and the line of JSON at the end."""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry, register_flop_formula
from tqdm import tqdm

from psfr import params

FULL = Path(__file__).parent.parent / "params/ffhq.yaml"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def arguments(description: str, count: str) -> argparse.ArgumentParser:
    """The interface of the network benchmarks; `count` names the option that says how often to measure."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument(f"--{count}", type=int, default=5)
    parser.add_argument(
        "--plain",
        action="store_true",
        help="the networks as the article writes them, without any of the identities, float32",
    )
    parser.add_argument("--threads", type=int, default=None, help="of the processor; all if left out")
    return parser


def full_size(options: argparse.Namespace) -> params.Params:
    """The article's parameters at the size, batch and precision asked for; as many discriminators as such images allow."""
    if options.threads:
        torch.set_num_threads(options.threads)
    values = params.read_params(FULL)
    scales = next(
        n for n in (3, 2, 1) if n == 1 or options.image_size >= 3 * 2 ** (n - 1 + values.discriminator.layers)
    )
    return values.model_copy(
        update={
            "image_size": options.image_size,
            "batch_size": options.batch_size,
            "compute": values.compute.model_copy(update={"precision": "fp32" if options.plain else options.precision}),
            "discriminator": values.discriminator.model_copy(update={"scales": scales}),
        }
    )


def faces(batch_size: int, size: int, where: torch.device) -> tuple[torch.Tensor, ...]:
    """Images and labels in cells of 8 pixels, as a training step takes them, float32 contiguous."""
    torch.manual_seed(0)
    high = torch.rand(batch_size, 3, size, size) * 2 - 1
    labels = torch.randint(0, 19, (batch_size, size // 8, size // 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    return tuple(tensor.to(where) for tensor in (high, high * 0.5, labels, labels))


def timed(call: Callable[[], object], count: int, description: str, where: torch.device) -> list[float]:
    """Seconds of `count` calls, after two that are not counted: memory and kernels are made in the first."""
    seconds = []
    for _ in tqdm(range(count + 2), desc=description, unit="call"):
        began = time.perf_counter()
        call()
        if where.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return seconds[2:]


def _count_packed_convolutions() -> None:
    """Teach torch's counter the convolutions of `psfr.networks.inference.conv`."""

    def count(transposed: bool) -> Callable[..., int]:
        return lambda x_shape, kernel_shape, *_, out_shape=None, **__: conv_flop_count(
            x_shape, kernel_shape, out_shape, transposed=transposed
        )

    for name, transposed in (("_convolution_pointwise", False), ("_convolution_transpose_pointwise", True)):
        operator = getattr(torch.ops.mkldnn, name, None)
        if operator is not None and operator not in flop_registry:
            register_flop_formula(operator)(count(transposed))


_count_packed_convolutions()


class Operations(TorchDispatchMode):
    """Counts the operations of convolutions and matrix products, forward and backward, that run within it.

    torch's own FlopCounterMode watches modules too, and so refuses `torch.autograd.grad`.
    """

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def peak_memory_gb(where: torch.device) -> float:
    """The most memory this process has held, GiB: of the GPU, or of the processor."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def convolution_ceiling(precision: str, where: torch.device) -> float:
    """Operations a second, in units of 10^12, of a large 3x3 convolution, the best of ten: 256 to 256 channels over 128 x 128 pixels."""
    dtype = PRECISIONS[precision]
    batch = 16 if where.type == "cuda" else 1
    x = torch.randn(batch, 256, 128, 128, device=where, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3, device=where, dtype=dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        seconds = min(timed(lambda: F.conv2d(x, weight, padding=1), 10, "ceiling", where))
    return 2 * batch * 256 * 256 * 9 * 128 * 128 / seconds / 1e12


def report(
    options: argparse.Namespace,
    figure: str,
    seconds: list[float],
    memory: float,
    operations: float | None,
    where: torch.device,
) -> None:
    """Print the result as one line of JSON: `figure` names the median of `seconds`."""
    precision = "fp32" if options.plain else options.precision
    median = statistics.median(seconds)
    result = {
        figure: round(median, 4),
        "fastest": round(min(seconds), 4),
        "slowest": round(max(seconds), 4),
        "peak_memory_gb": round(memory, 3),
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "precision": precision,
        "form": "plain" if options.plain else "ours",
        "device": torch.cuda.get_device_name()
        if where.type == "cuda"
        else f"processor, {torch.get_num_threads()} threads",
    }
    if operations:
        ceiling = convolution_ceiling(precision, where)
        result |= {
            "tera_operations": round(operations / 1e12, 3),
            "ceiling_per_second": round(ceiling, 3),
            "share_of_ceiling": round(operations / 1e12 / median / ceiling, 3),
        }
    sys.stderr.flush()
    print(json.dumps(result))
