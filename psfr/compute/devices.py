"""Choice of the device, of the compute dtype and of the number of data loading processes."""

import ctypes
import os

import torch

from psfr.compute import processes
from psfr.params import ComputeParams
from psfr.utils.errors import UserError


def get_device(compute: ComputeParams) -> torch.device:
    """Return the device that `compute.device` selects; "auto" selects the GPU if there is one.

    On the CPU this also sets how the process's allocator treats freed memory, see `_keep_freed_memory`.

    Raises:
        UserError: "cuda" is requested and PyTorch finds no GPU.
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device: cuda, but PyTorch finds no GPU: set it to auto or cpu")
    use_cuda = compute.device != "cpu" and torch.cuda.is_available()
    if not use_cuda:
        _keep_freed_memory()
    return torch.device("cuda" if use_cuda else "cpu")


def _keep_freed_memory() -> None:
    """Make glibc's allocator keep freed memory instead of returning it to the kernel.

    Each step allocates and frees the same large tensors. By default the kernel has to find and clear their pages every
    time; in a virtual machine this made steps up to six times slower. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def has_bf16(device: torch.device) -> bool:
    """Return whether the device has units that multiply bfloat16: tensor cores, or a CPU's AMX or AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def compute_dtype(compute: ComputeParams, device: torch.device) -> torch.dtype:
    """Return the dtype of convolutions, torch.bfloat16 or torch.float32; "auto" selects bfloat16 if `has_bf16`."""
    bf16 = compute.precision == "bf16" or (compute.precision == "auto" and has_bf16(device))
    return torch.bfloat16 if bf16 else torch.float32


def autocast(compute: ComputeParams, device: torch.device) -> torch.autocast:
    """Return the context in which networks run, with convolutions in `compute_dtype`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=compute_dtype(compute, device) == torch.bfloat16)


def num_workers(compute: ComputeParams) -> int:
    """Return the number of data loading processes: `compute.workers`, or by default one per available core.

    By default the distributed processes of this machine divide the cores evenly.
    """
    if compute.workers is not None:
        return compute.workers
    _, local_world_size = processes.local_rank_and_size()
    return max(1, len(os.sched_getaffinity(0)) // local_world_size)
