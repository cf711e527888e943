"""Put pretrained weights into data/weights/."""

from psfr import params
from psfr.pretrained import fetch
from psfr.utils import errors


def main() -> None:
    given = params.read().weights
    fetch.fetch(given.source, given.mirror)


if __name__ == "__main__":
    errors.run(main)
