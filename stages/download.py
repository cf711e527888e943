"""Fill data/SET/raw from the source that the parameters name."""

import argparse
from pathlib import Path

from psfr import params, sources
from psfr.utils import errors
from psfr.utils.resume import resuming_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=params.SETS)
    name = parser.parse_args().set
    given = params.read()
    with resuming_folder(
        Path("data", name, "raw"), f"download@{name}", extent=(f"{name}.count", f"{name}.skip")
    ) as raw:
        sources.fill(raw, name, given)


if __name__ == "__main__":
    errors.run(main)
