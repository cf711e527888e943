"""Which device computes, and how precisely."""

import ctypes
import os
from contextlib import AbstractContextManager

import torch

from psfr.compute import processes
from psfr.params import Compute
from psfr.utils.errors import InputError


def device(compute: Compute) -> torch.device:
    """The device that params name; auto takes the GPU where there is one.

    Raises:
        InputError: cuda is asked for and there is none.
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise InputError("compute.device: cuda, but torch sees no GPU: set it to auto or cpu")
    on_gpu = compute.device != "cpu" and torch.cuda.is_available()
    if not on_gpu:
        _keep_freed_memory()
    return torch.device("cuda" if on_gpu else "cpu")


def _keep_freed_memory() -> None:
    """Let glibc keep what is freed instead of giving it back to the kernel.

    A step allocates and frees the same large tensors again and again. By default each comes as fresh pages that the kernel must find and
    clear; in a virtual machine this made steps up to six times slower. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        trim_threshold, mmap_max = -1, -4  # of malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 faster than float32: tensor cores, or a processor's AMX or AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def precision(compute: Compute, device: torch.device) -> torch.dtype:
    """The type in which networks multiply: bf16 where params ask for it (auto: where the hardware has it), else float32."""
    bf16 = compute.precision == "bf16" or (compute.precision == "auto" and has_bf16(device))
    return torch.bfloat16 if bf16 else torch.float32


def autocast(compute: Compute, device: torch.device) -> AbstractContextManager:
    """The context in which networks run: their convolutions in `precision`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision(compute, device) == torch.bfloat16)


def workers(compute: Compute) -> int:
    """Processes that prepare data for this one: the number that params name, else one a core, which processes that share the work share too."""
    return max(1, len(os.sched_getaffinity(0)) // processes.local()[1]) if compute.workers is None else compute.workers
