"""Compare the installed packages with the pinned versions that dvc.lock records for a stage."""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def warn_about_versions(*groups: str) -> None:
    """Print one line to stderr if installed packages are not those that the project pins.

    Local parts of a version, such as `+cpu`, are ignored. Nothing is checked outside of the project's root.

    Args:
        groups: tables of `tool.psfr.versions` in pyproject.toml.
    """
    path = Path("pyproject.toml")
    if not groups or not path.is_file():
        return
    tables = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("psfr", {}).get("versions", {})
    differences = []
    for group in groups:
        for package, pinned in tables.get(group, {}).items():
            installed = _installed_version(package)
            if installed != pinned:
                differences.append(f"{package} is {installed or 'not installed'}, pinned is {pinned}")
    if differences:
        print(
            f"warning: {', '.join(differences)}: results may differ from those of the pinned versions, which dvc.lock "
            "records: run `pip install -r requirements.txt -c requirements.lock`",
            file=sys.stderr,
        )


def _installed_version(package: str) -> str | None:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return None
