"""`python -m psfr.params`: presets and values are merged into the text of params.yaml."""

import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from psfr.params import SETS, read_params
from psfr.utils import presets
from psfr.utils.errors import UserError
from tests.helpers.running import ROOT, run_module, set_params

FILES = ["params.yaml", "params/ffhq.yaml", "params/finetune.yaml", "params/tiny.yaml"]

TEXT = """\
# head
a: 1 # one
b: # group
  c: 1e-3
  d: [1, 2]   # pair

# tail of the group
e: {} # empty
f:
"""


@pytest.fixture
def project(tmp_path) -> Path:
    shutil.copytree(ROOT / "params", tmp_path / "params")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def run(project: Path, *arguments: str) -> list[str]:
    """Return the lines that the command prints."""
    done = run_module(project, "psfr.params", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("keys", "value", "old", "new"),
    [
        ("a", "2", "a: 1 # one", "a: 2 # one"),
        ("b.c", "0.001", "", ""),  # equal
        ("b.d", "[3, 4]", "[1, 2]   # pair", "[3, 4]   # pair"),
        ("b.new", "x", "# pair\n", "# pair\n  new: x\n"),
        ("e.g.h", "x", "e: {} # empty\n", "e: # empty\n  g:\n    h: x\n"),
        ("f", "2", "f:\n", "f: 2\n"),
        ("f.g", "2", "f:\n", "f:\n  g: 2\n"),
        ("n.m", "2", "f:\n", "f:\nn:\n  m: 2\n"),
        ("b.c", None, "  c: 1e-3\n", ""),
    ],
)
def test_merging_changes_only_the_value(keys, value, old, new):
    assert old in TEXT
    assert presets.merge(TEXT, {tuple(keys.split(".")): value}) == TEXT.replace(old, new)


def test_values_are_read_on_one_line():
    text = "a:\n  - 1\n  # comment\n  - x\nb: >\n  long\n  text\n# end\n"
    assert presets.flatten(text) == {("a",): '[1, "x"]', ("b",): '"long text\\n"'}
    merged = presets.merge(text, {("a",): "[2]", ("b",): "c"})
    assert yaml.safe_load(merged) == {"a": [2], "b": "c"}


def test_a_layout_that_cannot_be_edited_is_refused():
    with pytest.raises(UserError, match=r"cannot set a\.c in this layout"):
        presets.merge("a: {b: 1}\n", {("a", "c"): "2"})


@pytest.mark.parametrize(("first", "second"), pairwise([*FILES, FILES[0]]))
def test_a_complete_file_gives_its_setting_after_another(project, first, second):
    text = (project / first).read_text()
    merged = presets.merge_file(text, project / second, SETS, project.glob("params/*.yaml"), lambda _: True)
    (project / "merged.yaml").write_text(merged)
    expected = read_params(project / second)
    assert read_params(project / "merged.yaml") == expected.model_copy(
        update={"compute": read_params(project / first).compute}
    )
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    assert [line for line in merged.splitlines() if line.lstrip().startswith("#")] == comments


def test_a_complete_file_leaves_the_settings_of_machine_and_user(project):
    set_params(
        project,
        workers=3,
        mirror="/mnt/weights",
        ours="models/psfrgan/generator.safetensors\n  mine: models/external/mine.safetensors",
    )
    run(project, "-S", "ffhq.source=folder", "-S", "ffhq.images=photos", "-S", "ffhq.count=null")
    run(project, "-S", "evaluate.reference=data/reference/ffhq.npz", "-S", "evaluate.deg_weights=data/reference/a.pth")
    (project / "lfw.yaml").write_text("testsets: {lfw: {source: folder, lr: lfw, hr: null, count: null, skip: 0}}\n")
    assert all(line.startswith("testsets.lfw.") for line in run(project, "lfw.yaml"))
    before = read_params(project / "params.yaml")
    lines = run(project, "params/ffhq.yaml", "-S", "epochs=5")
    after, preset = read_params(project / "params.yaml"), read_params(project / "params/ffhq.yaml")
    assert (after.compute, after.ffhq, after.weights.mirror) == (before.compute, before.ffhq, "/mnt/weights")
    assert list(after.testsets) == ["lfw"] and after.evaluate == before.evaluate
    assert list(after.models) == ["ours", "mine", "published"]
    assert (after.celebahq, after.fpn, after.epochs) == (preset.celebahq, preset.fpn, 5)
    assert "epochs: 42 -> 5" in lines and not [line for line in lines if line.startswith(("compute", "ffhq"))]
    assert run(project, "params/ffhq.yaml", "-S", "epochs=5") == []


def test_a_complete_file_adds_keys_that_are_missing(project):
    path = project / "params.yaml"
    text = path.read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("  scheduler:", "lambda_fm:"))]
    path.write_text("\n".join(lines))
    assert {"compute.scheduler: (none) -> null", "lambda_fm: (none) -> 10"} <= set(run(project, "params/tiny.yaml"))


def test_a_preset_that_names_some_keys_is_merged_whole(project):
    (project / "mine.yaml").write_text("lambda_ss: 50\ncompute: {workers: 2}\nmodels: {}\n")
    before = (project / "params.yaml").read_text()
    assert run(project, "mine.yaml") == ["lambda_ss: 100 -> 50", "compute.workers: null -> 2"]
    changed = before.replace("lambda_ss: 100 ", "lambda_ss: 50 ").replace("workers: null", "workers: 2")
    assert (project / "params.yaml").read_text() == changed


def test_a_group_is_set_on_the_command_line(project):
    """As docs/testsets.md adds a test set with DVC's -S; of a group that is there, other keys stay."""
    lines = run(project, "-S", "testsets.mine={source: folder, lr: old, hr: null, count: null, skip: 0}")
    assert "testsets.mine.lr: (none) -> old" in lines
    assert run(project, "-S", "testsets.mine={count: 3}") == ["testsets.mine.count: null -> 3"]
    assert read_params(project / "params.yaml").testsets["mine"].count == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-S", "lambda_s=3"], "params.yaml with -S lambda_s=3: lambda_s: unknown key: did you mean lambda_ss?"),
        (["-S", "image_size=100"], "image_size: 100 is not a power of two"),
        (["-S", "epochs"], "-S epochs: not an assignment: write KEY=VALUE"),
        (["-S", "epochs=[1"], "-S epochs=[1: not valid YAML"),
        (["-S", "compute=3"], "compute: must be a group of keys, not 3"),
        (["-S", "epochs.x=3"], "epochs: input should be a valid integer"),
        (["params/none.yaml"], "params/none.yaml: no such file"),
        (["list.yaml"], "list.yaml: not a file of parameters"),
        (["unknown.yaml"], "params.yaml with unknown.yaml: fpn.x: unknown key: remove it"),
    ],
)
def test_what_is_invalid_is_refused_in_one_line(project, arguments, message):
    (project / "list.yaml").write_text("- 1\n")
    (project / "unknown.yaml").write_text("fpn:\n  x: 1\n")
    before = (project / "params.yaml").read_bytes()
    done = run_module(project, "psfr.params", *arguments)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
    assert (project / "params.yaml").read_bytes() == before
