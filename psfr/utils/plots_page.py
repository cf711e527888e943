"""Configure DVC to write plot pages that work offline: `python -m psfr.utils.plots_page`; `make repro` runs it.

`dvc plots show` and `dvc plots diff` insert the plots of dvc.yaml into an HTML template whose page loads Vega, which
draws them, from the internet. This command embeds Vega in the template and sets it in `.dvc/config.local`.
"""

import subprocess
import sys
from pathlib import Path

import vl_convert

from psfr.utils import errors
from psfr.utils.errors import UserError, truncate
from psfr.utils.files import atomic_write

TEMPLATE = Path(".dvc/plots/page.html")
OFFLINE = Path(".dvc/plots/offline.html")
VEGA_LITE = "5.21"  # the last release of version 5, in which DVC's templates are written


def embed_vega(template: str) -> str:
    """Return the HTML template with Vega's source in place of DVC's links, in a function scope of its own."""
    vega = vl_convert.javascript_bundle(vl_version=VEGA_LITE)  # pyright: ignore[reportCallIssue] (stub)
    return template.replace("{scripts}", f"<script>(() => {{\n{vega}\n}})();</script>")


def main() -> None:
    if not TEMPLATE.is_file():
        raise UserError(f"{TEMPLATE}: no such file: run this in the top folder of the project")
    with atomic_write(OFFLINE) as temporary:
        temporary.write_text(embed_vega(TEMPLATE.read_text(encoding="utf-8")), encoding="utf-8")
    config = subprocess.run(
        [sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", str(OFFLINE.relative_to(".dvc"))],
        capture_output=True,
        text=True,
    )
    if config.returncode:
        raise UserError(f"dvc config: {truncate(config.stderr)}: pass the template with `--html-template {OFFLINE}`")


if __name__ == "__main__":
    errors.run_main(main)
