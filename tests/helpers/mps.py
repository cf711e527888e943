"""Stand-in for the GPU of a Mac: tensors on the CPU that have the device "mps", no float64, and no NumPy array."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_any, tree_map_only

MPS = torch.device("mps")


class MpsTensor(Tensor):
    """Tensor that stands for one on the device "mps"."""

    def __deepcopy__(self, memo: dict) -> Tensor:
        copy = self.detach().clone()
        return nn.Parameter(copy, self.requires_grad) if isinstance(self, nn.Parameter) else copy


class _StandIn(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        is_mps = tree_any(lambda value: isinstance(value, MpsTensor), (args, kwargs))
        if func == Tensor.device.__get__:
            return MPS if is_mps else func(*args)
        if func.__name__ == "_parse_to":  # the arguments of `Module.to`
            return func(*args, **kwargs)
        if func is Tensor.numpy and is_mps:
            raise TypeError("can't convert mps:0 device type tensor to numpy. Use Tensor.cpu() to copy it first")
        if _mentions(MPS, args, kwargs):  # `.to(device)`, `torch.zeros(n, device=device)`
            is_mps = True
            args, kwargs = tree_map_only(torch.device, lambda _: torch.device("cpu"), (args, kwargs))
        elif func is Tensor.cpu or _mentions(torch.device("cpu"), args, kwargs):
            is_mps = False
            args, kwargs = tree_map_only(MpsTensor, _plain, (args, kwargs))
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        return tree_map_only(Tensor, _on_mps, result) if is_mps else result


def _mentions(device: torch.device, args: tuple, kwargs: dict) -> bool:
    return tree_any(lambda value: isinstance(value, torch.device) and value == device, (args, kwargs))


def _plain(tensor: MpsTensor) -> Tensor:
    with torch._C.DisableTorchFunction():
        return tensor.as_subclass(Tensor)


def _on_mps(tensor: Tensor) -> Tensor:
    if isinstance(tensor, MpsTensor):
        return tensor
    with torch._C.DisableTorchFunction():
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return tensor.as_subclass(MpsTensor)


@contextmanager
def mps_stand_in() -> Iterator[None]:
    """Context manager in which "mps" is available. Networks that are moved there get new parameters."""
    is_available, overwrite = (
        torch.backends.mps.is_available,
        torch.__future__.get_overwrite_module_params_on_conversion(),
    )
    use_mkldnn = torch.backends.mkldnn.is_available
    torch.backends.mps.is_available = lambda: True
    torch.backends.mkldnn.is_available = lambda: False
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _StandIn():
            yield
    finally:
        torch.backends.mps.is_available, torch.backends.mkldnn.is_available = is_available, use_mkldnn
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
