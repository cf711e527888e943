"""Requirements of a fresh machine: every package is pinned, every system library is checked."""

import ast
import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from psfr.utils import system
from psfr.utils.system import LIBRARIES, missing_libraries

ROOT = Path(__file__).parents[2]
RUN, DEVELOP, DEMO = "requirements.txt", "requirements-dev.txt", "requirements-demo.txt"
LOCAL = {"psfr", "stages", "benchmarks", "tests"}
OPTIONAL = {"onnxruntime"}  # of one option, which names what to install


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


@pytest.mark.parametrize("name", [RUN, DEVELOP, DEMO])
def test_every_requirement_is_pinned_exactly(name):
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    assert [line for line in lines if line and not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_pin_is_locked(python, platform):
    """requirements.lock has one version of each package for each Python and platform, and the pinned one."""
    environment = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform}
    locked: dict[str, list[str]] = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                locked.setdefault(canonicalize_name(requirement.name), []).append(str(requirement.specifier))
    assert {name: versions for name, versions in locked.items() if len(versions) > 1} == {}
    for name in (RUN, DEVELOP, DEMO):
        for package, version in re.findall(r"^([\w.-]+)(==[\w.]+)", (ROOT / name).read_text(), re.MULTILINE):
            assert locked.get(canonicalize_name(package)) == [version], f"{package} of {name}: run `make lock`"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("psfr", [RUN, DEMO]),
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
    for package in imported_packages(folder) - OPTIONAL:
        candidates = {name.lower().replace("_", "-") for name in distributions.get(package, [])}
        if not candidates & pinned:
            unpinned.append(package)
    assert unpinned == []


def test_a_missing_library_is_reported_with_its_package():
    assert missing_libraries({"libabsent.so.9": "libabsent9"}) == {"libabsent.so.9": "libabsent9"}
    assert missing_libraries({}) == {}
    assert "libGL.so.1" in LIBRARIES


def test_the_pipeline_is_refused_on_windows_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match=r"^error: the pipeline runs on Linux and macOS: .*WSL.*$"):
        system.main()


@pytest.mark.process
@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"python3.12": "3.12", "python3.14": "3.14", "python3": "3.12"}, "python3.14"),
        ({"python3.10": "3.10", "python3": "3.13", "python3.14": "broken"}, "python3"),
        ({"python3": "3.10"}, ""),
        ({"python3": "3.15"}, ""),
    ],
)
def test_make_takes_the_newest_suitable_python(versions, expected, tmp_path):
    """Programs of these names stand in for Python; they are given the Makefile's own condition."""
    for name, version in versions.items():
        check = f"import sys; sys.version_info = tuple(map(int, {version!r}.split('.'))); exec(sys.argv[2])"
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{check}" "$@"\n')
        program.chmod(0o755)
    (tmp_path / "Makefile").write_text(f"include {ROOT}/Makefile\nwhich: ; $(info [$(PYTHON)])\n")
    command = [shutil.which("make") or "make", "--silent", "which"]
    printed = subprocess.run(
        command, cwd=tmp_path, env={"PATH": str(tmp_path)}, check=True, capture_output=True, text=True
    ).stdout
    assert printed.splitlines()[0] == f"[{expected}]"
