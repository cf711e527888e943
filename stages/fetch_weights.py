"""Put pretrained weights into data/weights/."""

from psfr import errors, params, weights


def main() -> None:
    given = params.read().weights
    weights.fetch(given.source, given.mirror)


if __name__ == "__main__":
    errors.run(main)
