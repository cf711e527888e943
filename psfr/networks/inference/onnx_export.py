"""Export of parsing network and generator as one ONNX graph."""

import importlib.util
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference.conv import FusedConv2d
from psfr.networks.inference.fuse import fuse
from psfr.utils.errors import UserError
from psfr.utils.files import atomic_write

OPSET = 18
PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # of requirements-dev.txt


class FaceRestorer(nn.Module):
    """Parsing network and generator, both fused, in float32 on the CPU and without oneDNN's own operations."""

    def __init__(self, face_parser: FaceParsingNetwork, generator: Generator):
        super().__init__()
        self.face_parser = fuse(face_parser, torch.float32)
        self.generator = fuse(generator, torch.float32)
        for module in self.modules():
            if isinstance(module, FusedConv2d):
                module.use_mkldnn = False

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the restored images (B, 3, S, S), clipped to [-1, 1], and the labels, int64 (B, S, S), of images."""
        labels = self.face_parser.predict_seg(image)
        return self.generator(image, labels).clamp(-1, 1), labels


@torch.no_grad()
def export_onnx(face_parser: FaceParsingNetwork, generator: Generator, out: Path) -> float:
    """Write both networks as one ONNX graph, and compare it with PyTorch.

    The graph maps `image`, RGB float32 (B, 3, S, S) in [-1, 1] with any batch size B, to `restored` of the same kind
    and to the parsing maps `labels`, int64 (B, S, S). Spectral norm, batch norm and derived kernels are folded.

    Args:
        face_parser: on the CPU.
        generator: on the CPU; determines S.
        out: the .onnx file to write.

    Returns:
        The largest absolute difference of `restored` between onnxruntime and PyTorch for the same labels, for an image
        of noise.

    Raises:
        UserError: the packages that export or run a graph are not installed.
    """
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        hint = f"run `pip install {' '.join(missing)} -c requirements.lock`"
        raise UserError(f"{', '.join(missing)}: not installed: {hint}")
    restorer = FaceRestorer(face_parser, generator).eval()
    size = generator.constant.shape[-1] * 2 ** (len(generator.stages) - 1)
    image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with warnings.catch_warnings(), atomic_write(out) as temporary:
        warnings.simplefilter("ignore")  # deprecations in the exporter's own code
        program = torch.onnx.export(
            restorer,
            (image,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["image"],
            output_names=["restored", "labels"],
            opset_version=OPSET,
            verbose=False,
        )
        assert program is not None
        program.save(temporary, external_data=False)
        return _difference(restorer, temporary, image[:1])


def _difference(restorer: FaceRestorer, path: Path, image: Tensor) -> float:
    """Return the largest difference of the restored image. Labels may differ where two of them are as probable."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    restored, labels = (torch.from_numpy(array) for array in session.run(None, {"image": image.numpy()}))
    return (restored - restorer.generator(image, labels).clamp(-1, 1)).abs().max().item()
