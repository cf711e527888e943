"""README and docs: links and paths that exist, the pipeline as dvc.yaml has it."""

import json
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CHANGELOG = ROOT / "CHANGELOG.md"  # also names modules that have been moved since
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", CHANGELOG, ROOT / "benchmarks/README.md"]
PAGES += [ROOT / "models/external/README.md", ROOT / "psfr/portraits/README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Words that stand for a publication, and the address that their first use on a page links.
PUBLICATIONS = {
    "the paper": "https://arxiv.org/abs/2009.08709",
    "the reimplementation": "https://github.com/sidneyrachel/psfrgan-reimplementation",
    "authors'": "https://github.com/chaofengc/PSFRGAN",
}
MAX_DISTANCE = 350  # characters between the first use and its link
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def instances() -> dict[str, dict]:
    """Each stage of dvc.yaml, with `foreach` expanded; without those of named test sets, of which there are none."""
    stages = {}
    for name, stage in PIPELINE.items():
        sets = stage.get("foreach", [None])
        for item in [] if sets == "${testsets}" else sets:
            text = yaml.safe_dump(stage.get("do", stage)).replace("${item}", str(item))
            stages[name if item is None else f"{name}@{item}"] = yaml.safe_load(text)
    return stages


def outputs(stage: dict) -> set[str]:
    outs = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    return {path for out in outs for path in ([out] if isinstance(out, str) else out)}


def edges() -> set[tuple[str, str]]:
    """Pairs of stages of which the second reads an output of the first."""
    stages = instances()
    return {
        (first, second)
        for first, before in stages.items()
        for second, after in stages.items()
        if any(dep == out or dep.startswith(f"{out}/") for dep in after["deps"] for out in outputs(before))
    }


def test_readme_draws_the_pipeline():
    graph = re.search(r"```mermaid\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    labels = dict(re.findall(r'(\w+)\["([^"]+)"\]', graph))
    drawn = set()
    for line in re.sub(r'\["[^"]+"\]', "", graph).splitlines():
        chain = [[labels.get(node.strip(), node.strip()) for node in part.split("&")] for part in line.split("-->")]
        for before, after in pairwise(chain):
            drawn |= {(first, second) for first in before for second in after}
    assert drawn == edges()


def test_readme_lists_every_stage():
    rows = re.findall(r"^\| `(\w+)(?:@SET)?` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert rows == [name for name, stage in PIPELINE.items() if stage.get("foreach") != "${testsets}"]


def test_the_table_of_what_makes_a_stage_run_again_is_that_of_dvc_yaml():
    page = (ROOT / "docs/reliability.md").read_text()
    section = page.partition("## What makes a stage run again")[2].partition("\n## ")[0]
    rows = [[re.findall("`([^`]+)`", cell) for cell in line.split("|")[1:-1]] for line in section.splitlines()]
    rows = {cells[0][0]: cells[1:] for cells in rows if cells and cells[0]}
    expected = {}
    for name, stage in PIPELINE.items():
        definition = yaml.safe_load(
            yaml.safe_dump(stage.get("do", stage)).replace("${item}", "SET").replace("${key}", "SET")
        )
        deps, params = definition["deps"], definition["params"]
        packages = {dep.split("/")[1].removesuffix(".py") for dep in deps if dep.startswith("psfr/")}
        versions = [group for param in params if isinstance(param, dict) for group in param["psfr/utils/versions.yaml"]]
        expected[f"{name}@SET" if "foreach" in stage else name] = [
            [dep for dep in deps if not dep.startswith(("psfr/", "stages/"))],
            [param for param in params if isinstance(param, str)],
            [group.removeprefix("versions.") for group in versions],
            sorted(packages),
        ]
    assert rows == expected


def test_readme_is_short():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_wrapped(page):
    long_lines = [line for line in page.read_text().splitlines() if len(line) > 120 and not line.startswith("|")]
    assert not long_lines


@pytest.mark.parametrize("word", PUBLICATIONS)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_publications_are_linked_where_they_are_first_named(page, word):
    text = re.sub(r"\s+", " ", page.read_text())
    first = re.search(rf"\b{word}", text, re.IGNORECASE)
    if first:
        nearby = text[max(0, first.start() - MAX_DISTANCE) : first.start() + MAX_DISTANCE]
        assert PUBLICATIONS[word] in nearby


def test_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    released = re.findall(r"^## (\d\S*)", CHANGELOG.read_text(), re.MULTILINE)
    assert released[0] == version


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    if page == CHANGELOG:
        return
    for path in re.findall(r"`((?:psfr|stages|tests|benchmarks|params)/[a-z\d_./-]+\.\w+)", text):
        assert (ROOT / path).is_file(), path
    for module in re.findall(r"python -m ((?:psfr|stages|benchmarks)[\w.]+)", text):
        path = ROOT.joinpath(*module.rstrip(".").split("."))
        assert path.with_suffix(".py").is_file() or path.is_dir(), module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_have_options_and_keys_that_exist(page):
    """`-S` belongs to `dvc exp run` and psfr.params, and names a key of params.yaml; `+` adds one."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    assert not [line for line in text.splitlines() if re.search(r"dvc repro[^`#&;]* -S", line)]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    keys = {f"{group}.{key}" for group, values in params.items() if isinstance(values, dict) for key in values} | set(
        params
    )
    named = set(re.findall(r"-S[ ']+([a-z_][\w.]*)=", text))
    assert {key for key in named if not key.startswith("testsets.")} <= keys


def heading_anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", re.sub(r"\]\([^)]*\)", "", text)).lower().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_anchors_exist(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        assert anchor in heading_anchors(page.parent / target if target else page), f"{target}#{anchor}"


def test_the_layout_names_every_package():
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Layout")[2].partition("\n## ")[0]
    assert {path.parent.name for path in (ROOT / "psfr").glob("*/__init__.py")} <= set(re.findall(r"`(\w+)`", section))


def test_workflows_and_container_run_what_exists():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    commands = [container["onCreateCommand"], container["postCreateCommand"]]
    for path in (ROOT / ".github/workflows").glob("*.yaml"):
        jobs = yaml.safe_load(path.read_text())["jobs"].values()
        commands += [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    text = "\n".join(commands)
    targets = {target for names in re.findall(r"\bmake ([\w./ -]+)", text) for target in names.split()}
    assert targets <= set(re.findall(r"^([\w./-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert all((ROOT / script).is_file() for script in re.findall(r"\.ci/[\w.]+", text))
    packages = re.search(r"apt-get install ([\w. -]+)`", (ROOT / "README.md").read_text())[1]
    assert set(re.findall(r"apt-get install --yes (.+)", text)) == {packages}


def test_the_index_names_every_page():
    index = (ROOT / "docs/README.md").read_text()
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} == set(
        re.findall(r"\]\((\w+\.md)\)", index)
    )
