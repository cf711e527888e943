"""The notebooks are committed without outputs, and run from the first cell to the last, as `jupyter execute` runs them."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.running import ROOT, changed, ran

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def executed(folder: Path, name: str) -> list[dict]:
    """The outputs of a notebook of the project in `folder`, which stays as it is."""
    notebook = folder / "notebooks" / f"{name}.ipynb"
    copy = shutil.copy(notebook, notebook.with_name("executed.ipynb"))
    ran(["jupyter", "execute", "--inplace", copy], folder)
    return [output for cell in json.loads(Path(copy).read_text())["cells"] for output in cell.get("outputs", [])]


def pictures(outputs: list[dict]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def tables(outputs: list[dict]) -> str:
    return "".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_short_and_has_no_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert sum(len(cell["source"]) for cell in cells) <= 150
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_there_are_the_two_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["degradation", "results"]


def test_degradation_shows_steps_draws_and_distributions(project):
    assert pictures(executed(project, "degradation")) == 3


def test_degradation_of_a_program_that_leaves_steps_out(project):
    changed(project, blur=0, noise=0, jpeg=0)
    assert pictures(executed(project, "degradation")) == 3


def test_results_of_one_run(project):
    outputs = executed(project, "results")
    assert pictures(outputs) == 2
    assert "degraded" in tables(outputs) and " to " in tables(outputs)


def test_results_of_an_experiment_beside_the_run(project):
    changed(project, lambda_ss=25)
    ran(["dvc", "exp", "save", "-n", "weaker"], project)
    ran(["git", "checkout", "-q", "."], project)
    outputs = executed(project, "results")
    assert pictures(outputs) == 2
    assert "weaker" in tables(outputs) and ">25<" in tables(outputs) and ">100<" in tables(outputs)
