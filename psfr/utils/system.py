"""Check the system and its libraries, with the standard library only, before anything is installed."""

import ctypes
import sys

# System libraries that OpenCV's wheels load, with the Debian package of each.
LIBRARIES = {"libGL.so.1": "libgl1", "libglib-2.0.so.0": "libglib2.0-0", "libgthread-2.0.so.0": "libglib2.0-0"}


def missing_libraries(libraries: dict[str, str] = LIBRARIES) -> dict[str, str]:
    """Return the libraries that the system lacks, with the Debian package of each."""
    missing = {}
    for library, package in libraries.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing[library] = package
    return missing


def main() -> None:
    """Exit with a one-line message if a requirement is missing."""
    if sys.platform == "win32":
        sys.exit(
            "error: the pipeline runs on Linux and macOS: on Windows, use WSL (psfr-restore and psfr-align use nothing "
            "that Windows lacks: `pip install -e . -c requirements.lock`)"
        )
    missing = missing_libraries() if sys.platform == "linux" else {}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        sys.exit(
            f"error: missing system libraries: {', '.join(missing)} (OpenCV needs them): "
            f"on Debian or Ubuntu, run `apt-get install {packages}`"
        )


if __name__ == "__main__":
    main()
