"""List the faces of photographs, without restoring them: a dry run of `psfr-restore`."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from psfr.data import contact_sheet
from psfr.photos import album, alignment, detection, io
from psfr.photos.alignment import Frame
from psfr.photos.selection import Selection
from psfr.utils.errors import printable

MIN_SIDE, MAX_SIDE = 800, 1600  # of the longer side of the photograph in a contact sheet
CROP_SIZE, GAP = 144, 8  # of the faces below the photograph
BOX_COLOR, TEXT_COLOR, OUTLINE_COLOR = (255, 214, 0), (0, 0, 0), (0, 0, 0)


def sheet_paths(photo: Path, out: Path | None) -> dict[Path, Path]:
    """Return where the contact sheet of each photograph is written: `NAME.faces.png` unless `out` is a file.

    Args:
        photo: a photograph, or the folder of an album.
        out: as for `album.result_paths`; None for the folder of a single photograph.

    Raises:
        UserError: as `album.result_paths`.
    """
    if out is None:
        return {photo: photo.with_name(f"{photo.stem}{album.SHEET_SUFFIX}.png")}
    paths = album.result_paths(photo, out)
    if not photo.is_dir() and paths[photo] == out:
        return paths
    return {
        path: result.with_name(f"{result.stem}{album.SHEET_SUFFIX}{result.suffix}") for path, result in paths.items()
    }


def list_faces(path: Path, sheet: Path, selection: Selection) -> tuple[int, list[str]]:
    """Find the faces of a photograph and write a contact sheet of them, for each page if it has several.

    Returns:
        The number of the chosen faces, and the lines to print.

    Raises:
        UserError: as `io.read`, `Selection.choose` and `io.write`.
    """
    num_faces, lines = 0, []
    for page, result in enumerate(album.page_paths(sheet, io.count_pages(path))):
        photograph = io.read(path, page)
        album.report_frames(path, photograph)
        frames = detection.find_faces(photograph.to_rgb8())
        faces = selection.choose(frames)
        num_faces += len(faces)
        if not faces:
            lines.append(f"{printable(path)}: {describe_none(len(frames))}")
            continue
        io.write(result, io.Photograph(draw_sheet(photograph.to_srgb8(), faces)))
        lines.append(f"{printable(path)}: {describe_number(len(faces), len(frames))}, drawn in {printable(result)}")
        lines += [f"  {number}: {describe_frame(frame)}" for number, frame in faces.items()]
    return num_faces, lines


def describe_number(num_faces: int, num_found: int) -> str:
    """Return "1 face", "2 faces" or "2 of 5 faces"."""
    of_all = "" if num_faces == num_found else f" of {num_found}"
    return f"{num_faces}{of_all} face{'s' if num_found > 1 else ''}"


def describe_none(num_found: int) -> str:
    """Return why a photograph has no result."""
    if not num_found:
        return "no face found"
    return f"{num_found} face{'s' if num_found > 1 else ''} found, smaller than --min-size"


def describe_frame(frame: Frame) -> str:
    """Return place and size of a face."""
    return f"at {frame.center.real:.0f}, {frame.center.imag:.0f}, frame of {frame.size:.0f} pixels"


def draw_sheet(image: np.ndarray, faces: Mapping[int, Frame]) -> np.ndarray:
    """Return a contact sheet: the photograph with a numbered box around each face, and the faces below it.

    Args:
        image: uint8 RGB (H, W, 3).
        faces: at least one, by number.

    Returns:
        uint8 RGB.
    """
    height, width = image.shape[:2]
    factor = min(max(1.0, MIN_SIDE / max(height, width)), MAX_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for number, frame in faces.items():
        _draw_box(draw, number, frame.scaled(factor), size)
    crops = {number: alignment.crop(image, frame, CROP_SIZE) for number, frame in faces.items()}
    num_columns = max(1, min(len(crops), (size[0] + GAP) // (CROP_SIZE + GAP)))
    num_rows = math.ceil(len(crops) / num_columns)
    padding = num_rows * num_columns - len(crops)
    cells = [*crops.values(), *[np.full((CROP_SIZE, CROP_SIZE, 3), 255, np.uint8)] * padding]
    captions = [*(f"{number}: {frame.size:.0f} pixels" for number, frame in faces.items()), *[""] * padding]
    rows = [slice(start, start + num_columns) for start in range(0, len(cells), num_columns)]
    below = contact_sheet.contact_sheet(
        [cells[row] for row in rows], captions=[captions[row] for row in rows], gap=GAP, margin=GAP
    )
    sheet = Image.new("RGB", (max(size[0], below.shape[1]), size[1] + below.shape[0]), contact_sheet.BACKGROUND)
    sheet.paste(picture)
    sheet.paste(Image.fromarray(below), (0, size[1]))
    return np.asarray(sheet)


def _draw_box(draw: ImageDraw.ImageDraw, number: int, frame: Frame, size: tuple[int, int]) -> None:
    """Draw the box of a face and, on its upper left corner, its number; `size` is that of the picture."""
    left, top, right, bottom = detection.MEAN_BOX
    corners = frame.to_image(np.array([left + 1j * top, right + 1j * top, right + 1j * bottom, left + 1j * bottom]))
    points = [(corner.real, corner.imag) for corner in [*corners, *corners[:2]]]
    draw.line(points, OUTLINE_COLOR, 5, "curve")
    draw.line(points, BOX_COLOR, 3, "curve")
    font = ImageFont.load_default(min(max(frame.size / 5, 15), 36))
    x0, y0, x1, y1 = draw.textbbox((0, 0), str(number), font)
    width, height = x1 - x0 + 8, y1 - y0 + 8
    # Above the box, so that the number hides no face; inside the picture.
    x = min(max(float(np.real(corners).min()), 0), size[0] - width)
    y = min(max(float(np.imag(corners).min()) - height, 0), size[1] - height)
    draw.rectangle((x, y, x + width, y + height), BOX_COLOR, OUTLINE_COLOR)
    draw.text((x + 4 - x0, y + 4 - y0), str(number), TEXT_COLOR, font)
