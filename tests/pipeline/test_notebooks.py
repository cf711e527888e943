"""The notebooks are committed without outputs and run from the first cell to the last with `jupyter execute`."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.running import ROOT, run_command, set_params

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def execute(folder: Path, name: str) -> list[dict]:
    """Execute a copy of a notebook in the project `folder` and return its outputs."""
    notebook = folder / "notebooks" / f"{name}.ipynb"
    copy = shutil.copy(notebook, notebook.with_name("executed.ipynb"))
    run_command(["jupyter", "execute", "--inplace", copy], folder)
    return [output for cell in json.loads(Path(copy).read_text())["cells"] for output in cell.get("outputs", [])]


def count_images(outputs: list[dict]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


def tables(outputs: list[dict]) -> str:
    return "".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_short_and_has_no_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert sum(len(cell["source"]) for cell in cells) <= 150
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_notebooks_are_complete():
    assert [path.stem for path in NOTEBOOKS] == ["degradation", "results"]


def test_degradation_notebook(project):
    assert count_images(execute(project, "degradation")) == 3


def test_degradation_notebook_without_some_steps(project):
    set_params(project, blur=0, noise=0, jpeg=0)
    assert count_images(execute(project, "degradation")) == 3


def test_results_notebook_with_one_run(project):
    outputs = execute(project, "results")
    assert count_images(outputs) == 2
    assert "degraded" in tables(outputs) and " to " in tables(outputs)


def test_results_notebook_with_an_experiment(project):
    set_params(project, lambda_ss=25)
    run_command(["dvc", "exp", "save", "-n", "weaker"], project)
    run_command(["git", "checkout", "-q", "."], project)
    outputs = execute(project, "results")
    assert count_images(outputs) == 2
    assert "weaker" in tables(outputs) and ">25<" in tables(outputs) and ">100<" in tables(outputs)
