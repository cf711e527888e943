"""The ONNX graph of parsing network and generator restores as PyTorch does, in batches of any size."""

import sys

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from psfr import checkpoints
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference import onnx_export
from psfr.photos import models
from psfr.utils.errors import UserError

SIZE = 32
SMALL_FPN = {"image_size": SIZE, "min_feature_size": 16, "base_channels": 8, "max_channels": 8, "body_blocks": 1}
SMALL_GENERATOR = {"image_size": SIZE, "min_channels": 8, "max_channels": 8}


@pytest.fixture(autouse=True)
def same_tf32(monkeypatch):
    """The exporter reads one setting for all of cuDNN, which `get_device` sets for convolutions alone."""
    precision = torch.backends.cudnn.conv.fp32_precision
    monkeypatch.setattr(torch.backends.cudnn.rnn, "fp32_precision", precision)


def export(tmp_path, monkeypatch, capsys, face_parser: dict[str, int], generator: dict[str, int]) -> str:
    """Export a model of random weights to model.onnx by the command, and return what it printed."""
    torch.manual_seed(0)
    serialization.save(tmp_path / models.FPN_FILE, FaceParsingNetwork(**face_parser), **face_parser)
    serialization.save(tmp_path / models.GENERATOR_FILE, trained_norm(Generator(**generator)), **generator)
    out = tmp_path / "model.onnx"
    monkeypatch.setattr(sys, "argv", ["checkpoints", "export", "--onnx", str(tmp_path), str(out)])
    checkpoints.main()
    return capsys.readouterr().out


def trained_norm(generator: Generator) -> Generator:
    """Let spectral norm find the first singular vectors of random weights, as a training does."""
    for module in generator.modules():
        if hasattr(module, "u") and hasattr(module, "v"):
            weight = module.weight.detach().flatten(1)
            for _ in range(10):
                module.u.copy_(nn.functional.normalize(weight @ module.v, dim=0))
                module.v.copy_(nn.functional.normalize(weight.T @ module.u, dim=0))
    return generator


@pytest.mark.heavy
@pytest.mark.parametrize("options", [{}, {"replicate_padding": 1, "antialias": 1}])
def test_graph_equals_pytorch(tmp_path, monkeypatch, capsys, options):
    printed = export(tmp_path, monkeypatch, capsys, SMALL_FPN, SMALL_GENERATOR | options)
    assert f"model.onnx: written, opset {onnx_export.OPSET}: the restored image" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fpn.safetensors", "model.onnx", "psfrgan"]
    graph = onnx.load(tmp_path / "model.onnx")
    assert [opset.version for opset in graph.opset_import if opset.domain == ""] == [onnx_export.OPSET]
    constants = {tensor.name for tensor in graph.graph.initializer}
    convolutions = [node for node in graph.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert convolutions and all(node.input[1] in constants for node in convolutions), "kernels are folded"
    face_parser, generator = models.load_networks(str(tmp_path))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for batch_size in (1, 3):
        image = torch.rand(batch_size, 3, SIZE, SIZE) * 2 - 1
        restored, labels = (torch.from_numpy(output) for output in session.run(None, {"image": image.numpy()}))
        expected_labels = face_parser.predict_seg(image)
        assert (labels == expected_labels).float().mean() > 0.999
        assert (restored - generator(image, labels).clamp(-1, 1)).abs().max() < 1e-4
        assert restored.std() > 0.01


@pytest.mark.slow
def test_graph_equals_pytorch_at_the_published_size(tmp_path, monkeypatch, capsys):
    printed = export(tmp_path, monkeypatch, capsys, {}, {})
    assert float(printed.split()[-1]) < 1e-3 * 2, "a thousandth of the range"


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "PACKAGES", ("onnx", "absent_package"))
    with pytest.raises(UserError, match=r"absent_package: not installed: run `pip install absent_package -c"):
        onnx_export.export_onnx(FaceParsingNetwork(**SMALL_FPN), Generator(**SMALL_GENERATOR), tmp_path / "a.onnx")
