"""The test set on disk: true, degraded and restored images and the region maps, one file of each name in every folder."""

from pathlib import Path

from psfr.data import images
from psfr.utils.errors import InputError, raise_together

TRUE, DEGRADED, MAP = "true", "degraded", "region map"


class FacesUnderTest:
    """Paths of all versions of the test images: `versions` are the degraded ones and each model's.

    Raises:
        InputError: a file is missing in some folder, or has no counterpart, or another size than the true image; all are named.
    """

    def __init__(self, folder: Path, models: list[str]):
        folder = Path(folder)
        self.folders = {TRUE: folder / "hr", DEGRADED: folder / "lr", MAP: folder / "parse"} | {
            model: folder / "sr" / model for model in models
        }
        self.versions = [DEGRADED, *models]
        self.names = [path.stem for path in images.listed(self.folders[TRUE])]
        raise_together(self._problems(), "make the test set again with `dvc repro`")

    def path(self, version: str, name: str) -> Path:
        return self.folders[version] / f"{name}.png"

    def _problems(self) -> list[str]:
        problems = []
        for version, folder in self.folders.items():
            if not folder.is_dir():
                problems.append(f"{folder} is missing")
                continue
            there = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
            wanted = {f"{name}.png" for name in self.names}
            problems += [f"{folder / name} is missing" for name in sorted(wanted - there)]
            problems += [f"{folder / name} has no true image" for name in sorted(there - wanted)]
            for name in self.names:
                if version != TRUE and self.path(TRUE, name).is_file() and self.path(version, name).is_file():
                    problems += self._sizes_differ(self.path(version, name), self.path(TRUE, name))
        return problems

    @staticmethod
    def _sizes_differ(path: Path, true: Path) -> list[str]:
        try:
            with images.opened(path) as image, images.opened(true) as other:
                if image.size == other.size:
                    return []
                return [f"{path} is {image.width}x{image.height}, its true image {other.width}x{other.height}"]
        except InputError as error:
            return [str(error)]
