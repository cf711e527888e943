"""No stage changes an object of the DVC cache, whatever links to it the outputs are."""

from pathlib import Path

import pytest
import yaml

from psfr.data import images
from psfr.utils import strict_yaml
from tests.helpers.running import damaged_objects, run_command, set_cache_type, stages_run

STAGES = {
    "fetch_weights",
    *(f"{stage}@{name}" for stage in ("download", "resize") for name in ("ffhq", "celebahq", "celebamask")),
    "degrade",
    "fpn",
    "parse",
    "train",
    "make_testset",
    "infer",
    "evaluate",
}


def change_params(project: Path, **groups: dict | int) -> None:
    path = project / "params.yaml"
    params = yaml.load(path.read_text(), strict_yaml.StrictLoader)
    for name, value in groups.items():
        params[name] = params[name] | value if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(params))


# Symlinks take as long again; tests/pipeline/test_crashes.py covers them, too.
@pytest.mark.parametrize("cache_type", ["hardlink", pytest.param("symlink", marks=pytest.mark.slow)])
def test_stages_that_run_again_change_no_object_of_the_cache(project, tmp_path, cache_type):
    """Every stage runs over links to its last result; sets from a folder and from a remote are among them."""
    photos = tmp_path / "photos"
    for path in images.list_images(project / "data/celebamask/raw/images"):
        images.write(photos / path.name, 255 - images.read(path))
    change_params(
        project,
        ffhq={"source": "rclone", "images": str(photos), "count": 6},
        celebahq={"source": "folder", "images": str(photos), "count": 4, "skip": 7},
    )
    set_cache_type(project, cache_type)
    run_command(["dvc", "checkout", "--relink"], project)
    run_command(["dvc", "repro", "download@ffhq", "download@celebahq"], project)

    for path in images.list_images(photos):
        images.write(path, 128 - images.read(path) // 2)
    change_params(
        project,
        epochs=1,
        ffhq={"count": 7},
        celebahq={"count": 5},
        celebamask={"count": 13},
        degrade={"variants": 3},
        fpn={"epochs": 1},
        testset={"count": 5},
        weights={"mirror": str(tmp_path)},
    )
    output = run_command(["dvc", "repro"], project)
    assert set(stages_run(output)) == STAGES
    for name, count in (("ffhq", 6), ("celebahq", 4), ("celebamask", 24)):
        assert f"data/{name}/raw: reusing {count} files of the last run" in output
    result = next((project / "data/celebahq/raw").iterdir())
    assert result.is_symlink() or result.stat().st_nlink > 1
    assert damaged_objects(project) == []
