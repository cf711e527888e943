"""Requirements of a fresh machine: every package is pinned, every system library is checked."""

import ast
import json
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from psfr.utils.system import LIBRARIES, missing_libraries

ROOT = Path(__file__).parents[2]
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))


def test_every_requirement_is_pinned_exactly():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert [line for line in lines if line and not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_every_imported_package_is_required():
    imported = set()
    programs = [
        path.read_text() for part in ("psfr", "stages", "benchmarks", "tests") for path in (ROOT / part).rglob("*.py")
    ]
    notebooks = [json.loads(path.read_text()) for path in (ROOT / "notebooks").glob("*.ipynb")]
    programs += [
        "".join(cell["source"]) for notebook in notebooks for cell in notebook["cells"] if cell["cell_type"] == "code"
    ]
    for program in programs:
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    local = {"psfr", "stages", "benchmarks", "tests", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    distributions = packages_distributions() | {
        "dlib": ["dlib-bin"]
    }  # the wheel of dlib-bin declares only its extension module
    needed = {name: distributions.get(name, []) for name in imported - set(sys.stdlib_module_names) - local}
    pinned = {name.lower().replace("_", "-") for name in PINS}
    unpinned = []
    for name, candidates in needed.items():
        if not {candidate.lower().replace("_", "-") for candidate in candidates} & pinned:
            unpinned.append(name)
    assert unpinned == []


def test_a_missing_library_is_reported_with_its_package():
    assert missing_libraries({"libabsent.so.9": "libabsent9"}) == {"libabsent.so.9": "libabsent9"}
    assert missing_libraries({}) == {}
    assert "libGL.so.1" in LIBRARIES
