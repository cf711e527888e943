"""Run trainings, inference and metrics on a GPU that does not exist, with PyTorch's fake tensors.

python -m tests.helpers.fake_gpu RESULT [LIBRARY]

A fake tensor has a shape, a dtype and the device "cuda", but no values. PyTorch's CPU build needs LIBRARY, which is
built from fake_gpu.cpp, before torch. For each case and precision, RESULT (JSON) has the error, such as a tensor on the
wrong device or of a wrong dtype, and the operations that wait for the GPU, each with the line of psfr.
"""

import ctypes
import os
import sys

if __name__ == "__main__" and len(sys.argv) > 2:
    ctypes.CDLL(sys.argv[2])

import json
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import (
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.nn import Module, Parameter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from psfr import inference
from psfr.data import datasets, images
from psfr.metrics import measure, report, st_lpips
from psfr.metrics.testset import TestSet
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference.fuse import fuse
from psfr.networks.vgg import VggFeatures
from psfr.params import Params, read_params
from psfr.pretrained import metric_files
from psfr.training import fpn, gan, losses
from psfr.utils import compat

ROOT = Path(__file__).parents[2]
CUDA = torch.device("cuda")
aten = torch.ops.aten

# Operations whose operands must have one dtype on a GPU. The fake versions of some of them do not check it.
SAME_DTYPE = {
    *(aten.convolution.default, aten.convolution_backward.default, aten.mm.default, aten.bmm.default),
    *(aten.addmm.default, aten.mv.default, aten.dot.default, aten.addr_.default),
}


class FakeGpuMode(FakeTensorMode):
    """Mode that does not initialize CUDA, although `torch.cuda.is_available()`."""

    avoid_device_init = True


class GpuChecks(TorchDispatchMode):
    """Raises an error if operands are on different devices or have different dtypes, and lists what waits for the GPU.

    A tensor without dimensions may be on the CPU, as on a GPU. A value that is read from the GPU is 0 or True.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[str, str]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled() and func.namespace == "aten":  # otherwise autograd has decomposed it
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if func is aten._local_scalar_dense.default and operands[0].is_cuda:
            self._record(func)
            return int(operands[0].dtype == torch.bool)
        is_copy = func in (aten._to_copy.default, aten.copy_.default)
        devices = {operand.device.type for operand in operands if operand.dim() or func in SAME_DTYPE}
        if len(devices) > 1 and not is_copy:
            raise RuntimeError(f"{func} of tensors on {sorted(devices)}")
        if func in SAME_DTYPE and len({operand.dtype for operand in operands}) > 1:
            raise RuntimeError(f"{func} of {[operand.dtype for operand in operands]}")
        result = func(*args, **kwargs)
        if is_copy:
            ends = {operands[0].device.type, operands[-1].device.type, result.device.type}
            is_async = kwargs.get("non_blocking") or (len(args) > 2 and args[2])
            if len(ends) > 1 and not (is_async and result.is_cuda):
                self._record(func)
        return result

    def _record(self, func: torch._ops.OpOverload) -> None:
        lines = [frame for frame in traceback.extract_stack() if f"{ROOT}/psfr/" in frame.filename]
        self.waits.append(
            (func.name(), f"{Path(lines[-1].filename).relative_to(ROOT)}: {lines[-1].line}" if lines else "")
        )


class Gpu:
    """What `torch.cuda` says of the GPU."""

    capability = (9, 0)


class RealLoader(torch.utils.data.DataLoader):
    """Loader of tensors with values, not in pinned memory, which needs a GPU."""

    def __init__(self, *args: object, **kwargs: object):
        super().__init__(*args, **(kwargs | {"pin_memory": False}))

    def __iter__(self) -> Iterator:
        with unset_fake_temporarily():
            batches = list(super().__iter__())
        return (
            batch if isinstance(batch, torch.Tensor) else [self._plain(part) for part in batch] for batch in batches
        )

    @staticmethod
    def _plain(part: torch.Tensor) -> torch.Tensor | np.ndarray:
        with unset_fake_temporarily():
            return part.numpy() if part.dtype == torch.int64 else part  # within the mode, indices cannot be read


def replace_parameters(network: Module, device: torch.device, **_: object) -> Module:
    """Do what `Module.to` does: fake parameters cannot be moved."""
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = Parameter(parameter.detach().to(device), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)
    return network


def simulate_gpu() -> None:
    """Let `torch.cuda` have a GPU, and give values to what needs them."""
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 1
    torch.cuda.get_device_name = lambda *_: "fake"
    torch.cuda.get_device_capability = lambda *_: Gpu.capability
    torch.cuda.is_bf16_supported = lambda including_emulation=True: Gpu.capability >= (8, 0)
    datasets.DataLoader = torch.utils.data.DataLoader = RealLoader
    Module.to = replace_parameters
    sort = losses._sort_by_region

    def sort_real_map(labels: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, list[int]]:
        assert not isinstance(labels, FakeTensor), "the style loss reads a map on the GPU"
        with unset_fake_temporarily():
            return sort(labels, height, width)

    losses._sort_by_region = sort_real_map

    def to_numpy(tensor: torch.Tensor) -> np.ndarray:
        assert tensor.device.type == "cpu", tensor
        with unset_fake_temporarily():
            return torch.zeros(tensor.shape, dtype=tensor.dtype).numpy()

    FakeTensor.numpy = to_numpy


def make_params(precision: str, **values: object) -> Params:
    """Return the parameters of params/tiny.yaml on the fake GPU; `auto` selects bf16 there, or fp16 without bf16."""
    Gpu.capability = (7, 5) if precision == "fp16" else (9, 0)
    params = read_params(ROOT / "params/tiny.yaml")
    update = {"device": "cuda", "precision": "fp32" if precision == "fp32" else "auto", "workers": 0}
    return params.model_copy(update={"compute": params.compute.model_copy(update=update), **values})


def random_images(num_images: int, size: int) -> torch.Tensor:
    with unset_fake_temporarily():
        return torch.randint(0, 256, (num_images, size, size, 3), dtype=torch.uint8)


def random_maps(num_images: int, size: int) -> torch.Tensor:
    with unset_fake_temporarily():
        return torch.randint(0, 19, (num_images, size, size), dtype=torch.uint8)


def train_gan(precision: str, checks: GpuChecks, folder: Path) -> None:
    """Run steps with the pixel loss alone, with and without style loss, and with and without gradient norms."""
    params = make_params(
        precision, pixel_warmup=0.2, style_interval=2, lr_decay=0.5, ema=0.5, batch_size=2, epochs=3, lambda_ss=1.0
    )
    size = params.image_size
    state = gan.build(params, VggFeatures("vgg16", 64))
    steps = {}
    gan.training_loop = lambda step_fn, device, **_: steps.update(fn=step_fn, device=device)
    gan.train(params, state, type("Names", (list,), {"names": list("abcdef")})("abcdef"), None)
    assert steps["device"] == CUDA
    checks.waits.clear()
    for step in range(4):
        batch = (random_images(2, size), random_images(2, size), random_maps(2, size), random_maps(2, size))
        found = steps["fn"](batch, step)
        assert all(value.is_cuda for value in found.values())
        assert ("skipped_generator" in found) == (precision == "fp16")


def train_fpn(precision: str, checks: GpuChecks, folder: Path) -> None:
    """Run two steps of the parsing network's training."""
    params = make_params(precision)
    size = params.image_size
    fpn.class_weights = lambda *_: torch.rand(19)
    steps = {}
    fpn.training_loop = lambda step_fn, **_: steps.update(fn=step_fn) or []
    fpn.train(folder, ["0", "1"] * 8, params, None)
    checks.waits.clear()
    for step in range(2):
        found = steps["fn"]((random_images(2, size), random_images(2, size), random_maps(2, size)), step)
        assert all(value.is_cuda for value in found.values())


def infer(precision: str, checks: GpuChecks, folder: Path) -> None:
    """Parse and restore three image files in batches of two."""
    params = make_params(precision)
    compute = params.compute.model_copy(update={"batch_size": 2})
    dtype = inference.get_device(compute) and gan.compute_dtype(compute, CUDA)
    face_parser = fuse(FaceParsingNetwork(**fpn.network_config(params)).eval().to(CUDA), dtype)
    generator = fuse(Generator(**gan.generator_config(params)).eval().to(CUDA), dtype)
    for name, image in zip("abc", random_images(3, params.image_size).numpy(), strict=True):
        images.write(folder / f"{name}.png", image)
    checks.waits.clear()
    paths, size = images.list_images(folder), params.image_size
    inference.restore(face_parser, {"g": generator}, paths, folder / "sr", folder / "seg", size, compute)
    inference.parse(face_parser, paths, folder / "parse", size, compute, "parse")


def evaluate(precision: str, checks: GpuChecks, folder: Path) -> None:
    """Compute all metrics of two test images that a GPU computes."""
    compat.patch_torchvision()
    import pytorch_fid.inception
    import torchmetrics.functional.image.lpips
    import torchvision

    from psfr.metrics import pretrained_metrics

    def load_network(_: Path, net: str) -> Module:
        return compat.import_stlpips().LPIPS(
            net=net, variant="shift_tolerant", blur_filter_size=3, pretrained=False, verbose=False
        )

    st_lpips.load_network = load_network
    pretrained_metrics.local_hub = lambda _: nullcontext()
    features = torchmetrics.functional.image.lpips._get_tv_model_features
    torchmetrics.functional.image.lpips._get_tv_model_features = lambda net, _: features(net)
    pytorch_fid.inception.load_state_dict_from_url = lambda *_, **__: {}
    torchvision.models.inception.Inception3.load_state_dict = lambda *_: None
    for name in (metric_files.VGG16, metric_files.INCEPTION):
        (folder / name).touch()
    for part in ("hr", "lr", "parse"):
        for name, image in zip("ab", random_images(2, 128).numpy(), strict=True):
            images.write(folder / part / f"{name}.png", image)
    testset = TestSet(folder, [])
    evaluation = report.Evaluation(testset.names, {"degraded": {}}, {})
    values = measure._perceptual_values(evaluation, testset, folder, 2, CUDA)
    measure._add_inception_features(evaluation, testset, folder, 2, CUDA, None)
    checks.waits.clear()  # each value is read
    names = {metric for variant, metric in values if variant == "degraded"}
    assert names >= {"psnr", "ssim", "tint", "lpips", "st_lpips", "frechet_vgg16", "fixed_pattern_horizontal"}, names
    assert evaluation.missing_reasons.keys() == {"fid_reference"}


def plant_errors(_: str, checks: GpuChecks, folder: Path) -> None:
    """Find errors and waits that are made on purpose."""
    image = torch.ones(1, 3, 8, 8, device=CUDA)
    kernel = torch.ones(4, 3, 3, 3)
    planted: list[Callable[[], object]] = [
        lambda: image + torch.ones(8),
        lambda: torch.nn.functional.conv2d(image, kernel),
        lambda: torch.nn.functional.conv2d(image, kernel.to(CUDA, torch.float16)),
        lambda: image[0, 0] @ image[0, 0].bfloat16(),
    ]
    for operation in planted:
        with pytest.raises(RuntimeError):
            operation()
    checks.waits.clear()
    waiting: list[Callable[[], object]] = [
        lambda: image.sum().item(),
        lambda: image.cpu(),
        lambda: torch.tensor([1.0], device=CUDA),
        lambda: kernel.to(CUDA),
        lambda: image.copy_(torch.ones(1, 3, 8, 8)),
    ]
    for operation in waiting:
        operation()
    assert len(checks.waits) == len(waiting), checks.waits
    for data_dependent in (
        lambda: image[image > 0],
        lambda: image.nonzero(),
        lambda: torch.bincount(image[0, 0, 0].int()),
    ):
        with pytest.raises(DynamicOutputShapeException):
            data_dependent()
    kernel.to(CUDA, non_blocking=True)
    assert len(checks.waits) == len(waiting)
    checks.waits.clear()


PRECISIONS = ("fp32", "bf16", "fp16")
CASES = {train_gan: PRECISIONS, train_fpn: PRECISIONS, infer: PRECISIONS, evaluate: ("fp32",), plant_errors: ("fp32",)}


def main(result: Path) -> None:
    simulate_gpu()
    results = {}
    with FakeGpuMode(allow_non_fake_inputs=True):
        for case, precisions in CASES.items():
            for precision in precisions:
                error = None
                with tempfile.TemporaryDirectory() as folder, GpuChecks() as checks:
                    try:
                        case(precision, checks, Path(folder))
                    except Exception:
                        error = traceback.format_exc()
                results[f"{case.__name__} {precision}"] = {"error": error, "waits": checks.waits}
    result.write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # autograd's thread of the GPU crashes where Python ends
