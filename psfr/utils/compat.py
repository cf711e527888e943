"""Workarounds for libraries that fail to import with this project's versions of torch and NumPy."""

import importlib
import importlib.util
import sys
import types

import numpy as np

# Keeps the operator definitions alive: torch removes them when the Library object is deleted.
_libraries: list = []


def patch_torchvision() -> None:
    """Import torchvision, also if its wheel was built for CUDA and torch was not.

    Its compiled operators do not load then, and the import fails when it registers the shape function of `nms`.
    Declaring the two operators that it registers at import suffices because this project calls neither. They are
    declared only after such a failure: where the compiled operators load, a second declaration would abort the process.
    """
    import torch  # imported here because it takes a second and work on images alone does not need it

    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)
        importlib.import_module("torchvision")


def patch_imgaug() -> None:
    """Make `import imgaug` 0.4.0 work with NumPy 2, which removed the table `np.sctypes`."""
    if not hasattr(np, "sctypes"):
        sctypes = {
            "int": [np.int8, np.int16, np.int32, np.int64],
            "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
            "float": [np.float16, np.float32, np.float64],
            "complex": [np.complex64, np.complex128],
            "others": [bool, object, bytes, str, np.void],
        }
        setattr(np, "sctypes", sctypes)  # noqa: B010 - NumPy's stubs declare no such attribute


def import_stlpips() -> types.ModuleType:
    """Return the module `stlpips_pytorch.stlpips`, imported without its debugging dependencies.

    The module imports IPython and torchsummary but calls neither. If they are not installed, empty modules replace
    them during the import only, because other libraries check whether IPython is available.
    """
    patch_torchvision()
    stubs = []
    for module, name in [("IPython", "embed"), ("torchsummary", "summary")]:
        if module not in sys.modules and importlib.util.find_spec(module) is None:
            stub = types.ModuleType(module)
            setattr(stub, name, None)
            sys.modules[module] = stub
            stubs.append(module)
    try:
        return importlib.import_module("stlpips_pytorch.stlpips")
    finally:
        for module in stubs:
            del sys.modules[module]
