"""The whole pipeline on params/tiny.yaml, with git and DVC as a user has them, in fresh clones."""

import json
import shutil
import sys

import pandas as pd
import pytest
from PIL import Image

from tests.helpers.running import ROOT, clone, ran, stages_run

METRICS = {"psnr", "ssim", "lpips", "fid", "st_lpips", "identity", "frechet_vgg16"}


def test_every_output_is_there(project):
    evaluation = json.loads((project / "metrics/evaluation.json").read_text())
    for model in ("degraded", "ours"):
        assert set(evaluation[model]) == METRICS
        numbers = {name for name, value in evaluation[model].items() if value is not None}
        assert numbers == METRICS - {"lpips", "fid"}
        assert set(evaluation["intervals"][model]) == numbers
    assert set(evaluation["reasons"]) == {"lpips", "fid"}
    fpn = json.loads((project / "metrics/fpn/metrics.json").read_text())
    assert {"mean_iou", "pixel_accuracy"} <= fpn.keys() & fpn["high_quality"].keys()
    assert len(pd.read_csv(project / "metrics/per_image.csv")) == 2 * 4
    assert len(pd.read_csv(project / "data/ffhq/degradations.csv")) == 2 * 8
    for folder, count in [
        ("ffhq/hr", 8),
        ("ffhq/lr/1", 8),
        ("ffhq/parse/hr", 8),
        ("ffhq/parse/lr/1", 8),
        ("testset/hr", 4),
        ("testset/sr/ours", 4),
    ]:
        files = list((project / "data" / folder).glob("*.png"))
        assert len(files) == count, folder
        with Image.open(files[0]) as image:
            assert image.size == (64, 64)
            assert (image.mode == "P") == ("parse" in folder)
    assert len(list((project / "metrics/train/plots/images").glob("*.png"))) == 2


def test_a_second_repro_runs_nothing(project):
    assert stages_run(ran(["dvc", "repro"], project)) == []
    assert ran(["git", "status", "--porcelain"], project) == "", "a run leaves nothing that git would take or lose"


def test_two_clones_have_the_same_lock(project, tmp_path):
    other = clone(tmp_path / "other")
    ran(["dvc", "repro"], other)
    assert (other / "dvc.lock").read_bytes() == (project / "dvc.lock").read_bytes()


def test_an_experiment_runs_what_it_must_and_no_more(project):
    output = ran(["dvc", "exp", "run", "-S", "lambda_ss=50"], project)
    assert stages_run(output) == ["train", "infer", "evaluate"]
    changes = json.loads(ran(["dvc", "metrics", "diff", "--json"], project))
    assert changes["metrics/evaluation.json"]["ours.psnr"]["diff"] != 0
    assert "degraded.psnr" not in changes["metrics/evaluation.json"]
    parameters = json.loads(ran(["dvc", "params", "diff", "--json"], project))
    assert parameters == {"params.yaml": {"lambda_ss": {"old": 100, "new": 50, "diff": -50}}}
    assert "50" in ran(["dvc", "exp", "show", "--csv"], project)
    ran(["dvc", "plots", "show"], project)
    assert (project / "dvc_plots/index.html").stat().st_size > 1000
    shutil.rmtree(project / "dvc_plots")
    ran(["git", "checkout", "--force", "."], project)
    ran(["dvc", "checkout"], project)
    assert stages_run(ran(["dvc", "exp", "run", "-S", "lambda_ss=50"], project)) == [], (
        "what has been run is not run again"
    )


@pytest.mark.parametrize(
    ("change", "stage", "message"),
    [
        (("lambda_ss: 100", "lambda_sss: 100"), "train", "lambda_sss: unknown key"),
        (("seed: 1", "seed: -1"), "degrade", "seed: "),
        (("source: packages", "source: torrent"), "fetch_weights", "weights.source"),
    ],
)
def test_bad_parameters_end_with_one_line(tmp_path, change, stage, message):
    text = (ROOT / "params/tiny.yaml").read_text()
    assert change[0] in text
    (tmp_path / "params.yaml").write_text(text.replace(*change))
    output = ran([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runpy; runpy.run_module('stages.{stage}', run_name='__main__')"],
                 tmp_path, status=1)  # fmt: skip
    assert message in output
    assert len(output.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml"]
