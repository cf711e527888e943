"""Pages of plots that are drawn without the internet: `python -m psfr.utils.plots_page`, once; `make repro` does it.

DVC fills a template with the plots of dvc.yaml (`dvc plots show`, `dvc plots diff`), and by itself lets the page fetch Vega, which draws
them, from the internet. Here Vega is put into the template, and DVC told to use it, in `.dvc/config.local`.
"""

import subprocess
import sys
from pathlib import Path

import vl_convert

from psfr.utils import errors
from psfr.utils.errors import InputError, shortened
from psfr.utils.files import replacing

TEMPLATE = Path(".dvc/plots/page.html")
OFFLINE = Path(".dvc/plots/offline.html")
VEGA_LITE = "5.21"  # the last of the version that DVC's templates are written in


def with_vega(template: str) -> str:
    """The template with Vega in the place of DVC's links to it; its names are kept apart from those of the page."""
    return template.replace(
        "{scripts}", f"<script>(() => {{\n{vl_convert.javascript_bundle(vl_version=VEGA_LITE)}\n}})();</script>"
    )


def main() -> None:
    if not TEMPLATE.is_file():
        raise InputError(f"{TEMPLATE}: no such file: run this in the top folder of the project")
    with replacing(OFFLINE) as temporary:
        temporary.write_text(with_vega(TEMPLATE.read_text(encoding="utf-8")), encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", str(OFFLINE.relative_to(".dvc"))],
        capture_output=True,
        text=True,
    )
    if told.returncode:
        raise InputError(
            f"dvc config: {shortened(told.stderr)}: the template is {OFFLINE}, name it with --html-template"
        )


if __name__ == "__main__":
    errors.run(main)
