"""Choice of the device, of the precision and of the number of data loading processes."""

import ctypes
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from psfr.compute import processes
from psfr.compute.cores import num_cores
from psfr.params import ComputeParams
from psfr.utils.errors import UserError

CPUINFO = Path("/proc/cpuinfo")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")  # there while NVIDIA's kernel driver is loaded
FP16_CAPABILITY = (7, 0)  # first compute capability (Volta) whose tensor cores multiply float16
TF32_CAPABILITY = (8, 0)  # first compute capability (Ampere) whose tensor cores multiply TF32

# Operations of CUDA that PyTorch may compute in TF32. Only this newer form of the settings is used: PyTorch raises an
# error when it reads `allow_tf32` or enters `torch.backends.cudnn.flags` after a change by the other form.
_FP32_OPERATIONS = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # pyright: ignore[reportAttributeAccessIssue] (torch declares no type for it)
)


def get_device(compute: ComputeParams, prefix: str = "compute.") -> torch.device:
    """Return the device that `compute.device` selects, and set how float32 is computed there.

    "auto" selects the NVIDIA GPU if there is one. On it, float32 is IEEE float32, or TF32 if `compute.precision` is
    "tf32". "mps", the GPU of a Mac, has to be requested; it computes in float32 only.
    On the CPU this also limits torch's threads to `num_cores`, which torch takes from the CPU affinity alone, and sets
    how the process's allocator treats freed memory, see `_keep_freed_memory`.

    Args:
        compute: device and precision.
        prefix: of their names in error messages: "--" for options of the command line.

    Raises:
        UserError: "cuda" or "mps" is requested and PyTorch finds no such GPU, or a precision that the device does not
            have.
    """
    device = select_device(compute, prefix)
    use_cuda = device.type == "cuda"
    if device.type == "cpu":
        if num_cores() < torch.get_num_threads():
            torch.set_num_threads(num_cores())
        _keep_freed_memory()
    if compute.precision == "tf32" and not (use_cuda and torch.cuda.get_device_capability() >= TF32_CAPABILITY):
        raise UserError(
            f"{prefix}precision: tf32, but {_device_name(device)} does not have it (NVIDIA's GPUs do since Ampere): "
            "set it to auto or fp32"
        )
    for operation in _FP32_OPERATIONS:
        operation.fp32_precision = "tf32" if compute.precision == "tf32" else "ieee"
    return device


def select_device(compute: ComputeParams, prefix: str = "compute.") -> torch.device:
    """Return the device that `compute.device` selects, without changing a setting of the process.

    Args:
        compute, prefix: as for `get_device`.

    Raises:
        UserError: "cuda" or "mps" is requested and PyTorch finds no such GPU, or a precision that "mps" does not have.
    """
    if compute.device == "mps":
        return _select_mps(compute, prefix)
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{prefix}device: cuda, but PyTorch finds no GPU: set it to auto or cpu")
    use_cuda = compute.device != "cpu" and torch.cuda.is_available()
    if not use_cuda and compute.device == "auto":
        _warn_if_driver_is_there()
    return torch.device("cuda" if use_cuda else "cpu")


def _select_mps(compute: ComputeParams, prefix: str) -> torch.device:
    if not torch.backends.mps.is_available():
        raise UserError(f"{prefix}device: mps, but PyTorch finds no GPU of a Mac: set it to auto or cpu")
    if compute.precision not in ("auto", "fp32"):
        raise UserError(
            f"{prefix}precision: {compute.precision}, but mps computes in float32 only: set it to auto or fp32"
        )
    return torch.device("mps")


@cache
def _warn_if_driver_is_there() -> None:
    """Print a warning, once, if NVIDIA's driver is installed although PyTorch finds no GPU."""
    if processes.get_rank() == 0 and (NVIDIA_DRIVER.exists() or shutil.which("nvidia-smi")):
        needed = (
            f"it needs a driver for CUDA {torch.version.cuda} and a GPU of compute capability 7.5 or later"
            if torch.version.cuda
            else "this build of it has no CUDA"
        )
        print(
            f"warning: an NVIDIA driver is installed, but PyTorch {torch.__version__} finds no GPU and "
            f"uses the CPU: {needed}",
            file=sys.stderr,
            flush=True,
        )


def _keep_freed_memory() -> None:
    """Make glibc's allocator keep freed memory instead of returning it to the kernel.

    Each step allocates and frees the same large tensors. By default the kernel has to find and clear their pages every
    time; in a virtual machine this made steps up to six times slower. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


@contextmanager
def deterministic_float32() -> Iterator[None]:
    """Compute float32 as IEEE float32, with cuDNN's deterministic algorithms, within the block."""
    precisions = [operation.fp32_precision for operation in _FP32_OPERATIONS]
    deterministic = torch.backends.cudnn.deterministic
    try:
        for operation in _FP32_OPERATIONS:
            operation.fp32_precision = "ieee"
        torch.backends.cudnn.deterministic = True
        yield
    finally:
        for operation, precision in zip(_FP32_OPERATIONS, precisions, strict=True):
            operation.fp32_precision = precision
        torch.backends.cudnn.deterministic = deterministic


def has_bf16(device: torch.device) -> bool:
    """Return whether the device has units that multiply bfloat16: tensor cores, or a CPU's AMX or AVX512-BF16.

    They are not used on a Mac's GPU, where nothing has been measured.
    """
    if device.type == "mps":
        return False
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def has_fp16(device: torch.device) -> bool:
    """Return whether the device is a GPU with tensor cores, all of which multiply float16."""
    return device.type == "cuda" and torch.cuda.get_device_capability() >= FP16_CAPABILITY


def compute_dtype(compute: ComputeParams, device: torch.device) -> torch.dtype:
    """Return the dtype of convolutions: torch.bfloat16, torch.float16 or torch.float32.

    "auto" selects bfloat16 if `has_bf16`, otherwise float16 if `has_fp16`. It is torch.float32 for "tf32", too:
    `get_device` has set how that is computed.
    """
    if compute.precision != "auto":
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(compute.precision, torch.float32)
    if has_bf16(device):
        return torch.bfloat16
    return torch.float16 if has_fp16(device) else torch.float32


def autocast(compute: ComputeParams, device: torch.device) -> torch.autocast:
    """Return the context in which networks run, with convolutions in `compute_dtype`."""
    dtype = compute_dtype(compute, device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def report_compute(stage: str, compute: ComputeParams) -> dict[str, str | int]:
    """Print, on rank 0, what a stage's networks run on, and return it for the stage's results.

    Returns:
        "device": the name of the GPU, or of the processor with the number of torch's threads; "precision": bf16, fp16,
        tf32 or fp32; "processes": their number. All three are equal in each run of the same parameters on one machine.
    """
    device, world_size = get_device(compute), processes.get_world_size()
    precisions = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
    precision = "tf32" if compute.precision == "tf32" else precisions[compute_dtype(compute, device)]
    name = _device_name(device)
    if processes.get_rank() == 0:
        plural = "es" if world_size > 1 else ""
        print(f"{stage}: {name}, {precision}, {world_size} process{plural}", file=sys.stderr, flush=True)
    return {"device": name, "precision": precision, "processes": world_size}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name()} (cuda)"
    if device.type == "mps":
        return f"{platform.machine()} (mps)"
    model = re.search(r"(?m)^model name\s*:\s*(.+)$", CPUINFO.read_text()) if CPUINFO.is_file() else None
    threads = torch.get_num_threads()
    plural = "s" if threads > 1 else ""
    return f"CPU ({model[1].strip() if model else platform.machine()}, {threads} thread{plural})"


def num_workers(compute: ComputeParams) -> int:
    """Return the number of data loading processes: `compute.workers`, or by default one per available core.

    By default the distributed processes of this machine divide the cores evenly.
    """
    if compute.workers is not None:
        return compute.workers
    _, local_world_size = processes.local_rank_and_size()
    return max(1, num_cores() // local_world_size)
