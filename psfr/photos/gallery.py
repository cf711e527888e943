"""The page of `psfr-restore --page`: photographs before and after, their faces, and what was passed over.

The page and its images need no other files and no network. Its images are JPEG files of bounded size, which every
browser can show, made from a photograph, its result and what the album's record holds of its faces.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from psfr.photos import alignment, io
from psfr.photos.alignment import Frame
from psfr.utils.errors import UserError, printable
from psfr.utils.files import atomic_write

if TYPE_CHECKING:
    from psfr.photos.restoration import RestoredFace

PAGE, FOLDER = "index.html", "page"
TEMPLATE = Path(__file__).with_name("gallery.html")
MARK = '<meta name="generator" content="psfr-restore">'  # by which a page is known to be one of ours
PREVIEW_NAME = re.compile(r"[0-9a-f]{16}-\w+\.jpg")

MAX_SIDE = 1600  # of the images of a photograph, in pixels
MIN_FACE, MAX_FACE = 192, 512  # of the images of a face
THUMBNAIL = 320  # longer side of the image of a photograph without a face
QUALITY = 87


@dataclass(frozen=True)
class _Item:
    """A photograph, or a page of one, on the page. Addresses are relative to the page.

    Args:
        name: what is shown.
        link: address of the result; empty if there is none.
        prefix: address of the images, `PREFIX-before.jpg`, ...
        size: width and height of the image before, in pixels.
        is_compared: whether there are images before and after.
        faces: what `describe_faces` returned.
    """

    name: str
    link: str
    prefix: str
    size: tuple[int, int]
    is_compared: bool
    faces: list[dict[str, Any]]


def describe_faces(faces: "Sequence[RestoredFace]") -> list[dict[str, Any]]:
    """Return what the page shows of the faces of a photograph, serializable as JSON."""
    return [
        {
            "number": face.number,
            "frame": [face.frame.corner.real, face.frame.corner.imag, face.frame.side.real, face.frame.side.imag],
            "strength": round(face.strength, 4),
            "severities": [round(severity, 4) for severity in face.severities],
            "distance": round(face.identity_distance, 4),
        }
        for face in faces
    ]


class Gallery:
    """A page in `folder/index.html`, with its images in `folder/page`.

    Args:
        folder: that holds the results.
        photos: the album, or the photograph: the page names files relative to it.
        max_distance: identity distance beyond which a face may look like another person.
        compare_all: whether the result of a photograph without a restored face is another picture, too.

    Raises:
        UserError: the folder has an `index.html` of something else.
    """

    def __init__(self, folder: Path, photos: Path, max_distance: float, compare_all: bool):
        self._folder, self._photos, self._max_distance, self._compare_all = folder, photos, max_distance, compare_all
        self._path = folder / PAGE
        if self._path.exists() and MARK not in self._path.read_text(encoding="utf-8", errors="replace")[:1000]:
            raise UserError(f"{self._path}: not a page of psfr-restore, which would replace it: choose another -o")
        self._items: list[_Item] = []
        self._previews: set[str] = set()

    def add(self, photo: Path, results: list[Path], faces: list[list[dict[str, Any]]]) -> None:
        """Add a photograph whose results are written, and make its images unless an earlier run has.

        Args:
            photo: the file.
            results: where the result of each of its pages is; those without a face need not exist.
            faces: of each page, as `describe_faces` returned them.

        Raises:
            UserError: the photograph or a result cannot be read.
        """
        for page, (result, described) in enumerate(zip(results, faces, strict=True)):
            stamps = [
                (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None for path in (photo, result)
            ]
            relative = os.path.relpath(result, self._folder)
            digest = hashlib.sha256(os.fsencode(repr((relative, page, stamps, described)))).hexdigest()[:16]
            is_compared = bool(described) or (self._compare_all and result.is_file())
            kinds = ["before", "after"] if is_compared else ["thumbnail"]
            kinds += [f"{number}_{kind}" for number in range(1, len(described) + 1) for kind in ("before", "after")]
            paths = {kind: self._folder / FOLDER / f"{digest}-{kind}.jpg" for kind in kinds}
            self._previews |= {path.name for path in paths.values()}
            if not all(path.is_file() for path in paths.values()):
                _write_previews(paths, io.read(photo, page), result, described)
            with Image.open(paths[kinds[0]]) as image:
                size = image.size
            name = photo.name if photo == self._photos else str(photo.relative_to(self._photos))
            shown = name if len(results) == 1 else f"{name}, page {page + 1}"
            link = _address(relative) if result.is_file() else ""
            self._items.append(_Item(printable(shown), link, f"{FOLDER}/{digest}", size, is_compared, described))

    def write(self, settings: dict[str, str], failed: Sequence[str], unread: Sequence[str]) -> Path:
        """Write the page, remove the images of earlier pages, and return its path.

        Args:
            settings: how the photographs were restored, by name.
            failed: a message for each photograph that could not be restored.
            unread: what else the album has that was passed over.
        """
        from jinja2 import Environment, StrictUndefined  # imported here: without --page, nothing needs it

        template = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text("utf-8"))
        page = template.render(
            title=printable(self._photos.resolve().name),
            restored=[item for item in self._items if item.is_compared],
            faceless=[item for item in self._items if not item.is_compared],
            failed=[printable(message) for message in failed],
            unread=[printable(message) for message in unread],
            settings=settings,
            max_distance=self._max_distance,
        )
        with atomic_write(self._path) as temporary:
            temporary.write_text(page, encoding="utf-8")
        for path in (self._folder / FOLDER).glob("*.jpg"):
            if PREVIEW_NAME.fullmatch(path.name) and path.name not in self._previews:
                path.unlink()
        return self._path


def _write_previews(
    paths: dict[str, Path], photograph: io.Photograph, result: Path, faces: list[dict[str, Any]]
) -> None:
    before = photograph.to_srgb8()
    if "thumbnail" in paths:
        _write_jpeg(paths["thumbnail"], _fit(before, THUMBNAIL))
        return
    after = io.read(result).to_srgb8()
    _write_jpeg(paths["before"], _fit(before, MAX_SIDE))
    _write_jpeg(paths["after"], _fit(after, MAX_SIDE))
    for number, face in enumerate(faces, 1):
        x, y, dx, dy = face["frame"]
        frame = Frame(complex(x, y), complex(dx, dy))
        result_frame = frame.scaled(after.shape[1] / before.shape[1])
        size = min(max(round(result_frame.size), MIN_FACE), MAX_FACE)
        _write_jpeg(paths[f"{number}_before"], Image.fromarray(alignment.crop(before, frame, size)))
        _write_jpeg(paths[f"{number}_after"], Image.fromarray(alignment.crop(after, result_frame, size)))


def _fit(image: np.ndarray, max_side: int) -> Image.Image:
    """Reduce uint8 RGB (H, W, 3) to at most `max_side` pixels on the longer side."""
    reduced = Image.fromarray(image)
    reduced.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return reduced


def _write_jpeg(path: Path, image: Image.Image) -> None:
    with atomic_write(path) as temporary:
        image.save(temporary, "JPEG", quality=QUALITY, subsampling=0, progressive=True)


def _address(path: str) -> str:
    """Return the relative URL of a file whose name may have any bytes."""
    return quote(os.fsencode(path.replace(os.sep, "/")))
