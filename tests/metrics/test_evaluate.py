"""The evaluate stage on a small test set, and what it says of a broken one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image, ImageFilter

from psfr import portraits
from psfr.data import images, labels
from psfr.metrics import fidelity, picture, report, table
from psfr.metrics.testset import FacesUnderTest
from psfr.pretrained import fetch, metric_files
from psfr.utils.errors import InputError
from stages import evaluate

ROOT = Path(__file__).parents[2]
NAMES = [f"face{index}" for index in range(5)]
SIZE = 64


def fill(folder: Path) -> None:
    """True portraits, strongly blurred ones as degraded, two models that blur less, and the true region maps."""
    for index, name in enumerate(NAMES):
        pixels, regions = portraits.draw(3, index, SIZE)
        for place, radius in (("hr", 0), ("lr", 4), ("sr/ours", 0.6 + 0.2 * index), ("sr/other", 2)):
            blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius))
            images.write(folder / place / f"{name}.png", np.asarray(blurred))
        labels.write(folder / "parse" / f"{name}.png", regions)


def parameters(path: Path, **evaluate_values) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["models"] = {"ours": "a.safetensors", "other": "b.safetensors"}
    values["evaluate"] |= {"resamples": 100, "shown": 3} | evaluate_values
    values["compute"]["batch_size"] = 2
    values["compute"] |= {"device": "cpu", "workers": 1}
    path.write_text(yaml.safe_dump(values, sort_keys=False))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder in which evaluate has run."""
    folder = tmp_path_factory.mktemp("run")
    fill(folder / "data/testset")
    fetch.fetch("packages", folder=folder / "data/weights")
    parameters(folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evaluate.main()
    return folder


@pytest.fixture
def testset(tmp_path):
    fill(tmp_path)
    return tmp_path


def test_every_metric_has_a_number_or_a_reason(workplace):
    found = json.loads((workplace / "metrics/evaluation.json").read_text())
    assert list(found) == ["degraded", "ours", "other", "intervals", "reasons", "notes"]
    for version in ("degraded", "ours", "other"):
        assert tuple(found[version]) == report.METRICS
        for metric, value in found[version].items():
            if metric in ("lpips", "fid"):
                assert value is None and "set weights.source to download" in found["reasons"][metric][0]
                assert metric not in found["intervals"][version]
            else:
                low, high = found["intervals"][version][metric]
                assert low <= value <= high and low < high


def test_better_images_have_better_figures(workplace):
    found = json.loads((workplace / "metrics/evaluation.json").read_text())
    for metric, sign in {"psnr": 1, "ssim": 1, "st_lpips": -1, "identity": -1, "frechet_vgg16": -1}.items():
        assert sign * found["ours"][metric] > sign * found["other"][metric] > sign * found["degraded"][metric], metric


def test_table_of_images_gives_the_figures_of_the_set(workplace):
    found = json.loads((workplace / "metrics/evaluation.json").read_text())
    images_of_all = pd.read_csv(workplace / "metrics/per_image.csv")
    assert list(images_of_all.columns) == ["name", "model", "psnr", "ssim", "st_lpips", "identity"]
    assert len(images_of_all) == 3 * len(NAMES) and set(images_of_all["name"]) == set(NAMES)
    for version, rows in images_of_all.groupby("model"):
        assert fidelity.psnr_of_set(rows["psnr"].to_numpy()) == pytest.approx(found[version]["psnr"], rel=1e-4)
        for metric in ("ssim", "st_lpips", "identity"):
            assert rows[metric].mean() == pytest.approx(found[version][metric], rel=1e-4)


def test_the_articles_table(workplace):
    found = json.loads((workplace / "metrics/evaluation.json").read_text())
    lines = (workplace / "metrics/plots/table.md").read_text().splitlines()
    assert lines[:2] == ["| model | PSNR ↑ | SSIM ↑ | LPIPS ↓ | FID ↓ |", "| --- | ---: | ---: | ---: | ---: |"]
    assert lines[2:5] == [
        f"| {version} | {found[version]['psnr']:.4f} | {found[version]['ssim']:.4f} | – | – |"
        for version in ("degraded", "ours", "other")
    ]
    assert [line.split(" ")[:4] for line in lines[5:] if line] == [
        [f"{name}:", f"data/weights/metrics/{file}", "is", "not"]
        for name, file in [("LPIPS", metric_files.VGG16), ("FID", metric_files.INCEPTION)]
    ]


def test_a_table_of_all_four_says_what_its_fid_is_of():
    """As at full size, where a distance of sets has a figure and no interval: that is not the table's matter."""
    values = {"psnr": 24.8226, "ssim": 0.67294, "lpips": 0.3, "fid": 12.00256}
    found = {
        "ours": values,
        "intervals": {"ours": {}},
        "reasons": {"fid": ["ours: no interval"]},
        "notes": {"fid": [report.LOSSLESS]},
    }
    assert table.markdown(found).splitlines()[2:] == [
        "| ours | 24.8226 | 0.6729 | 0.3000 | 12.0026 |",
        "",
        f"FID: {report.LOSSLESS}.",
    ]


def test_picture_holds_the_images_unchanged(workplace):
    sheet = np.asarray(Image.open(workplace / "metrics/plots/results.png"))
    times = picture.LEAST // SIZE
    rows = pd.read_csv(workplace / "metrics/per_image.csv").query("model == 'ours'").sort_values("st_lpips")
    shown = [rows["name"].iloc[place] for place in (0, 2, 4)]
    folder = workplace / "data/testset"
    for row, name in enumerate(shown):
        cells = [images.read(folder / place / f"{name}.png") for place in ("lr", "sr/ours", "sr/other", "hr")]
        cells.insert(1, labels.PALETTE[labels.read(folder / "parse" / f"{name}.png")])
        top = picture.HEAD + row * (picture.LEAST + picture.CAPTION + picture.GAP)
        for column, cell in enumerate(cells):
            left = picture.GAP + column * (picture.LEAST + picture.GAP)
            piece = sheet[top : top + picture.LEAST : times, left : left + picture.LEAST : times]
            assert np.array_equal(piece, cell), (row, column)


def test_a_second_run_writes_the_same_bytes(workplace, monkeypatch):
    before = {path: path.read_bytes() for path in (workplace / "metrics").rglob("*") if path.is_file()}
    monkeypatch.chdir(workplace)
    given = yaml.safe_load(Path("params.yaml").read_text())
    given["compute"]["workers"] = 2
    Path("params.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
    evaluate.main()
    assert before == {path: path.read_bytes() for path in (workplace / "metrics").rglob("*") if path.is_file()}


def test_spread_goes_from_best_to_worst():
    distances = np.array([0.5, 0.1, 0.4, 0.2, 0.3])
    assert picture.spread(distances, 3) == [1, 4, 0]
    assert picture.spread(distances, 9) == [1, 3, 4, 2, 0]
    assert picture.spread(distances, 1) == [1]


@pytest.mark.parametrize("images", [5, 11, 47, 48, 2800])
@pytest.mark.parametrize("count", [3, 5])
def test_spread_has_the_median_in_the_middle(images, count):
    distances = np.random.default_rng(images).permutation(images).astype(float)
    shown = distances[picture.spread(distances, count)]
    assert len(set(shown)) == count and (np.diff(shown) > 0).all()
    assert shown[0] == 0 and abs(shown[count // 2] - np.median(distances)) <= 0.5 and shown[-1] == images - 1


def measured(psnr: list[float]) -> report.Measured:
    features = {
        "frechet_vgg16": {version: np.eye(2) * scale for version, scale in (("true", 1), ("degraded", 2), ("ours", 1))}
    }
    return report.Measured(
        ["a", "b"], {"degraded": {"psnr": np.array([20.0, 30.0])}, "ours": {"psnr": np.array(psnr)}}, features
    )


def test_what_is_infinite_is_null_with_its_reason():
    found = report.summary(measured([np.inf, np.inf]), 1, 100)
    assert found["ours"]["psnr"] is None and "psnr" not in found["intervals"]["ours"]
    assert found["reasons"]["psnr"] == ["ours: infinite, all its images equal the true ones"]
    assert found["degraded"]["psnr"] == pytest.approx(22.5964) and found["ours"]["frechet_vgg16"] == 0
    json.dumps(found, allow_nan=False)


def test_interval_with_an_infinite_end():
    low, high = report.summary(measured([30.0, np.inf]), 1, 100)["intervals"]["ours"]["psnr"]
    assert low == 30 and high is None


def test_interval_that_would_take_hours_is_left_out(monkeypatch):
    monkeypatch.setattr(report.frechet, "RESAMPLED_SIDE", 1)
    found = report.summary(measured([30.0, 20.0]), 1, 100)
    assert found["degraded"]["frechet_vgg16"] > 0 and list(found["intervals"]["degraded"]) == ["psnr"]
    assert found["reasons"]["frechet_vgg16"][0].startswith("degraded: no interval")


def test_one_image_has_no_distance_between_sets(tmp_path, workplace):
    for place in ("hr", "lr", "parse", "sr/ours"):
        (tmp_path / place).mkdir(parents=True)
        shutil.copy(workplace / "data/testset" / place / "face0.png", tmp_path / place)
    found = report.measure(
        FacesUnderTest(tmp_path, ["ours"]), workplace / "data/weights/metrics", 8, torch.device("cpu"), 1
    )
    values = report.summary(found, 1, 100)
    assert values["ours"]["frechet_vgg16"] is None and "at least two images" in values["reasons"]["frechet_vgg16"][0]
    assert values["ours"]["psnr"] is not None


def test_all_faults_of_the_folders_are_named_at_once(testset):
    (testset / "lr/face1.png").unlink()
    (testset / "sr/ours/face2.png").rename(testset / "sr/ours/stranger.png")
    images.write(testset / "sr/ours/face3.png", np.zeros((32, 64, 3), np.uint8))
    (testset / "lr/face4.png").write_bytes(b"no image")
    with pytest.raises(InputError) as error:
        FacesUnderTest(testset, ["ours", "absent"])
    said = str(error.value)
    assert "\n" not in said and "dvc repro" in said
    for part in ("lr/face1.png is missing", "sr/ours/face2.png is missing", "sr/ours/stranger.png has no true image",
                 "sr/ours/face3.png is 64x32, its true image 64x64", "lr/face4.png: not a readable image", "sr/absent is missing"):  # fmt: skip
        assert part in said
