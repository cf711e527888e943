"""Fit and measurement of `--strength auto`, on faces and values that are made here."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import strength
from psfr.data import images
from psfr.params import read_params
from psfr.photos import alignment
from psfr.photos.strength import WEIGHTS, choose_strength, estimate_severity
from tests.helpers import photos

ROOT = strength.Path(__file__).parents[2]


def make_curves(num_faces: int = 30) -> strength.Curves:
    """Make faces of which those of severity above 0.5 gain identity by restoration; the others lose it."""
    severities = np.linspace(0.2, 0.8, num_faces)
    strengths = np.array([choose_strength(severity) for severity in severities])
    grid = np.concatenate([np.tile(strength.STRENGTHS, (num_faces, 1)), strengths[:, None]], 1)
    values = {
        "psnr": np.full(grid.shape, 20.0),
        "ssim": 0.5 + 0.1 * grid,
        "st_lpips": severities[:, None] * (1 - 0.5 * grid),
        "identity": severities[:, None] - (severities[:, None] - 0.5) * grid,
    }
    return strength.Curves(severities, strengths, values)


def test_ridge_recovers_a_linear_function():
    features = np.random.default_rng(0).normal(2, [1, 10, 0.1], (400, 3))
    intercept, weights = strength.ridge(features, 0.3 + features @ [1, -0.2, 3])
    assert intercept == pytest.approx(0.3, abs=0.05) and weights == pytest.approx([1, -0.2, 3], rel=0.01)


@pytest.mark.heavy
def test_pairs_of_a_photograph_are_degraded_at_each_size(tmp_path):
    images.write(tmp_path / "head.png", alignment.crop(photos.astronaut(), photos.FRAME, 128))
    config = read_params(ROOT / "params/tiny.yaml").degrade
    features, distances, faces = strength.severity_pairs(images.list_images(tmp_path), 64, config)
    assert features.shape == (3, len(WEIGHTS)) and distances.shape == (3,) and not faces.any()
    assert distances[0] == 0 < distances[1:].min()


@pytest.mark.parametrize("whole", [False, True])
def test_set_is_restored_at_each_strength(tmp_path, whole):
    aligned = alignment.crop(photos.astronaut(), photos.FRAME, photos.SIZE)
    small = np.asarray(Image.fromarray(aligned).resize((16, 16)).resize((photos.SIZE, photos.SIZE)))
    for folder, image in (("hr", aligned), ("lr", small)):
        images.write(tmp_path / folder / "head.png", image)
    testset, severities = strength.restore_set(tmp_path, photos.flawed_restorer, whole)
    assert testset.variants == ["degraded", "0.25", "0.5", "0.75", "1", "auto"]
    assert severities.tolist() == [estimate_severity(small)]
    auto = choose_strength(severities[0])
    restored = {name: images.read(testset.path(name, "head")).astype(int) for name in testset.variants}
    change = restored["1"] - restored["degraded"]
    assert np.abs(change).max() > 10 and 0 < auto < 1
    for name, weight in (("0.5", 0.5), ("auto", auto)):
        deviation = restored[name] - restored["degraded"] - weight * change
        assert np.quantile(np.abs(deviation), 0.95) <= 1  # few levels are clipped
    assert (change[:4] != 0).any() == whole, "psfr.restore keeps the background"


def test_table_shows_what_auto_changes():
    curves = make_curves()
    lines = strength.format_curves(curves).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:9]] == [
        "degraded", "0.25", "0.5", "0.75", "1", "auto", "auto minus degraded",
    ]  # fmt: skip
    mean_change = (curves.values["identity"][:, -1] - curves.values["identity"][:, 0]).mean()
    assert f"**{mean_change:+.3f} (" in lines[8] and mean_change < 0
    assert "Correlation of the estimated severity" in lines[-1] and lines[-1].endswith("1.00.")


@pytest.mark.heavy
def test_thresholds_restore_the_faces_that_gain():
    """Restored are the faces above 0.5 and as many of the others as the limit of ST-LPIPS asks for."""
    cells = [line.split("|") for line in strength.compare_thresholds(make_curves()).splitlines()[2:]]
    low, high, ratio = (float(cells[0][i]) for i in (1, 2, 4))
    assert 0.4 <= low < high <= 0.6 and ratio <= strength.MAX_ST_LPIPS + 0.001
    assert len({(row[1], row[2]) for row in cells}) == len(cells) == 12


def test_plot(tmp_path):
    strength.draw_curves(make_curves(), tmp_path / "curves.png")
    plot = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).reshape(-1, 3)
    assert {(31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40)} <= set(map(tuple, plot))
