"""The evaluate stage on a small test set, and its errors on an inconsistent one."""

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
from psfr.compute import parallel
from psfr.compute.devices import deterministic_float32
from psfr.data import images, labels
from psfr.metrics import fidelity, mean_error, measure, output, report, results_sheet, st_lpips, table
from psfr.metrics.testset import DEGRADED, MAP, TestSet
from psfr.pretrained import fetch, metric_files
from psfr.utils.errors import UserError
from stages import evaluate

ROOT = Path(__file__).parents[2]
NAMES = [f"face{index}" for index in range(5)]
SIZE = 64
# Metrics that cannot be computed on 64 pixels without downloaded or named weights, a reference set and pyiqa.
MISSING = {
    "lpips": "set weights.source to download",
    "fid": "set weights.source to download",
    "kid": "set weights.source to download",
    "fid_reference": "set evaluate.reference",
    "niqe": "5 images have fewer than two blocks of 96 x 96 pixels",
    "musiq": "pyiqa is not installed: pip install",
    "dists": "pyiqa is not installed: pip install",
    "lmd": "set evaluate.lmd_weights",
    "deg": "set evaluate.deg_weights",
}
pytestmark = pytest.mark.heavy

INFER_COMPUTE = {"device": "GPU", "precision": "bf16", "processes": 2}


def write_testset(folder: Path) -> None:
    """Write portraits, strongly blurred copies as degraded images, two models that blur less, and true parsing maps."""
    for index, name in enumerate(NAMES):
        image, seg = portraits.draw(3, index, SIZE)
        for subfolder, radius in (("hr", 0), ("lr", 4), ("sr/ours", 0.6 + 0.2 * index), ("sr/other", 2)):
            blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))
            images.write(folder / subfolder / f"{name}.png", np.asarray(blurred))
        labels.write(folder / "parse" / f"{name}.png", seg)
    (folder / "sr/compute.json").write_text(json.dumps(INFER_COMPUTE))


def write_params(path: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["models"] = {"ours": "models/external/a.safetensors", "other": "models/external/b.safetensors"}
    params["evaluate"] |= {"resamples": 100, "shown": 3}
    params["compute"] |= {"batch_size": 2, "device": "cpu", "workers": 1}
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def output_files(project: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (project / "metrics").rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A project folder in which the evaluate stage has run."""
    folder = tmp_path_factory.mktemp("run")
    write_testset(folder / "data/testset")
    fetch.fetch("packages", folder=folder / "data/weights")
    write_params(folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evaluate.main()
    return folder


@pytest.fixture
def testset(tmp_path):
    write_testset(tmp_path)
    return tmp_path


def read_summary(project: Path) -> dict:
    return json.loads((project / "metrics/evaluation.json").read_text())


def test_every_metric_has_value_or_reason(evaluated):
    summary = read_summary(evaluated)
    assert list(summary) == ["degraded", "ours", "other", "intervals", "reasons", "notes", "compute"]
    for variant in ("degraded", "ours", "other"):
        assert tuple(summary[variant]) == (*report.METRICS, "musiq", "dists")
        for metric, value in summary[variant].items():
            if reason := MISSING.get(metric):
                assert value is None and reason in summary["reasons"][metric][0]
                assert metric not in summary["intervals"][variant]
            else:
                low, high = summary["intervals"][variant][metric]
                assert low <= value <= high and low < high, metric


def test_evaluation_records_what_inference_and_it_ran_on(evaluated):
    (compute,) = read_summary(evaluated)["compute"]
    assert compute["infer"] == INFER_COMPUTE
    recorded = compute["evaluate"]
    assert recorded["device"].startswith("CPU (") and "thread" in recorded["device"]
    assert (recorded["precision"], recorded["processes"]) == ("fp32", 1)
    assert "compute" not in (evaluated / "metrics/plots/table.md").read_text()


def test_better_images_have_better_metrics(evaluated):
    summary = read_summary(evaluated)
    for metric, sign in {
        "psnr": 1,
        "ssim": 1,
        "st_lpips": -1,
        "identity": -1,
        "frechet_vgg16": -1,
        "frechet_alexnet": -1,
    }.items():
        ours, other, degraded = (sign * summary[variant][metric] for variant in ("ours", "other", "degraded"))
        assert ours > other > degraded, metric


def test_per_image_table_agrees_with_summary(evaluated):
    summary = read_summary(evaluated)
    per_image = pd.read_csv(evaluated / "metrics/per_image.csv")
    assert list(per_image.columns) == ["name", "model", "psnr", "ssim", "st_lpips", "identity", "tint"]
    assert len(per_image) == 3 * len(NAMES) and set(per_image["name"]) == set(NAMES)
    for variant, rows in per_image.groupby("model"):
        assert fidelity.pooled_psnr(rows["psnr"].to_numpy()) == pytest.approx(summary[variant]["psnr"], rel=1e-4)
        for metric in ("ssim", "st_lpips", "identity"):
            assert rows[metric].mean() == pytest.approx(summary[variant][metric], rel=1e-4)
        assert fidelity.pooled_tint(rows["tint"].to_numpy()) == pytest.approx(summary[variant]["tint"], rel=1e-4)


def read_tables(project: Path) -> tuple[list[str], list[str]]:
    """Return the lines of the reimplementation's table and those of the table of further metrics."""
    lines = (project / "metrics/plots/table.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| model | ST-LPIPS"))
    return lines[:start], lines[start:]


def test_table_of_the_reimplementation(evaluated):
    summary = read_summary(evaluated)
    lines, _ = read_tables(evaluated)
    assert lines[:2] == ["| model | PSNR ↑ | SSIM ↑ | LPIPS ↓ | FID ↓ |", "| --- | ---: | ---: | ---: | ---: |"]
    assert lines[2:5] == [
        f"| {variant} | {summary[variant]['psnr']:.4f} | {summary[variant]['ssim']:.4f} | \N{EN DASH} | \N{EN DASH} |"
        for variant in ("degraded", "ours", "other")
    ]
    assert [line.split(" ")[:4] for line in lines[5:] if line] == [
        [f"{name}:", f"data/weights/metrics/{file}", "is", "not"]
        for name, file in [("LPIPS", metric_files.VGG16), ("FID", metric_files.INCEPTION)]
    ]


def test_table_of_further_metrics(evaluated):
    summary = read_summary(evaluated)
    _, lines = read_tables(evaluated)
    assert max(map(len, lines[:5])) <= 120
    columns = ["ST-LPIPS ↓", "identity ↓", "fixed pattern ↓", "tint ↓"]
    columns += ["Fréchet AlexNet ↓", "Fréchet VGG16 ↓"]
    assert lines[0] == f"| model | {' | '.join(columns)} |"
    values = summary["ours"]
    stripes = f"{values['fixed_pattern_horizontal']:.2f} / {values['fixed_pattern_vertical']:.2f}"
    assert lines[3].startswith(f"| ours | {values['st_lpips']:.3f} | {values['identity']:.3f} | {stripes} | ")
    few = {features: report.FEW_IMAGES.format(num_images=len(NAMES), num_features=features) for features in (256, 512)}
    remarks = [f"AlexNet: {few[256]}", f"VGG16: {report.TRAINED_ON}", f"VGG16: {few[512]}"]
    assert lines[5:] == [line for remark in remarks for line in ("", f"Fréchet {remark}.")]


def test_complete_table_has_notes_only():
    """At full size the Fréchet distance has a value but no interval; the table does not mention the interval."""
    values = dict.fromkeys(report.METRICS, 0.5)
    values |= {"psnr": 24.8226, "ssim": 0.67294, "lpips": 0.3, "fid": 12.00256}
    summary = {
        "ours": values,
        "intervals": {"ours": {}},
        "reasons": {"fid": ["ours: no interval"]},
        "notes": {"fid": [report.LOSSLESS]},
        "compute": {"device": "CPU", "precision": "fp32", "processes": 1},
    }
    assert table.to_markdown(summary).splitlines()[2:6] == [
        "| ours | 24.8226 | 0.6729 | 0.3000 | 12.0026 |",
        "",
        f"FID: {report.LOSSLESS}.",
        "",
    ]
    assert table.to_markdown(summary).splitlines()[8:] == [
        "| ours | 0.500 | 0.500 | 0.50 / 0.50 | 0.5 | 0.5000 | 0 |",
        "",
        "| model | FID to the reference ↓ | KID ↓ | NIQE ↓ | LMD ↓ | Deg ↓ |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| ours | 0.50 | 0.50000 | 0.500 | 0.50 | 0.50 |",
    ]


def test_mean_error_sheet_shows_tint_and_stripes(tmp_path):
    stripes = np.zeros((64, 64, 3))
    stripes[::2] = 2
    tint = np.zeros((64, 64, 3)) + [8, 0, -8]
    summary = {
        variant: {"tint": 1.0, "fixed_pattern_horizontal": 1.0, "fixed_pattern_vertical": None}
        for variant in ("striped", "tinted")
    }
    summary["striped"]["fixed_pattern_vertical"] = 0.0
    summary["tinted"]["fixed_pattern_horizontal"] = None
    mean_error.write(tmp_path / "sheet.png", {"striped": stripes, "tinted": tint}, summary)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    top, side, step = 34, 256, 256 + 8
    second = top + side + 20 + 8
    assert sheet[top : top + side : 8, 8].tolist() == [[143] * 3] * 32 and sheet[top + 4, 8].tolist() == [128] * 3
    assert sheet[top + 100, 8 + step + 100].tolist() == [191, 128, 64]
    assert sheet[second + 120, 100].tolist() == [159] * 3 and sheet[second + 124, 100].tolist() == [96] * 3
    assert np.ptp(sheet[second : second + side, 8 + step : 8 + step + side].astype(int)) <= 1
    assert sheet[top, 8 + 2 * step].tolist() == [255] * 3 and sheet[top + side - 1, 8 + 2 * step].tolist() == [0] * 3


def test_results_sheet_shows_images_unchanged(evaluated):
    sheet = np.asarray(Image.open(evaluated / "metrics/plots/results.png"))
    side, gap, header, caption = 256, 8, 34, 20
    scale = side // SIZE
    ranked = pd.read_csv(evaluated / "metrics/per_image.csv").query("model == 'ours'").sort_values("st_lpips")
    folder = evaluated / "data/testset"
    for row, rank in enumerate((0, 2, 4)):
        name = ranked["name"].iloc[rank]
        cells = [images.read(folder / subfolder / f"{name}.png") for subfolder in ("lr", "sr/ours", "sr/other", "hr")]
        cells.insert(1, labels.PALETTE[labels.read(folder / "parse" / f"{name}.png")])
        top = header + row * (side + caption + gap)
        for column, cell in enumerate(cells):
            left = gap + column * (side + gap)
            shown = sheet[top : top + side : scale, left : left + side : scale]
            assert np.array_equal(shown, cell), (row, column)


@pytest.mark.process
def test_output_is_reproducible(evaluated, monkeypatch):
    expected = output_files(evaluated)
    monkeypatch.chdir(evaluated)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["compute"]["workers"] = 2
    monkeypatch.setattr(parallel, "START_AFTER", 0)
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    evaluate.main()
    assert output_files(evaluated) == expected


def test_captions_without_true_images_say_what_is_known():
    evaluation = report.Evaluation(["a", "b"], {"degraded": {"niqe": np.array([9.0, 8.0])}, "ours": {}}, {})
    captions = [results_sheet._caption(evaluation, column, 1, np.array([1, 2])) for column in (DEGRADED, MAP, "ours")]
    assert captions == ["NIQE 8.00", "b", ""]


def test_pick_by_rank_goes_from_best_to_worst():
    distances = np.array([0.5, 0.1, 0.4, 0.2, 0.3])
    assert results_sheet.pick_by_rank(distances, 3) == [1, 4, 0]
    assert results_sheet.pick_by_rank(distances, 9) == [1, 3, 4, 2, 0]
    assert results_sheet.pick_by_rank(distances, 1) == [1]


@pytest.mark.parametrize("num_images", [5, 11, 47, 48, 2800])
@pytest.mark.parametrize("count", [3, 5])
def test_pick_by_rank_puts_median_in_the_middle(num_images, count):
    distances = np.random.default_rng(num_images).permutation(num_images).astype(float)
    picked = distances[results_sheet.pick_by_rank(distances, count)]
    assert len(set(picked)) == count and (np.diff(picked) > 0).all()
    assert picked[0] == 0 and abs(picked[count // 2] - np.median(distances)) <= 0.5 and picked[-1] == num_images - 1


def make_evaluation(psnr: list[float]) -> report.Evaluation:
    """Make an evaluation of two images; `psnr` is that of the model."""
    values = {"degraded": {"psnr": np.array([20.0, 30.0])}, "ours": {"psnr": np.array(psnr)}}
    features = {"frechet_vgg16": {"true": np.eye(2), "degraded": np.eye(2) * 2, "ours": np.eye(2)}}
    return report.Evaluation(["a", "b"], values, features)


def test_infinite_value_is_null_with_reason():
    summary = report.summarize(make_evaluation([np.inf, np.inf]), 1, 100)
    assert summary["ours"]["psnr"] is None and "psnr" not in summary["intervals"]["ours"]
    assert summary["reasons"]["psnr"] == ["ours: infinite, all its images equal the true ones"]
    assert summary["degraded"]["psnr"] == pytest.approx(22.5964) and summary["ours"]["frechet_vgg16"] == 0
    json.dumps(summary, allow_nan=False)


def test_infinite_bound_of_interval_is_null():
    low, high = report.summarize(make_evaluation([30.0, np.inf]), 1, 100)["intervals"]["ours"]["psnr"]
    assert low == 30 and high is None


def test_too_expensive_interval_is_skipped(monkeypatch):
    monkeypatch.setattr(report.frechet, "MAX_BOOTSTRAP_DIM", 1)
    summary = report.summarize(make_evaluation([30.0, 20.0]), 1, 100)
    assert summary["degraded"]["frechet_vgg16"] > 0 and list(summary["intervals"]["degraded"]) == ["psnr"]
    assert summary["reasons"]["frechet_vgg16"][0].startswith("degraded: no interval")


def copy_face(project: Path, folder: Path) -> None:
    """Copy a test image with the results of one model."""
    for subfolder in ("hr", "lr", "parse", "sr/ours"):
        (folder / subfolder).mkdir(parents=True)
        shutil.copy(project / "data/testset" / subfolder / "face0.png", folder / subfolder)


def test_all_metrics_are_computed_in_ieee_float32(tmp_path, evaluated, monkeypatch):
    from psfr.metrics import pretrained_metrics

    copy_face(evaluated, tmp_path)
    weights_dir = tmp_path / "weights"
    shutil.copytree(evaluated / "data/weights/metrics", weights_dir, symlinks=True)
    (weights_dir / metric_files.INCEPTION).touch()

    def flags() -> tuple[str, str, bool]:
        backends = torch.backends
        return backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision, backends.cudnn.deterministic

    found = {}

    def recording(name, function):
        return lambda *args: (found.__setitem__(name, flags()), function(*args))[1]

    for name in ("psnr", "ssim"):
        monkeypatch.setattr(fidelity, name, recording(name, getattr(fidelity, name)))
    monkeypatch.setattr(st_lpips, "deepest_features", recording("features", st_lpips.deepest_features))
    monkeypatch.setattr(pretrained_metrics, "load_inception", lambda *_: None)
    monkeypatch.setattr(pretrained_metrics, "inception_features", recording("fid", lambda *_: np.zeros((1, 2048))))
    with deterministic_float32():  # restores the precision
        torch.backends.cudnn.deterministic = False
        torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "tf32"
        measure.evaluate(TestSet(tmp_path, ["ours"]), weights_dir, 8, torch.device("cpu"), 1)
        assert flags() == ("tf32", "tf32", False)
    assert found == dict.fromkeys(("psnr", "ssim", "features", "fid"), ("ieee", "ieee", True))


def test_single_image_has_no_set_metrics(tmp_path, evaluated):
    copy_face(evaluated, tmp_path)
    weights_dir = evaluated / "data/weights/metrics"
    evaluation = measure.evaluate(TestSet(tmp_path, ["ours"]), weights_dir, 8, torch.device("cpu"), 1)
    summary = report.summarize(evaluation, 1, 100)
    for metric in report.SET_METRICS:
        assert summary["ours"][metric] is None and "at least two images" in summary["reasons"][metric][0]
    assert summary["ours"]["psnr"] is not None and summary["ours"]["tint"] > 0
    for metric in ("psnr", "ssim", "st_lpips", "identity", "tint"):
        assert summary["intervals"]["ours"][metric] is None
        assert summary["reasons"][metric] == [report.SINGLE_IMAGE]
    output.write(tmp_path / "metrics", TestSet(tmp_path, ["ours"]), evaluation, summary, 1)
    table_text = (tmp_path / "metrics/plots/table.md").read_text()
    undefined = "fixed pattern, Fréchet AlexNet, Fréchet VGG16: defined for a set of at least two images"
    assert table_text.count(undefined) == 1


def test_set_without_true_images(evaluated, tmp_path):
    """Metrics that need them are null with one reason; the sheet shows degraded image, parsing map, restored images."""
    inputs, folder = tmp_path / "images", evaluated / "data/testset"
    shutil.copytree(folder / "lr", inputs / "lr")
    testset = TestSet(folder, ["ours", "other"], inputs, has_true=False)
    evaluation = measure.evaluate(testset, evaluated / "data/weights/metrics", 8, torch.device("cpu"), 1)
    summary = report.summarize(evaluation, 1, 100)
    output.write(tmp_path / "metrics", testset, evaluation, summary, 2)
    for metric in report.PAIRED_METRICS:
        assert summary["ours"][metric] is None and summary["reasons"][metric] == [report.NO_TRUE_IMAGES]
    assert f"PSNR, SSIM, LPIPS, FID: {report.NO_TRUE_IMAGES}." in (tmp_path / "metrics/plots/table.md").read_text()
    assert {path.name for path in (tmp_path / "metrics/plots").iterdir()} == {"results.png", "table.md"}
    assert Image.open(tmp_path / "metrics/plots/results.png").size == (4 * (256 + 8) + 8, 34 + 2 * (256 + 28) + 0)
    (inputs / "lr/face1.png").unlink()
    with pytest.raises(UserError, match="parse/face1.png has no degraded image"):
        TestSet(folder, ["ours"], inputs, has_true=False)


@pytest.mark.parametrize(("num_images", "noted"), [(2, True), (4, True), (5, False)])
def test_frechet_distances_of_few_images_have_a_note(num_images, noted):
    features = {"frechet_alexnet": dict.fromkeys(("true", "ours"), np.random.default_rng(0).random((num_images, 4)))}
    values = {"ours": {"psnr": np.full(num_images, 30.0)}}
    summary = report.summarize(report.Evaluation(list("abcde")[:num_images], values, features), 1, 100)
    assert ("frechet_alexnet" in summary["notes"]) == noted
    if noted:
        (note,) = summary["notes"]["frechet_alexnet"]
        assert note.startswith(f"{num_images} images are too few for the covariance of 4 features")


def test_inconsistent_testset_lists_all_problems(testset):
    (testset / "lr/face1.png").unlink()
    (testset / "sr/ours/face2.png").rename(testset / "sr/ours/stranger.png")
    images.write(testset / "sr/ours/face3.png", np.zeros((32, 64, 3), np.uint8))
    (testset / "lr/face4.png").write_bytes(b"no image")
    with pytest.raises(UserError) as error:
        TestSet(testset, ["ours", "absent"])
    message = str(error.value)
    assert "\n" not in message and "dvc repro" in message
    for problem in (
        "lr/face1.png is missing",
        "sr/ours/face2.png is missing",
        "sr/ours/stranger.png has no true image",
        "sr/ours/face3.png is 64x32, its true image 64x64",
        "lr/face4.png: not a readable image",
        "sr/absent is missing",
    ):
        assert problem in message
