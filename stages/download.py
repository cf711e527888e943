"""Fill data/SET/raw with the images of the source that the parameters select."""

import argparse
from pathlib import Path

from psfr import sources
from psfr.params import SETS, read_params
from psfr.utils.errors import run_main
from psfr.utils.resume import resumable_dir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=SETS)
    name = parser.parse_args().set
    params = read_params()
    ignored_params = (f"{name}.count", f"{name}.skip")
    with resumable_dir(Path("data", name, "raw"), f"download@{name}", ignored_params=ignored_params) as raw:
        sources.download_set(raw, name, params)


if __name__ == "__main__":
    run_main(main, "images", "portraits")
