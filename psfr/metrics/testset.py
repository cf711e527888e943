"""A test set on disk: degraded, restored and true images and parsing maps, under the same file names."""

from pathlib import Path

from psfr.data import images
from psfr.utils.errors import UserError, print_debug_traceback, raise_all

TRUE, DEGRADED, MAP = "true", "degraded", "parsing map"


class TestSet:
    """Paths of the test images.

    Args:
        folder: holds parse/ and sr/MODEL/ for each model.
        models: names of the models.
        inputs: holds lr/ and, if there are true images, hr/; by default `folder`.
        has_true: whether there are true images.

    Attributes:
        names: the test images, without suffix.
        variants: what is evaluated: the degraded images and those of each model.

    Raises:
        UserError: files are missing, belong to no test image, or differ in size from the true images (from the degraded
            ones if there are none). The message lists all of them.
    """

    __test__ = False  # pytest would collect a class of this name

    def __init__(self, folder: Path, models: list[str], inputs: Path | None = None, has_true: bool = True):
        folder = Path(folder)
        inputs = inputs or folder
        self.folders = {TRUE: inputs / "hr"} if has_true else {}
        self.folders |= {DEGRADED: inputs / "lr", MAP: folder / "parse"}
        self.folders |= {model: folder / "sr" / model for model in models}
        self.has_true = has_true
        self.variants = [DEGRADED, *models]
        self._reference = TRUE if has_true else DEGRADED  # what defines the test images and their sizes
        self.names = [path.stem for path in images.list_images(self.folders[self._reference])]
        raise_all(self._problems(), "make the test set again with `dvc repro`")

    def path(self, variant: str, name: str) -> Path:
        """Return the path of an image; `variant` is one of `variants`, MAP or, if there is one, TRUE."""
        return self.folders[variant] / f"{name}.png"

    def _problems(self) -> list[str]:
        problems = []
        noun = f"{self._reference} image"
        expected = {f"{name}.png" for name in self.names}
        for variant, folder in self.folders.items():
            if not folder.is_dir():
                problems.append(f"{folder} is missing")
                continue
            existing = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
            problems += [f"{folder / name} is missing" for name in sorted(expected - existing)]
            problems += [f"{folder / name} has no {noun}" for name in sorted(existing - expected)]
            for name in self.names:
                path, reference = self.path(variant, name), self.path(self._reference, name)
                if variant != self._reference and reference.is_file() and path.is_file():
                    problems += self._size_problems(path, reference, noun)
        return problems

    @staticmethod
    def _size_problems(path: Path, reference_path: Path, noun: str) -> list[str]:
        try:
            with images.open_image(path) as image, images.open_image(reference_path) as reference:
                if image.size == reference.size:
                    return []
                sizes = f"is {image.width}x{image.height}, its {noun} {reference.width}x{reference.height}"
                return [f"{path} {sizes}"]
        except UserError as error:
            print_debug_traceback(error)
            return [str(error)]
