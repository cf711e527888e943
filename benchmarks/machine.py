"""Shared code of the benchmarks: parameters at the published size, timing, operation counts, memory, JSON output."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry, register_flop_formula
from tqdm import tqdm

from psfr.params import Params, read_params

PUBLISHED_PARAMS = Path(__file__).parent.parent / "params/ffhq.yaml"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
NUM_WARMUP_CALLS = 2


def make_parser(name: str, description: str, count_option: str) -> argparse.ArgumentParser:
    """Create the parser of benchmarks.`name`; `count_option` names the option for the number of measurements."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument(f"--{count_option}", type=int, default=5)
    parser.add_argument(
        "--plain", action="store_true", help="measure the reference implementation (psfr.training.reference), in fp32"
    )
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: all cores)")
    return parser


def published_params(options: argparse.Namespace) -> Params:
    """Return the parameters of `params/ffhq.yaml` with the size, batch and precision of the options.

    The number of discriminators is lowered if the images are too small for three.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    params = read_params(PUBLISHED_PARAMS)
    scales = 3
    while scales > 1 and options.image_size < 3 * 2 ** (scales - 1 + params.discriminator.layers):
        scales -= 1
    precision = "fp32" if options.plain else options.precision
    return params.model_copy(
        update={
            "image_size": options.image_size,
            "batch_size": options.batch_size,
            "compute": params.compute.model_copy(update={"precision": precision}),
            "discriminator": params.discriminator.model_copy(update={"scales": scales}),
        }
    )


def random_batch(batch_size: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a batch for a training step: random images, float32, and random parsing maps in cells of 8x8 pixels."""
    torch.manual_seed(0)
    hq = torch.rand(batch_size, 3, size, size) * 2 - 1
    seg = torch.randint(0, 19, (batch_size, size // 8, size // 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
    hq, seg = hq.to(device), seg.to(device)
    return hq, hq * 0.5, seg, seg


def time_calls(function: Callable[[], object], num_calls: int, description: str, device: torch.device) -> list[float]:
    """Return the seconds of each of `num_calls` calls, after warm-up calls that allocate memory and choose kernels."""
    seconds = []
    for _ in tqdm(range(NUM_WARMUP_CALLS + num_calls), desc=description, unit="call"):
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds[NUM_WARMUP_CALLS:]


def _register_packed_convolutions() -> None:
    """Register flop formulas for the convolutions of `psfr.networks.inference.conv`, which torch lacks."""

    def make_formula(transposed: bool) -> Callable[..., int]:
        return lambda x_shape, kernel_shape, *_, out_shape=None, **__: conv_flop_count(
            x_shape, kernel_shape, out_shape, transposed=transposed
        )

    for name, transposed in (("_convolution_pointwise", False), ("_convolution_transpose_pointwise", True)):
        operator = getattr(torch.ops.mkldnn, name, None)
        if operator is not None and operator not in flop_registry:
            register_flop_formula(operator)(make_formula(transposed))


_register_packed_convolutions()


class OperationCounter(TorchDispatchMode):
    """Context manager that counts the operations of convolutions and matrix products, forward and backward, in `total`.

    Torch's `FlopCounterMode` also tracks modules, which fails with `torch.autograd.grad`.
    """

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func._overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def peak_memory_gb(device: torch.device) -> float:
    """Return the peak memory of this process, in GiB: allocated on the GPU, or resident on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    import resource  # Windows does not have it

    unit = 1 if sys.platform == "darwin" else 2**10  # bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def convolution_ceiling(precision: str, device: torch.device) -> float:
    """Return the device's throughput in a large 3x3 convolution, in 10^12 operations per second.

    It is the best of ten runs from 256 to 256 channels at 128x128 pixels.
    """
    dtype = PRECISIONS[precision]
    batch = 16 if device.type == "cuda" else 1
    x = torch.randn(batch, 256, 128, 128, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        seconds = min(time_calls(lambda: F.conv2d(x, weight, padding=1), 10, "ceiling", device))
    return 2 * batch * 256 * 256 * 9 * 128 * 128 / seconds / 1e12


def print_result(
    options: argparse.Namespace,
    key: str,
    seconds: list[float],
    memory: float,
    operations: float,
    device: torch.device,
) -> None:
    """Print the result as one line of JSON, with the median of `seconds` under `key`."""
    precision = "fp32" if options.plain else options.precision
    median = statistics.median(seconds)
    if device.type == "cuda":
        device_name = torch.cuda.get_device_name()
    else:
        device_name = f"processor, {torch.get_num_threads()} threads"
    result = {
        key: round(median, 4),
        "fastest": round(min(seconds), 4),
        "slowest": round(max(seconds), 4),
        "peak_memory_gb": round(memory, 3),
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "precision": precision,
        "form": "plain" if options.plain else "ours",
        "device": device_name,
    }
    if operations:
        ceiling = convolution_ceiling(precision, device)
        result |= {
            "tera_operations": round(operations / 1e12, 3),
            "ceiling_per_second": round(ceiling, 3),
            "share_of_ceiling": round(operations / 1e12 / median / ceiling, 3),
        }
    sys.stderr.flush()
    print(json.dumps(result))
