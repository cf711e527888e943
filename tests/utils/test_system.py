"""Requirements of a fresh machine: every package is pinned, every system library is checked."""

import ast
import json
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from psfr.utils.system import LIBRARIES, missing_libraries

ROOT = Path(__file__).parents[2]
RUN, DEVELOP = "requirements.txt", "requirements-dev.txt"
LOCAL = {"psfr", "stages", "benchmarks", "tests"}


def pins(name: str) -> set[str]:
    """Return the packages that a file of requirements pins."""
    found = re.findall(r"^([\w.-]+)==", (ROOT / name).read_text(), re.MULTILINE)
    return {package.lower().replace("_", "-") for package in found}


def sources(folder: str) -> list[str]:
    """Return the Python code of each module and notebook of a folder."""
    code = [path.read_text() for path in (ROOT / folder).rglob("*.py")]
    for path in (ROOT / folder).glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        code.append("".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code"))
    return code


def imported_packages(folder: str) -> set[str]:
    """Return the top-level packages that a folder imports, without the standard library and the project's own."""
    found = set()
    for code in sources(folder):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - LOCAL


@pytest.mark.parametrize("name", [RUN, DEVELOP])
def test_every_requirement_is_pinned_exactly(name):
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    assert [line for line in lines if line and not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("psfr", [RUN]),
        ("stages", [RUN]),
        ("benchmarks", [RUN, DEVELOP]),
        ("tests", [RUN, DEVELOP]),
        ("notebooks", [RUN, DEVELOP]),
    ],
)
def test_every_imported_package_is_required(folder, files):
    # The wheel of dlib-bin declares only its extension module.
    distributions = packages_distributions() | {"dlib": ["dlib-bin"]}
    pinned = set().union(*(pins(name) for name in files))
    unpinned = []
    for package in imported_packages(folder):
        candidates = {name.lower().replace("_", "-") for name in distributions.get(package, [])}
        if not candidates & pinned:
            unpinned.append(package)
    assert unpinned == []


def test_a_missing_library_is_reported_with_its_package():
    assert missing_libraries({"libabsent.so.9": "libabsent9"}) == {"libabsent.so.9": "libabsent9"}
    assert missing_libraries({}) == {}
    assert "libGL.so.1" in LIBRARIES
