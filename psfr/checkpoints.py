"""Convert checkpoints to and from the authors' format, and models to ONNX.

python -m psfr.checkpoints export models/psfrgan/generator.safetensors generator.pth
python -m psfr.checkpoints export --onnx published|MODEL model.onnx
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
    export_parser = commands.add_parser("export", help="convert a checkpoint to the authors' format, or to ONNX")
    export_parser.add_argument(
        "checkpoint", help="a .safetensors file of models/; with --onnx a model, as --model of psfr.restore"
    )
    export_parser.add_argument("out", type=Path, help="the .pth or .onnx file to write")
    export_parser.add_argument(
        "--onnx", action="store_true", help="write parsing network and generator as one ONNX graph, and check it"
    )
    options = parser.parse_args()
    if options.onnx:
        _export_onnx(options.checkpoint, options.out)
    else:
        export(Path(options.checkpoint), options.out)
        print(f"{options.out}: written")


def _export_onnx(model: str, out: Path) -> None:
    from psfr.networks.inference import onnx_export  # imported here, as models: only this needs them
    from psfr.photos import models

    difference = onnx_export.export_onnx(*models.load_networks(model), out)
    print(
        f"{out}: written, opset {onnx_export.OPSET}: the restored image, in [-1, 1], differs from PyTorch's by at most "
        f"{difference:.0e}"
    )


if __name__ == "__main__":
    run_main(main)
