"""Convert checkpoints to and from the authors' format.

python -m psfr.checkpoints export models/psfrgan/generator.safetensors generator.pth
"""

import argparse
from pathlib import Path

from psfr.networks.serialization import export, from_published, load, save, to_published
from psfr.utils.errors import run_main

__all__ = ["export", "from_published", "load", "save", "to_published"]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m psfr.checkpoints", description="Convert checkpoints.")
    commands = parser.add_subparsers(required=True)
    export_parser = commands.add_parser("export", help="convert a checkpoint to the authors' format, for their tools")
    export_parser.add_argument("checkpoint", type=Path, help="a .safetensors file of models/")
    export_parser.add_argument("out", type=Path, help="the .pth file to write")
    options = parser.parse_args()
    export(options.checkpoint, options.out)
    print(f"{options.out}: written")


if __name__ == "__main__":
    run_main(main)
