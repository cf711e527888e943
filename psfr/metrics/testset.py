"""The test set on disk: true, degraded and restored images and parsing maps, under the same file names."""

from pathlib import Path

from psfr.data import images
from psfr.utils.errors import UserError, print_debug_traceback, raise_all

TRUE, DEGRADED, MAP = "true", "degraded", "parsing map"


class TestSet:
    """Paths of the test images.

    Args:
        folder: holds hr/, lr/, parse/ and sr/MODEL/ for each model.
        models: names of the models.

    Attributes:
        names: the test images, without suffix.
        variants: what is evaluated against the true images: the degraded images and those of each model.

    Raises:
        UserError: files are missing, have no true image, or differ from it in size. The message lists all of them.
    """

    __test__ = False  # pytest would collect a class of this name

    def __init__(self, folder: Path, models: list[str]):
        folder = Path(folder)
        self.folders = {TRUE: folder / "hr", DEGRADED: folder / "lr", MAP: folder / "parse"}
        self.folders |= {model: folder / "sr" / model for model in models}
        self.variants = [DEGRADED, *models]
        self.names = [path.stem for path in images.list_images(self.folders[TRUE])]
        raise_all(self._problems(), "make the test set again with `dvc repro`")

    def path(self, variant: str, name: str) -> Path:
        """Return the path of an image; `variant` is one of `variants`, TRUE or MAP."""
        return self.folders[variant] / f"{name}.png"

    def _problems(self) -> list[str]:
        problems = []
        expected = {f"{name}.png" for name in self.names}
        for variant, folder in self.folders.items():
            if not folder.is_dir():
                problems.append(f"{folder} is missing")
                continue
            existing = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
            problems += [f"{folder / name} is missing" for name in sorted(expected - existing)]
            problems += [f"{folder / name} has no true image" for name in sorted(existing - expected)]
            for name in self.names:
                path, true = self.path(variant, name), self.path(TRUE, name)
                if variant != TRUE and true.is_file() and path.is_file():
                    problems += self._size_problems(path, true)
        return problems

    @staticmethod
    def _size_problems(path: Path, true: Path) -> list[str]:
        try:
            with images.open_image(path) as image, images.open_image(true) as true_image:
                if image.size == true_image.size:
                    return []
                return [
                    f"{path} is {image.width}x{image.height}, its true image {true_image.width}x{true_image.height}"
                ]
        except UserError as error:
            print_debug_traceback(error)
            return [str(error)]
