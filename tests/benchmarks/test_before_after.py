"""The picture of test faces before and after restoration."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import before_after
from psfr.data import images
from psfr.utils.errors import UserError


def test_draws_the_faces_that_gain_most(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["before_after", "--count", "2", "--output", "docs/picture.png"])
    with pytest.raises(UserError, match=r"per_image\.csv: no such file: run `dvc repro` first"):
        before_after.main()
    lines = ["name,model,st_lpips"]
    for name, distances, level in (("007", (0.5, 0.4), 10), ("008", (0.6, 0.1), 100), ("009", (0.4, 0.2), 200)):
        lines += [f"{name},{model},{distance}" for model, distance in zip(("degraded", "ours"), distances, strict=True)]
        for folder, shift in (("lr", 0), ("sr/ours", 20)):
            images.write(Path("data/testset", folder, f"{name}.png"), np.full((16, 16, 3), level + shift, np.uint8))
    Path("metrics").mkdir()
    before_after.SCORES.write_text("\n".join(lines))
    before_after.main()
    picture = images.read(Path("docs/picture.png"))
    row = picture[before_after.SIDE, :, 0]
    step = before_after.SIDE + 4
    assert [row[4 + step * column + step // 2] for column in range(4)] == [100, 120, 200, 220]
