"""LMD and Deg, metrics whose weights users name, with networks of random weights."""

import importlib.machinery
import importlib.util
import sys
import types

import numpy as np
import pytest
import skimage.data
import torch
from torch import nn

from psfr.data import images, labels
from psfr.metrics import arcface, landmarks, measure, report, table
from psfr.metrics.testset import TestSet
from psfr.metrics.unavailable import UnavailableError
from psfr.utils.errors import UserError

CPU = torch.device("cpu")

pytestmark = pytest.mark.heavy


def random_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return weights that depend on the names and shapes alone, and on no version of PyTorch."""
    rng = np.random.default_rng(0)
    state = {}
    for name, value in sorted(network.state_dict().items()):
        scale = 1 / np.sqrt(max(1, value[0].numel())) if value.dim() > 1 else 0.2
        array = rng.normal(size=tuple(value.shape)) * scale
        if name.endswith("running_var") or (value.dim() == 1 and "weight" in name):
            array = np.abs(array) + 0.5
        state[name] = torch.from_numpy(array).to(value.dtype) if value.dim() else value
    return state


@pytest.fixture(scope="module")
def arcface_file(tmp_path_factory):
    """A file as published, of a network that was trained with nn.DataParallel."""
    path = tmp_path_factory.mktemp("arcface") / "resnet18_110.pth"
    torch.save({f"module.{name}": value for name, value in random_weights(arcface.ResNet18()).items()}, path)
    return path


class StandIn(nn.Module):
    """AWing-FAN of facexlib, which is no requirement: its heatmaps are highest in the image's brightest cell."""

    def __init__(self, num_modules, num_landmarks, device):
        super().__init__()
        assert num_modules == 4
        self.offset = nn.Parameter(torch.zeros(num_landmarks + 1, 1, 1))

    def forward(self, image):
        assert image.shape == (1, 3, 256, 256) and image.min() >= 0 and image.max() <= 1
        heatmaps = nn.functional.avg_pool2d(image[:, :1], 4) + self.offset
        return [torch.zeros_like(heatmaps)] * 3 + [heatmaps], []


@pytest.fixture
def facexlib(monkeypatch):
    for name in ("facexlib", "facexlib.alignment"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    module.FAN = StandIn


@pytest.fixture
def fan_file(tmp_path):
    torch.save({"epoch": 1, "state_dict": {"offset": torch.zeros(99, 1, 1)}}, tmp_path / "alignment_WFLW_4HG.pth")
    return tmp_path / "alignment_WFLW_4HG.pth"


def test_deg_equals_the_published_implementation(arcface_file):
    metric = arcface.ArcFace(arcface_file, CPU)
    photograph = skimage.data.astronaut()
    features = [metric.features(image) for image in (photograph, photograph[:, ::-1], photograph[::2, ::2] // 2)]
    # By ResNetArcFace and metric_paper/calculate_cos_dist.py of github.com/TencentARC/VQFR, with the same weights.
    # It reads PNG files as gray, which is rounded differently.
    assert metric.distance(features[0], features[1]) == pytest.approx(13.383, abs=0.02)
    assert metric.distance(features[0], features[2]) == pytest.approx(8.973, abs=0.02)
    assert metric.distance(features[0], features[0]) == pytest.approx(0, abs=1e-5)
    assert metric.distance(features[0], -features[0]) == pytest.approx(180, abs=1e-5)


def test_landmarks_are_pixels_of_the_image(facexlib, fan_file):
    metric = landmarks.Landmarks(fan_file, CPU)
    image = np.zeros((128, 512, 3), np.uint8)
    image[20:22, 80:88, 0] = 255  # red: cell (10, 10) of 64 x 64, of 8 x 2 pixels
    image[20:22, 88:96, 0] = 100  # its right neighbor is the higher one
    points = metric.features(image)
    assert points.shape == (98, 2) and np.allclose(points, (8 * 10.75, 2 * 10.5), atol=2)
    moved = metric.features(np.roll(image, (6, 32), (0, 1)))
    assert metric.distance(moved, points) == pytest.approx(np.hypot(32, 6))


@pytest.mark.parametrize(("x", "y"), [(0, 0), (63, 63), (30, 0), (0, 63)])
def test_peak_at_the_border_of_a_heatmap(x, y):
    heatmap = np.zeros((1, 64, 64), np.float32)
    heatmap[0, y, x] = 1
    assert np.abs(landmarks._peaks(heatmap) - (x + 0.5, y + 0.5)).max() <= 0.25


def test_facexlib_is_optional(fan_file):
    if importlib.util.find_spec("facexlib"):
        pytest.skip("facexlib is installed")
    with pytest.raises(UnavailableError, match="facexlib is not installed: pip install --no-deps facexlib=="):
        landmarks.Landmarks(fan_file, CPU)


@pytest.mark.parametrize(("metric", "key"), [(landmarks.Landmarks, "lmd"), (arcface.ArcFace, "deg")])
def test_other_files_are_refused(tmp_path, facexlib, metric, key):
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match=f"no such weights file: set evaluate.{key}_weights to another file"):
        metric(path, CPU)
    path.write_bytes(b"<html>")
    with pytest.raises(UserError, match=f"not a readable weights file .*: set evaluate.{key}_weights to another"):
        metric(path, CPU)
    torch.save({"state_dict": {"conv1.weight": torch.zeros(2)}}, path)
    with pytest.raises(UserError, match=f"set evaluate.{key}_weights to"):
        metric(path, CPU)


def test_evaluation_with_landmarks_and_angles(tmp_path, facexlib, fan_file, arcface_file):
    testset = write_testset(tmp_path)
    evaluation = report.Evaluation(testset.names, {variant: {} for variant in testset.variants}, {})
    measure._add_face_network_values(evaluation, testset, {"lmd": fan_file, "deg": arcface_file}, 2, CPU)
    networks = landmarks.Landmarks(fan_file, CPU), arcface.ArcFace(arcface_file, CPU)
    for metric, network in zip(("lmd", "deg"), networks, strict=True):
        for variant in testset.variants:
            for name, value in zip(testset.names, evaluation.values[variant][metric], strict=True):
                pair = [network.features(images.read(testset.path(kind, name))) for kind in (variant, "true")]
                assert value == network.distance(*pair) and (value > 0 or variant == "ours")
    summary = report.summarize(evaluation, 1, 100)
    assert summary["ours"]["lmd"] == 0 and summary["ours"]["deg"] < 1e-4, "the restored images are the true ones"
    assert "| LMD ↓ | Deg ↓ |" in table.to_markdown(summary)
    assert {"lmd", "deg"} <= set(evaluation.table().columns)


def write_testset(folder) -> TestSet:
    """Write three true images, the same as restored ones, and degraded ones that are moved."""
    photograph = skimage.data.astronaut()[:256, 100:356]
    for index in range(3):
        image = np.roll(photograph, index, 0)
        for subfolder, pixels in (("hr", image), ("sr/ours", image), ("lr", np.roll(image, 40, 1))):
            images.write(folder / subfolder / f"{index}.png", pixels)
        labels.write(folder / "parse" / f"{index}.png", np.zeros((256, 256), np.uint8))
    return TestSet(folder, ["ours"])
