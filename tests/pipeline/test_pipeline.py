"""The whole pipeline on params/tiny.yaml in fresh clones, with real git and DVC."""

import json
import shutil
import sys

import pandas as pd
import pytest
from PIL import Image

from psfr.metrics import report
from tests.helpers.running import ROOT, run_command, stages_run

METRICS = {*report.METRICS, "musiq", "dists"}
# On images of 64 pixels, without downloaded or named weights, a reference set and pyiqa
MISSING = {"lpips", "fid", "fid_reference", "kid", "niqe", "musiq", "dists", "lmd", "deg"}


def test_all_outputs_exist(project):
    evaluation = json.loads((project / "metrics/evaluation.json").read_text())
    for model in ("degraded", "ours"):
        assert set(evaluation[model]) == METRICS
        computed = {name for name, value in evaluation[model].items() if value is not None}
        assert computed == METRICS - MISSING
        assert set(evaluation["intervals"][model]) == computed
    assert set(evaluation["reasons"]) == MISSING
    fpn = json.loads((project / "metrics/fpn/metrics.json").read_text())
    assert fpn.keys() == {"mean_iou", "pixel_accuracy", "high_quality", "compute"}
    assert fpn["high_quality"].keys() == {"mean_iou", "pixel_accuracy"}
    assert len(pd.read_csv(project / "metrics/fpn/iou.csv").label.unique()) > 10
    assert len(pd.read_csv(project / "metrics/per_image.csv")) == 2 * 4
    assert len(pd.read_csv(project / "data/ffhq/degradations.csv")) == 2 * 10
    for folder, count in [
        ("ffhq/hr", 10),
        ("ffhq/lr/1", 10),
        ("ffhq/parse/hr", 10),
        ("ffhq/parse/lr/1", 10),
        ("testset/hr", 4),
        ("testset/sr/ours", 4),
    ]:
        files = list((project / "data" / folder).glob("*.png"))
        assert len(files) == count, folder
        with Image.open(files[0]) as image:
            assert image.size == (64, 64)
            assert (image.mode == "P") == ("parse" in folder)
    assert len(list((project / "metrics/train/plots/images").glob("*.png"))) == 2


def test_second_repro_runs_no_stage(project):
    output = run_command(["dvc", "repro"], project)
    assert stages_run(output) == []
    assert output.index("'make_testset'") < output.index("'fpn'"), "test images are checked before any training"
    assert run_command(["git", "status", "--porcelain"], project) == ""


def test_experiment_runs_only_dependent_stages(finished_experiment, experiment):
    project, output = experiment, (finished_experiment.parent / "output").read_text()
    assert stages_run(output) == ["train", "infer", "evaluate"]
    changes = json.loads(run_command(["dvc", "metrics", "diff", "--json"], project))
    assert changes["metrics/evaluation.json"]["ours.psnr"]["diff"] != 0
    assert "degraded.psnr" not in changes["metrics/evaluation.json"]
    params = json.loads(run_command(["dvc", "params", "diff", "--json"], project))
    assert params == {"params.yaml": {"lambda_ss": {"old": 100, "new": 50, "diff": -50}}}
    columns, *rows = run_command(["dvc", "exp", "show", "--csv"], project).splitlines()
    metrics = columns.split(",seed,")[0].split(",")  # parameters and dependencies follow
    assert len(metrics) <= 60 and not [name for name in metrics if "iou." in name or "compute" in name]
    assert any(",50," in row for row in rows)
    changed = run_command(["dvc", "exp", "show", "--only-changed", "--csv"], project).splitlines()[0].split(",")
    assert {"lambda_ss", "ours.psnr"} < set(changed) and len(changed) <= 40
    run_command(["dvc", "plots", "show"], project)
    assert (project / "dvc_plots/index.html").stat().st_size > 1000
    shutil.rmtree(project / "dvc_plots")
    run_command(["git", "checkout", "--force", "."], project)
    run_command(["dvc", "checkout"], project)
    assert stages_run(run_command(["dvc", "exp", "run", "-S", "lambda_ss=50"], project)) == [], (
        "taken from the run cache"
    )


def test_experiment_in_a_copy_finds_the_users_files(project):
    """Git has only a placeholder of the folder of photographs, and not the generator."""
    photos, generator = project / "photos/gray", "models/external/mine.safetensors"
    shutil.copytree(project / "data/celebahq/raw", photos)
    (photos / ".gitignore").write_text("*\n!.gitignore\n")
    shutil.copy(project / "models/psfrgan/generator.safetensors", project / generator)
    run_command(["git", "add", "photos"], project)
    run_command(["git", "commit", "-q", "-m", "Add a folder"], project)
    changes = ["celebahq.source=folder", "celebahq.images=photos/gray", f"+models.mine={generator}"]
    options = [word for change in changes for word in ("-S", change)]
    output = run_command(["dvc", "exp", "run", "--temp", "-n", "copy", *options, "infer"], project)
    assert stages_run(output) == ["download@celebahq", "infer"]
    run_command(["dvc", "exp", "apply", "copy"], project)
    assert len(list((project / "data/testset/sr/mine").glob("*.png"))) == 4
    status = json.loads(run_command(["dvc", "status", "--json", "infer", "download@celebahq"], project))
    assert status == {}, "what the copy has recorded of models/external is what the project has"


@pytest.mark.parametrize(
    ("change", "stage", "message"),
    [
        (("lambda_ss: 100", "lambda_sss: 100"), "train", "lambda_sss: unknown key"),
        (("seed: 1", "seed: -1"), "degrade", "seed: "),
        (("source: packages", "source: torrent"), "fetch_weights", "weights.source"),
    ],
)
@pytest.mark.process
def test_invalid_params_print_one_line(tmp_path, change, stage, message):
    text = (ROOT / "params/tiny.yaml").read_text()
    assert change[0] in text
    (tmp_path / "params.yaml").write_text(text.replace(*change))
    output = run_command([sys.executable, "-m", f"stages.{stage}"], tmp_path, status=1)
    assert message in output
    assert len(output.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml"]
