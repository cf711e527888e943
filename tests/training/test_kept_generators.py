"""Which generators a training keeps, and what it writes of them."""

import json

import pytest

from psfr.training.kept_generators import CHECKPOINTS, KeptGenerators


def validate(kept: KeptGenerators, scores: dict[int, float]) -> None:
    for step, score in scores.items():
        kept.path(step).write_bytes(bytes([step]))
        kept.add(step, {"st_lpips": score, "psnr": 20.0})


@pytest.mark.parametrize(
    ("num_kept", "steps"), [(0, []), (1, [2]), (2, [2, 6]), (3, [2, 5, 6]), (9, [1, 2, 3, 4, 5, 6])]
)
def test_the_best_and_the_latest_stay(tmp_path, num_kept, steps):
    kept = KeptGenerators(tmp_path, num_kept)
    validate(kept, {1: 0.5, 2: 0.1, 3: 0.2, 4: 0.1, 5: 0.3, 6: 0.2})
    assert kept.best_step() == 2 and kept.steps() == steps
    assert sorted(tmp_path.iterdir()) == [kept.path(step) for step in steps]


def test_folder_says_which_step_is_the_best(tmp_path):
    """The last step has its file already; a file that is gone is not listed."""
    for name in ("state", "model"):
        (tmp_path / name).mkdir()
    kept = KeptGenerators(tmp_path / "state", 4)
    validate(kept, {1: 0.5, 2: 0.1, 3: 0.2, 4: 0.3})
    kept.path(1).unlink()
    kept.write(tmp_path / "model", 4)
    record = json.loads((tmp_path / "model" / CHECKPOINTS).read_text())
    assert (record["best"], record["last"], record["best_by"]) == (2, 4, "st_lpips")
    assert record["files"] == {
        "2": "steps/0000002.safetensors",
        "3": "steps/0000003.safetensors",
        "4": "generator.safetensors",
    }
    assert record["validations"][1] == {"step": 2, "st_lpips": 0.1, "psnr": 20.0}
    assert [path.read_bytes() for path in sorted((tmp_path / "model/steps").iterdir())] == [b"\x02", b"\x03"]


def test_training_without_validation_lists_the_last_step(tmp_path):
    KeptGenerators(tmp_path, 3).write(tmp_path, 7)
    record = json.loads((tmp_path / CHECKPOINTS).read_text())
    assert (record["best"], record["files"], record["validations"]) == (None, {"7": "generator.safetensors"}, [])
