"""Each metric against its reference implementation or formula, and on faces."""

import importlib.machinery
import importlib.util
import json
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from psfr import portraits
from psfr.data import images, labels
from psfr.metrics import (
    bootstrap,
    fidelity,
    fixed_pattern,
    frechet,
    identity,
    iqa,
    kid,
    mean_error,
    niqe,
    segmentation,
    st_lpips,
    table,
)
from psfr.metrics.unavailable import UnavailableError
from psfr.pretrained import fetch, loader, metric_files
from psfr.utils import compat
from psfr.utils.errors import UserError

compat.patch_torchvision()
import torchvision  # noqa: E402 (after the patch)
from pytorch_fid import fid_score, inception  # noqa: E402 (after the patch)
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure  # noqa: E402 (after the patch)

from psfr.metrics import measure, pretrained_metrics, reference, report  # noqa: E402 (after the patch)
from psfr.metrics.testset import TestSet  # noqa: E402 (after the patch)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The weights that are bundled with packages."""
    root = tmp_path_factory.mktemp("weights")
    fetch.fetch("packages", folder=root)
    return root / "metrics"


@pytest.fixture
def pair():
    """(restored, hq): six images each in [-1, 1]; the restored ones are noisy copies with increasing noise."""
    rng = torch.Generator().manual_seed(0)
    hq = torch.rand(6, 3, 48, 48, generator=rng) * 2 - 1
    noise = torch.randn(6, 3, 48, 48, generator=rng) * torch.linspace(0.01, 0.5, 6)[:, None, None, None]
    return (hq + noise).clamp(-1, 1), hq


# PSNR and SSIM


def test_pooled_psnr_equals_torchmetrics(pair):
    metric = PeakSignalNoiseRatio(data_range=2.0)
    for part in (slice(0, 4), slice(4, 6)):
        metric.update(pair[0][part], pair[1][part])
    per_image = fidelity.psnr(*pair).numpy()
    assert fidelity.pooled_psnr(per_image) == pytest.approx(metric.compute().item(), abs=1e-4)
    assert fidelity.pooled_psnr(per_image) < per_image.mean() - 1  # not the mean of the values in dB
    for value, restored, hq in zip(per_image, *pair, strict=True):
        assert value == pytest.approx(PeakSignalNoiseRatio(data_range=2.0)(restored[None], hq[None]).item(), abs=1e-4)


def test_psnr_of_equal_images(pair):
    values = fidelity.psnr(pair[1], pair[1]).numpy()
    assert np.isposinf(values).all() and fidelity.pooled_psnr(values) == np.inf
    assert fidelity.pooled_psnr(np.array([np.inf, 20.0])) == pytest.approx(20 + 10 * np.log10(2))


def test_ssim_equals_torchmetrics(pair):
    metric = StructuralSimilarityIndexMeasure(data_range=2.0)
    metric.update(*pair)
    values = fidelity.ssim(*pair)
    assert values.shape == (6,) and values.mean().item() == pytest.approx(metric.compute().item(), abs=1e-6)
    assert fidelity.ssim(pair[0][:1], pair[1][:1]).shape == (1,)


# Tint


def test_tint_is_error_of_mean_color(pair):
    hq = pair[1] / 2
    shift = torch.tensor([30.0, -12.0, 6.0]) / 127.5
    values = fidelity.tint(hq + shift.view(1, 3, 1, 1), hq)
    expected = np.linalg.norm(np.array([30.0, -12.0, 6.0]) - 8)
    assert values.shape == (6,) and np.allclose(values, expected, rtol=1e-4)
    assert np.allclose(fidelity.tint(hq + 0.1, hq), 0, atol=1e-3), "brightness is no tint"
    assert fidelity.pooled_tint(np.array([3.0, 4.0])) == pytest.approx(np.sqrt(12.5))


# Fixed pattern


def pairwise_amplitude(profiles: np.ndarray, indices: np.ndarray) -> float:
    """Compute the amplitude in a loop over all pairs of different images."""
    products = [
        np.mean(profiles[first] * profiles[second]) for first in indices for second in indices if first != second
    ]
    return float(np.sqrt(max(np.mean(products), 0))) if products else 0.0


@given(st.integers(0, 2**32 - 1), st.integers(2, 9))
@settings(deadline=None)
def test_amplitude_is_mean_over_pairs_of_different_images(seed, num_images):
    rng = np.random.default_rng(seed)
    profiles = rng.normal(size=(num_images, 12)) + rng.normal(size=12) * rng.uniform(0, 2)
    for indices in (np.arange(num_images), rng.integers(num_images, size=num_images)):
        value = fixed_pattern.amplitude(profiles, indices)
        assert value == pytest.approx(pairwise_amplitude(profiles, indices), abs=1e-6)
    assert fixed_pattern.amplitude(profiles, np.zeros(num_images, int)) == 0


def pattern_of(error: np.ndarray) -> list[float]:
    """Return the horizontal and the vertical fixed pattern of errors (images, H, W) in levels."""
    hq = torch.rand(len(error), 3, *error.shape[1:], generator=torch.Generator().manual_seed(1)) - 0.5
    restored = hq + torch.from_numpy(error / 127.5).float()[:, None]
    return [
        fixed_pattern.amplitude(profiles.numpy(), np.arange(len(error)))
        for profiles in fixed_pattern.stripe_profiles(restored, hq)
    ]


def test_stripes_of_known_amplitude_are_found_in_random_errors():
    errors = np.random.default_rng(0).normal(0, 20, (40, 128, 128))
    stripe = 3 * np.sqrt(2) * np.sin(np.arange(128) * 2 * np.pi * 30 / 128)
    assert max(pattern_of(errors)) < 0.3
    horizontal, vertical = pattern_of(errors + stripe[:, None])
    assert horizontal == pytest.approx(3, rel=0.05) and vertical < 0.3
    horizontal, vertical = pattern_of(errors + stripe)
    assert vertical == pytest.approx(3, rel=0.05) and horizontal < 0.3


def test_tint_vignette_face_and_frame_are_no_fixed_pattern():
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    for common in (np.full((64, 64), 20.0), 20 * (x**2 + y**2)):
        assert max(pattern_of(np.stack([common] * 4))) < 0.2
    face, frame = np.zeros((2, 64, 64))
    face[20:50, 20:44] = 60 * np.sign(np.sin(20 * x[20:50, 20:44]))
    frame[:, [0, 1, -2, -1]] = 30
    assert pattern_of(np.stack([face] * 4))[0] == 0
    assert pattern_of(np.stack([frame] * 4))[0] < 1e-3


def test_fixed_pattern_needs_two_images():
    with pytest.raises(ValueError, match="two images"):
        fixed_pattern.amplitude(np.ones((1, 4)), np.arange(1))


def test_mean_error_is_exact_over_batches():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (2, 5, 3, 8, 8))
    restored, hq = torch.from_numpy(levels).float() / 127.5 - 1
    error_sum = mean_error.ErrorSum()
    for batch in (slice(0, 2), slice(2, 5)):
        error_sum.add(restored[batch], hq[batch])
    assert np.array_equal(error_sum.mean(), (levels[0] - levels[1]).sum(0).transpose(1, 2, 0) / 5)


# ST-LPIPS


@pytest.mark.heavy
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_st_lpips_equals_its_package(folder, pair, net):
    # Loads the weights inside the package.
    original = compat.import_stlpips().LPIPS(net=net, variant="shift_tolerant", verbose=False)
    with torch.inference_mode():
        values = st_lpips.load_network(folder, net)(*pair)
        assert values.shape == (6, 1, 1, 1) and torch.equal(values, original(*pair))
    assert (values[1:] > values[:-1]).all()  # the noise increases


@pytest.mark.heavy
@pytest.mark.parametrize(("net", "layer", "channels"), [("vgg", "relu5_3", 512), ("alex", "relu5", 256)])
def test_deepest_features(folder, pair, net, layer, channels):
    network = st_lpips.load_network(folder, net)
    features = st_lpips.deepest_features(network, pair[1])
    assert features.shape == (6, channels)
    assert torch.equal(features, getattr(network.net(network.scaling_layer(pair[1])), layer).mean((2, 3)))


def test_stub_modules_are_removed_after_import():
    import importlib.util
    import sys

    compat.import_stlpips()
    for module in ("IPython", "torchsummary"):
        if importlib.util.find_spec(module) is None:
            assert module not in sys.modules


@pytest.mark.parametrize("state", [{"net.slice1.0.weight": torch.zeros(1)}, {"other": torch.zeros(1)}])
def test_st_lpips_rejects_other_weights(tmp_path, state):
    torch.save(state, tmp_path / metric_files.STLPIPS_ALEXNET)
    with pytest.raises(UserError, match=metric_files.STLPIPS_ALEXNET):
        st_lpips.load_network(tmp_path, "alex")


# Identity


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Portraits of four persons and blurred copies: faces[person] = [hq, slightly blurred, strongly blurred]."""
    root = tmp_path_factory.mktemp("faces")
    paths = []
    for person in range(4):
        portrait = Image.fromarray(portraits.draw(7, person, 128)[0])
        paths.append([root / f"{person}_{radius}.png" for radius in (0, 1, 3)])
        for radius, path in zip((0, 1, 3), paths[-1], strict=True):
            images.write(path, np.asarray(portrait.filter(ImageFilter.GaussianBlur(radius)) if radius else portrait))
    return paths


@pytest.mark.heavy
def test_identity_separates_persons(folder, faces):
    for person, (hq, soft, strong) in enumerate(faces):
        others = [faces[other][0] for other in range(4) if other != person]
        paths = [hq, hq, soft, strong, *others]
        same, soft_distance, strong_distance, *apart = identity.embedding_distances_from_files(paths, folder)
        assert same == 0
        assert 0 < soft_distance < strong_distance and soft_distance < 0.6 * min(apart)


@pytest.mark.heavy
def test_identity_is_independent_of_image_size(folder, faces, tmp_path):
    small = faces[0][:2]
    large = [tmp_path / path.name for path in small]
    for path, target in zip(small, large, strict=True):
        images.write(target, np.asarray(Image.open(path).resize((512, 512), Image.Resampling.BICUBIC)))
    (small_distance,), (large_distance,) = (
        identity.embedding_distances_from_files(paths, folder) for paths in (small, large)
    )
    assert large_distance == pytest.approx(small_distance, abs=0.05)


@pytest.mark.parametrize("size", [32, 512])
def test_identity_works_without_detected_face(folder, tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, image in zip(paths, noise, strict=True):
        images.write(path, image)
    first = identity.embedding_distances_from_files(paths, folder)
    assert np.isfinite(first).all() and first == identity.embedding_distances_from_files(paths, folder)


@pytest.mark.heavy
def test_identity_names_missing_or_damaged_model(folder, faces, tmp_path):
    with pytest.raises(UserError, match=metric_files.FACE_LANDMARKS):
        identity.embedding_distances_from_files(faces[0], tmp_path)
    (tmp_path / metric_files.FACE_LANDMARKS).write_bytes((folder / metric_files.FACE_LANDMARKS).read_bytes()[:1000])
    with pytest.raises(UserError, match=f"{metric_files.FACE_LANDMARKS}: has SHA-256 .*, not .*fetch_weights"):
        identity.embedding_distances_from_files(faces[0], tmp_path)


# Fréchet distance


def pytorch_fid_distance(x, y) -> float:
    return fid_score.calculate_frechet_distance(x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False))


@given(st.integers(2, 16), st.integers(2, 60), st.integers(2, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_frechet_distance_equals_pytorch_fid(dimensions, first, second, seed):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dimensions, dimensions))
    x = rng.normal(size=(dimensions + first, dimensions)) @ mix + 1.0
    y = rng.normal(size=(dimensions + second, dimensions)) @ mix * 0.8 + 0.8
    assert frechet.distance(x, y) == pytest.approx(pytorch_fid_distance(x, y), rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_frechet_distance_with_fewer_images_than_dimensions_equals_pytorch_fid():
    x, y = np.maximum(np.random.default_rng(0).normal(size=(2, 24, 64)), 0)
    assert frechet.distance(x, 0.9 * y) == pytest.approx(pytorch_fid_distance(x, 0.9 * y), rel=1e-6)


@pytest.mark.parametrize("num_images", [30, 8])  # more and fewer than dimensions
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_frechet_distance_to_statistics_equals_pytorch_fid(num_images):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(num_images, 12)) + 1, rng.normal(size=(50, 12)) * 1.5
    distance = frechet.distance_to(y.mean(0), np.cov(y, rowvar=False), x)
    for indices in (np.arange(num_images), rng.integers(num_images, size=num_images)):
        assert distance(indices) == pytest.approx(pytorch_fid_distance(x[indices], y), rel=1e-5)
    with pytest.raises(ValueError, match="two images"):
        distance(np.arange(1))


def test_frechet_distance_of_simple_sets():
    features = np.random.default_rng(0).normal(size=(30, 5))
    assert frechet.distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet.distance(features, features + [3, 0, 0, 4, 0]) == pytest.approx(25)
    variance = features.var(0, ddof=1).sum()
    assert frechet.distance(features, 2 * (features - features.mean(0)) + features.mean(0)) == pytest.approx(variance)
    with pytest.raises(ValueError, match="two images"):
        frechet.distance(features[:1], features)


# LPIPS and FID, with random weights in files of the published names and shapes


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory):
    """A folder with a random VGG16. Its classifier, which LPIPS does not use, is one expanded number, not 500 MB."""
    root = tmp_path_factory.mktemp("vgg16")
    torch.manual_seed(1)
    with torch.device("meta"):
        state = torchvision.models.vgg16(weights=None).state_dict()
    state = {
        name: torch.zeros(1).expand(value.shape) if name.startswith("classifier") else torch.randn(value.shape) * 0.05
        for name, value in state.items()
    }
    torch.save(state, root / metric_files.VGG16)
    return root


@pytest.fixture(scope="module")
def inception_folder(tmp_path_factory):
    """A folder with pytorch-fid's Inception network with random weights, under its published name."""
    root = tmp_path_factory.mktemp("inception")
    with pytest.MonkeyPatch.context() as patch:
        caught = {}
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: caught)
        patch.setattr(
            torchvision.models.Inception3, "load_state_dict", lambda self, _: caught.update(self.state_dict())
        )
        torch.manual_seed(2)
        inception.fid_inception_v3()
    # PyTorch's default initialization makes the signal vanish; scaled weights preserve it, as trained ones do.
    torch.save(
        {name: value * 6**0.5 if value.ndim == 4 else value for name, value in caught.items()},
        root / metric_files.INCEPTION,
    )
    return root


@pytest.fixture
def no_network(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("attempted a download")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)


@pytest.mark.heavy
def test_lpips_equals_torchmetrics_with_local_file(vgg16, pair, no_network):
    hub_dir = torch.hub.get_dir()
    metric = pretrained_metrics.Lpips(vgg16, CPU)
    assert torch.hub.get_dir() == hub_dir
    state = loader.load(vgg16 / metric_files.VGG16)
    assert torch.equal(metric.metric.net.net.slice1[0].weight, state["features.0.weight"])
    assert torch.equal(metric.metric.net.net.slice5[-2].weight, state["features.28.weight"])
    with torch.inference_mode():
        values = torch.cat([metric(pair[0][:5], pair[1][:5]), metric(pair[0][5:], pair[1][5:])])
        assert values.shape == (6,) and (values[1:] > values[:-1]).all()
        metric.metric.reduction = "mean"
        metric.metric.update(*pair)
        assert metric.metric.compute().item() == pytest.approx(values.mean().item(), rel=1e-5)


@pytest.mark.heavy
def test_fid_features_equal_pytorch_fid_with_local_file(inception_folder, faces, no_network):
    network = pretrained_metrics.load_inception(inception_folder, CPU)
    state = loader.load(inception_folder / metric_files.INCEPTION)
    assert torch.equal(network.blocks[0][0].conv.weight, state["Conv2d_1a_3x3.conv.weight"])
    paths = [person[0] for person in faces[:2]]
    features = pretrained_metrics.inception_features(network, paths, CPU)
    assert features.shape == (2, pretrained_metrics.FID_DIMENSIONS)
    network.eval()
    with torch.inference_mode():
        image = torch.from_numpy(images.read(paths[1])).permute(2, 0, 1)[None] / 255
        assert np.allclose(network(image)[0].flatten(), features[1], rtol=1e-3) and features[1].max() > 0.01


# FID against a reference set, KID


@pytest.fixture(scope="module")
def two_sets(faces, tmp_path_factory):
    """Two folders of six images each."""
    root = tmp_path_factory.mktemp("sets")
    paths = [path for person in faces for path in person]
    for folder, chosen in (("a", paths[::2]), ("b", paths[1::2])):
        (root / folder).mkdir()
        for path in chosen:
            (root / folder / path.name).symlink_to(path)
    return root


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore")
def test_fid_against_a_reference_equals_pytorch_fid(inception_folder, two_sets, monkeypatch, no_network, tmp_path):
    monkeypatch.setattr(pretrained_metrics, "FID_DIMENSIONS", 64)  # pytorch-fid's root of 2048 features takes a minute
    first, second, file = str(two_sets / "a"), two_sets / "b", tmp_path / "reference.npz"
    with pretrained_metrics.local_hub(inception_folder / metric_files.INCEPTION):
        fid_score.save_fid_stats([str(second), str(file)], 6, "cpu", 64, 0)
        expected = fid_score.calculate_fid_given_paths([first, str(file)], 6, "cpu", 64, 0)
    network = pretrained_metrics.load_inception(inception_folder, CPU)
    features = pretrained_metrics.inception_features(network, images.list_images(two_sets / "a"), CPU)
    for path in (file, second):
        statistics = reference.load(path, network, 4, CPU)
        assert frechet.distance_to(*statistics, features)(np.arange(6)) == pytest.approx(expected, rel=1e-4)


def test_unusable_references_are_named(tmp_path, two_sets):
    np.savez(tmp_path / "other.npz", mu=np.zeros(8), sigma=np.eye(8))
    np.savez(tmp_path / "keys.npz", mean=np.zeros(2048))
    (tmp_path / "broken.npz").write_bytes(b"<html>")
    np.savez(tmp_path / "nan.npz", mu=np.full(2048, np.nan), sigma=np.zeros((2048, 2048)))
    images.write(tmp_path / "one/a.png", np.zeros((64, 64, 3), np.uint8))
    for name in ("a", "b"):
        images.write(tmp_path / f"mixed/{name}.png", np.zeros((64, 64 + (name == "b"), 3), np.uint8))
    for name, problem in [
        ("none.npz", "no such file: write it with"),
        ("other.npz", "not statistics of 2048 features"),
        ("keys.npz", "holds no arrays mu and sigma"),
        ("broken.npz", "holds no arrays mu and sigma"),
        ("nan.npz", "has values that are not finite"),
        ("one", "a single image"),
        ("mixed", "images of different sizes: resize"),
        ("none", "no such folder"),
        ("one/a.png", "not a folder: name a folder"),
    ]:
        with pytest.raises(UserError, match=f"{name}: {problem}"):
            reference.load(tmp_path / name, torch.nn.Identity(), 2, CPU)


def test_kid_is_an_unbiased_estimate():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 4))
    kernel = [[[(a @ b / 4 + 1) ** 3 for b in second] for a in first] for first, second in ((x, x), (x, y), (y, y))]
    within = [sum(kernel[k][i][j] for i in range(5) for j in range(5) if i != j) / 20 for k in (0, 2)]
    assert kid.distance_between(x, y)(np.arange(5)) == pytest.approx(sum(within) - 2 * np.mean(kernel[1]))


@pytest.mark.parametrize("subset_size", [20, 8])  # all images, or fewer
def test_kid_equals_torch_fidelity(monkeypatch, subset_size):
    from torch_fidelity.metric_kid import kid_features_to_metric

    monkeypatch.setattr(kid, "SUBSET_SIZE", subset_size)
    x, y = np.random.default_rng(0).normal(size=(2, 20, 4))
    original = kid_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), kid_subset_size=subset_size)
    value = kid.distance_between(x, y)(np.arange(20))
    assert value == pytest.approx(original["kernel_inception_distance_mean"], rel=1e-9)


# Metrics of pyiqa


class StandIn:
    """pyiqa with one metric that needs the true image and one whose weights are not in the cache."""

    __version__ = "0.1.16"

    def list_models(self):
        return ["dists", "musiq"]

    def create_metric(self, name, device):
        if name == "musiq":
            torch.hub.download_url_to_file("https://host.invalid/musiq.pth", f"{torch.hub.get_dir()}/pyiqa/musiq.pth")
        self.metric_mode, self.lower_better = "FR", True
        return self

    def __call__(self, restored, true):
        assert min(restored.min(), true.min()) >= 0 and max(restored.max(), true.max()) <= 1
        return (restored - true).abs().mean((1, 2, 3))[:, None]


@pytest.fixture
def stand_in(monkeypatch):
    """A module `pyiqa`, which is not among the requirements."""
    modules = {"pyiqa": StandIn(), "pyiqa.utils": types.ModuleType("pyiqa.utils")}
    modules["pyiqa.utils"].download_util = types.SimpleNamespace()
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)


def test_metric_of_pyiqa(stand_in, pair):
    metric = iqa.Metric("dists", CPU)
    assert metric.needs_true and metric.note == "by pyiqa 0.1.16, lower is better"
    assert torch.allclose(metric(*pair), (pair[0] - pair[1]).abs().mean((1, 2, 3)) / 2)
    with pytest.raises(UserError, match=r"evaluate.pyiqa: pyiqa 0.1.16 has no metric other: remove it"):
        iqa.Metric("other", CPU)


def test_pyiqa_downloads_no_weights(stand_in):
    download = torch.hub.download_url_to_file
    reason = (
        r"its weights are not in the cache: download https://host.invalid/musiq.pth to pyiqa/musiq.pth in torch.hub"
    )
    with pytest.raises(UnavailableError, match=reason):
        iqa.Metric("musiq", CPU)
    assert torch.hub.download_url_to_file is download


def test_pyiqa_is_optional():
    if importlib.util.find_spec("pyiqa"):
        pytest.skip("pyiqa is installed")
    with pytest.raises(UnavailableError, match="pyiqa is not installed: pip install --no-deps pyiqa=="):
        iqa.Metric("musiq", CPU)


# Report


@pytest.mark.heavy
def test_report_has_lpips_and_fid_if_their_files_exist(
    folder, vgg16, inception_folder, faces, no_network, stand_in, tmp_path
):
    for source in (folder, vgg16, inception_folder):
        for path in source.iterdir():
            (tmp_path / path.name).symlink_to(path)
    for paths in faces[:2]:
        for subfolder, path in zip(("hr", "sr/ours", "lr"), paths, strict=True):
            images.write(tmp_path / "testset" / subfolder / f"{paths[0].stem}.png", images.read(path))
        labels.write(tmp_path / "testset/parse" / f"{paths[0].stem}.png", np.zeros((128, 128), np.uint8))
    testset = TestSet(tmp_path / "testset", ["ours"])
    np.savez(tmp_path / "reference.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    evaluation = measure.evaluate(testset, tmp_path, 8, CPU, 1, tmp_path / "reference.npz", ["musiq", "dists"])
    summary = report.summarize(evaluation, 1, 100)
    assert summary["reasons"].keys() == {"niqe", "musiq", "lmd", "deg"}, "128 pixels, and metrics without weights"
    assert "degraded: 2 images have fewer than two blocks" in summary["reasons"]["niqe"][0]
    computed = [*(metric for metric in report.METRICS if metric not in ("niqe", "lmd", "deg")), "dists"]
    for variant in ("degraded", "ours"):
        assert list(summary[variant]) == [*report.METRICS, "musiq", "dists"]
        may_be_negative = {*report.PATTERN_METRICS, "kid"}
        assert all(summary[variant][metric] > 0 for metric in computed if metric not in may_be_negative)
        assert list(summary["intervals"][variant]) == computed
        low, high = summary["intervals"][variant]["fid_reference"]
        assert low <= summary[variant]["fid_reference"] <= high
    assert "JPEG" in summary["notes"]["fid"][0] and {"lpips", "dists"} <= set(evaluation.table().columns)
    assert summary["notes"]["fid_reference"][0] == f"against {tmp_path}/reference.npz"
    last_table = table.to_markdown(summary).split("\n\n| model")[-1]
    assert last_table.startswith(" | FID to the reference ↓ | KID ↓ | dists |\n")
    assert "dists: by pyiqa 0.1.16, lower is better." in last_table


@pytest.mark.heavy
def test_set_without_true_images_has_niqe_and_fid_against_a_reference(inception_folder, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 96, 192, 3), np.uint8)
    for subfolder, image in zip(("lr", "sr/ours", "hr"), pixels, strict=True):
        for name in "ab":
            images.write(tmp_path / subfolder / f"{name}.png", image if name == "a" else image[::-1])
    for name in "ab":
        labels.write(tmp_path / "parse" / f"{name}.png", np.zeros((96, 192), np.uint8))
    testset = TestSet(tmp_path, ["ours"], has_true=False)
    evaluation = measure.evaluate(testset, inception_folder, 2, CPU, 1, tmp_path / "hr")
    summary = report.summarize(evaluation, 1, 100)
    values = {metric: value for metric, value in summary["ours"].items() if value is not None}
    assert values.keys() == set(report.UNPAIRED_METRICS) == summary["intervals"]["ours"].keys()
    assert values["niqe"] == pytest.approx(np.mean([niqe.score(image) for image in (pixels[1], pixels[1][::-1])]))
    assert list(evaluation.table().columns) == ["name", "model", "niqe"]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "make"),
    [(metric_files.VGG16, pretrained_metrics.Lpips), (metric_files.INCEPTION, pretrained_metrics.load_inception)],
)
def test_lpips_and_fid_reject_other_files(tmp_path, no_network, name, make):
    with pytest.raises(UserError, match=f"{name}: no such weights file: set weights.source to download"):
        make(tmp_path, CPU)
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(UserError, match=f"{name}: weights of another network"):
        make(tmp_path, CPU)
    (tmp_path / name).write_bytes(b"<html>")
    with pytest.raises(UserError, match=f"{name}: not a readable weights file"):
        make(tmp_path, CPU)


# Parsing maps


def test_confusion_matrix_counts_pixels():
    true = np.array([[0, 0, 1], [1, 1, 18]])
    predicted = torch.tensor([[0, 1, 1], [1, 2, 18]])
    matrix = segmentation.confusion_matrix(predicted, true)
    assert matrix.shape == (19, 19) and matrix.dtype == np.int64 and matrix.sum() == 6
    assert (matrix[0, 0], matrix[0, 1], matrix[1, 1], matrix[1, 2], matrix[18, 18]) == (1, 1, 2, 1, 1)
    with pytest.raises(ValueError, match="shapes"):
        segmentation.confusion_matrix(predicted, true[:1])


def test_scores_of_confusion_matrix():
    predicted, true = np.array([0, 1, 1, 1, 2, 18]), np.array([0, 0, 1, 1, 1, 18])
    scores = segmentation.compute_scores(segmentation.confusion_matrix(predicted, true))
    assert scores["pixel_accuracy"] == pytest.approx(4 / 6)
    assert scores["iou"]["background"] == 0.5 and scores["iou"]["skin"] == 0.5 and scores["iou"]["cloth"] == 1
    assert scores["iou"]["nose"] is None  # predicted, but in no true map
    assert scores["mean_iou"] == pytest.approx(2 / 3)
    assert list(scores["iou"]) == list(labels.NAMES) and json.dumps(scores)


@given(st.integers(0, 2**32 - 1), st.integers(2, 19))
@settings(deadline=None)
def test_confusion_matrices_can_be_added(seed, num_labels):
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(num_labels, size=(2, 3, 8, 8))
    matrix = segmentation.confusion_matrix(predicted, true)
    parts = [segmentation.confusion_matrix(p, t) for p, t in zip(predicted, true, strict=True)]
    assert np.array_equal(matrix, sum(parts))
    scores = segmentation.compute_scores(matrix)
    assert scores["pixel_accuracy"] == pytest.approx((true == predicted).mean())
    ious = [
        np.sum((true == label) & (predicted == label)) / np.sum((true == label) | (predicted == label))
        for label in np.unique(true)
    ]
    assert scores["mean_iou"] == pytest.approx(np.mean(ious))
    perfect = segmentation.compute_scores(segmentation.confusion_matrix(true, true))
    assert perfect["mean_iou"] == perfect["pixel_accuracy"] == 1


# Confidence intervals


def test_resamples_depend_on_the_seed():
    resamples = bootstrap.resample_indices(1, 48, 100)
    assert resamples.shape == (100, 48) and resamples.min() == 0 and resamples.max() == 47
    assert np.array_equal(resamples, bootstrap.resample_indices(1, 48, 100))
    assert not np.array_equal(resamples, bootstrap.resample_indices(2, 48, 100))


def test_interval_of_mean_agrees_with_theory():
    values = np.random.default_rng(0).normal(10, 2, 400)
    resamples = bootstrap.resample_indices(1, 400, 4000)
    low, high = bootstrap.confidence_interval(resamples, lambda indices: values[indices].mean())
    error = values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_bias_corrected_interval_contains_the_value():
    def statistic(indices: np.ndarray) -> float:
        return frechet.distance(x[indices], y[indices])

    x, y = np.random.default_rng(0).normal(size=(2, 60, 20))
    value, resamples = frechet.distance(x, y), bootstrap.resample_indices(1, 60, 200)
    plain = bootstrap.confidence_interval(resamples, statistic)
    low, high = bootstrap.confidence_interval(resamples, statistic, bias_corrected_to=value)
    assert plain[0] > value  # the bias that is corrected
    assert low < value < high and high - low == pytest.approx(plain[1] - plain[0])
