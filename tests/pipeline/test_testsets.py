"""Named test sets: pairs and low-quality images alone, in the real pipeline."""

import json
from pathlib import Path

import pandas as pd
from PIL import Image

from psfr import portraits
from psfr.data import images
from psfr.metrics import report
from tests.helpers.running import run_command, stages_run
from tests.pipeline.test_cache import change_params

STAGES = ("download", "resize", "infer", "evaluate")


def write_photos(folder: Path, numbers: range, size: int) -> None:
    """Write portraits as true images of 64 pixels, and smaller copies as low-quality images in another format."""
    for number in numbers:
        image, _ = portraits.draw(9, number, 64)
        images.write(folder / f"hr/{number}.png", image)
        (folder / "lr").mkdir(exist_ok=True)
        Image.fromarray(image).resize((size, size)).save(folder / f"lr/{number}.jpg")


def stages_of(*names: str) -> set[str]:
    return {f"{stage}_testset@{name}" for stage in STAGES for name in names}


def read_evaluation(project: Path, name: str) -> dict:
    return json.loads((project / f"metrics/testsets/{name}/evaluation.json").read_text())


def test_one_repro_evaluates_each_set_and_a_new_set_trains_nothing(project, tmp_path):
    write_photos(tmp_path, range(3), 16)
    lq = {"source": "folder", "lr": str(tmp_path / "lr"), "hr": None, "count": 2, "skip": 0}
    pairs = lq | {"hr": str(tmp_path / "hr"), "count": None}
    article = (project / "metrics/evaluation.json").read_bytes()
    change_params(project, testsets={"pairs": pairs, "lq-only": lq})
    output = run_command(["dvc", "repro"], project)
    assert set(stages_run(output)) == stages_of("pairs", "lq-only")
    assert "Test set pairs, 3 images:\n\n| model | PSNR" in output and "Test set lq-only, 2 images:\n\n" in output
    assert (project / "metrics/evaluation.json").read_bytes() == article

    summary = read_evaluation(project, "pairs")
    assert (summary["testset"], summary["images"]) == ("pairs", 3)
    assert {name for name, value in summary["ours"].items() if value is not None} >= {"psnr", "ssim", "identity"}
    assert summary["degraded"]["psnr"] > 15, "each image is compared with its own true image"
    assert len(pd.read_csv(project / "metrics/testsets/pairs/per_image.csv")) == 2 * 3
    summary = read_evaluation(project, "lq-only")
    for metric in report.PAIRED_METRICS:
        assert summary["ours"][metric] is None and summary["reasons"][metric] == [report.NO_TRUE_IMAGES]
    sheet = Image.open(project / "metrics/testsets/lq-only/plots/results.png")
    assert sheet.width == 3 * (256 + 8) + 8  # degraded, parsing map, restored
    lr = project / "data/testsets/pairs/images/lr"
    assert {path.name for path in lr.iterdir()} == {"0.png", "1.png", "2.png"}
    assert images.read(lr / "0.png").shape == (64, 64, 3)

    change = f"+testsets.new={{source: folder, lr: {tmp_path / 'lr'}, hr: null, count: 1, skip: 2}}"
    output = run_command(["dvc", "exp", "run", "-S", change], project)
    assert set(stages_run(output)) == stages_of("new")
    assert read_evaluation(project, "new")["images"] == 1
    assert json.loads(run_command(["dvc", "status", "--json"], project)) == {}
    lines = run_command(["git", "status", "--porcelain", "--untracked-files=all"], project).splitlines()
    results = {f"?? metrics/testsets/{name}/evaluation.json" for name in ("pairs", "lq-only", "new")}
    assert set(lines) == results | {" M dvc.lock", " M params.yaml"}
