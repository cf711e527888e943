"""Convert checkpoints to and from the authors' format.

python -m psfr.checkpoints export models/psfrgan/generator.safetensors generator.pth
"""

import argparse
from pathlib import Path

from psfr.networks.serialization import export, from_published, load, save, to_published
from psfr.utils.errors import run

__all__ = ["export", "from_published", "load", "save", "to_published"]


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m psfr.checkpoints", description="Networks on disk.")
    commands = parser.add_subparsers(required=True)
    exporting = commands.add_parser(
        "export", help="write a checkpoint of this project under the authors' key names, for their tools"
    )
    exporting.add_argument("checkpoint", type=Path, help="a .safetensors file of models/")
    exporting.add_argument("out", type=Path, help="the .pth file to write")
    options = parser.parse_args()
    export(options.checkpoint, options.out)
    print(f"{options.out}: written")


if __name__ == "__main__":
    run(_main)
