"""Compare the installed packages with the pinned versions that dvc.lock records for a stage."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml

PINS = Path("psfr/utils/versions.yaml")


def warn_about_versions(*groups: str) -> None:
    """Print one line to stderr if installed packages are not those that the project pins.

    Local parts of a version, such as `+cpu`, are ignored. Nothing is checked outside of the project's root.

    Args:
        groups: groups of versions.yaml.
    """
    if not groups or not PINS.is_file():
        return
    pins = yaml.safe_load(PINS.read_text(encoding="utf-8"))["versions"]
    differences = []
    for group in groups:
        for package, pinned in pins.get(group, {}).items():
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
