"""Libraries that need a hand before they are imported."""

import importlib
import importlib.util
import sys
import types

import numpy as np


def before_torchvision() -> None:
    """Let `import torchvision` succeed beside a CPU build of torch.

    torchvision's wheels carry CUDA operators; without CUDA they do not load, and the import fails while it registers
    shapes for `nms`. Naming the two operators is enough: nothing here calls them. Where torch has CUDA, nothing is done.
    """
    import torch  # here, as work on images alone needs no torch, and it takes a second to load

    if torch.version.cuda is None and not _libraries:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)


# Kept alive: the definitions vanish with the object.
_libraries: list = []


def before_imgaug() -> None:
    """Let `import imgaug` 0.4.0 succeed with NumPy 2, which no longer has the table `np.sctypes` that it reads."""
    if not hasattr(np, "sctypes"):
        np.sctypes = {
            "int": [np.int8, np.int16, np.int32, np.int64],
            "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
            "float": [np.float16, np.float32, np.float64],
            "complex": [np.complex64, np.complex128],
            "others": [bool, object, bytes, str, np.void],
        }


def import_stlpips() -> types.ModuleType:
    """The module `stlpips_pytorch.stlpips`, imported without IPython and torchsummary: it asks for both to debug with and calls neither.

    Where they are not installed, empty stand-ins take their place during the import only: other libraries look for IPython too.
    """
    before_torchvision()
    absent = {"IPython": "embed", "torchsummary": "summary"}
    absent = {
        module: name
        for module, name in absent.items()
        if module not in sys.modules and importlib.util.find_spec(module) is None
    }
    for module, name in absent.items():
        sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[module], name, None)
    try:
        return importlib.import_module("stlpips_pytorch.stlpips")
    finally:
        for module in absent:
            del sys.modules[module]
