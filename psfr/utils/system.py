"""What the machine itself must have, checked with the standard library alone before anything is installed."""

import ctypes
import sys

# OpenCV's wheels load these from the system.
LIBRARIES = {"libGL.so.1": "libgl1", "libglib-2.0.so.0": "libglib2.0-0", "libgthread-2.0.so.0": "libglib2.0-0"}


def missing(libraries: dict[str, str] = LIBRARIES) -> dict[str, str]:
    """Those of the libraries that the system does not have, each with the Debian package that brings it."""
    absent = {}
    for library, package in libraries.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            absent[library] = package
    return absent


def main() -> None:
    """End with one line if anything is missing."""
    if sys.version_info[:2] != (3, 11):
        sys.exit(
            f"error: this is Python {sys.version.split()[0]}, 3.11 is needed: name one, as in `make PYTHON=python3.11`"
        )
    if sys.platform == "linux" and (absent := missing()):
        sys.exit(
            f"error: {', '.join(absent)} missing (OpenCV needs it): on Debian or Ubuntu, apt-get install {' '.join(sorted(set(absent.values())))}"
        )


if __name__ == "__main__":
    main()
