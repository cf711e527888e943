"""Photographs as people have them: grey or with colours, of 8 or 16 bits, with alpha, turned by EXIF, with a colour profile; all of it is kept."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from psfr.data import images
from psfr.utils.errors import InputError
from psfr.utils.files import replacing

# What is written, and how: a PNG quickly, a JPEG with all its colours.
_ENCODING = {
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
}
_ENCODING[".jpeg"] = _ENCODING[".jpg"]
SUFFIXES = tuple(_ENCODING)

_TURNS = {2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1)}
_TURNS |= {6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a.swapaxes(0, 1), 2), 8: lambda a: np.rot90(a, 1)}
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Photograph:
    """A picture, upright, and what its file says of it."""

    levels: np.ndarray  # uint8 or uint16 (H, W, 3), RGB
    alpha: np.ndarray | None = None  # the same (H, W)
    gray: bool = False  # the file has one channel
    profile: bytes | None = None  # ICC

    @property
    def seen(self) -> np.ndarray:
        """As it is seen on white paper, uint8 RGB (H, W, 3)."""
        levels, alpha = self.levels, self.alpha
        if levels.dtype == np.uint16:
            levels = _to_8_bits(levels)
            alpha = None if alpha is None else _to_8_bits(alpha)
        if alpha is None:
            return levels
        opaque = alpha[:, :, None] / np.float32(255)
        return np.rint(levels * opaque + 255 * (1 - opaque)).astype(np.uint8)

    def enlarged(self, times: int) -> "Photograph":
        """The photograph at so many times its size, by cubic interpolation; of a size of its own memory even at 1.

        Raises:
            InputError: that is more than `images.MAX_PIXELS`.
        """
        height, width = self.levels.shape[:2]
        if height * width * times**2 > images.MAX_PIXELS:
            raise InputError(
                f"{width * times}x{height * times} pixels are more than {images.MAX_PIXELS}: choose a smaller scale"
            )
        if times == 1:
            return replace(self, levels=self.levels.copy())
        size = (width * times, height * times)
        alpha = None if self.alpha is None else cv2.resize(self.alpha, size, interpolation=cv2.INTER_LINEAR)
        return replace(self, levels=cv2.resize(self.levels, size, interpolation=cv2.INTER_CUBIC), alpha=alpha)


def _to_8_bits(levels: np.ndarray) -> np.ndarray:
    return np.rint(levels / np.float32(257)).astype(np.uint8)


def listed(folder: Path) -> list[Path]:
    """The pictures of a folder and its sub-folders, sorted; hidden ones are passed over, and names may recur.

    Raises:
        InputError: there is none, or no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such photograph or folder: name one")
    paths = sorted(path for path in images.visible(folder) if path.suffix.lower() in images.SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: no pictures in it: put {', '.join(images.SUFFIXES)} files there")
    return paths


def read(path: Path) -> Photograph:
    """Read a photograph.

    Raises:
        InputError: as `images.read`.
    """
    with images.opened(path) as image:
        profile = image.info.get("icc_profile")
        if (deep := _deep(path, image)) is not None:
            return replace(deep, profile=profile)
        if image.mode.startswith(("F", "I")):
            return Photograph(images.read(path))
        gray = image.mode in ("1", "L", "LA", "La")
        profile = None if image.mode in ("CMYK", "LAB") else profile
        upright = ImageOps.exif_transpose(image)
        if "A" in upright.getbands() or "a" in upright.getbands() or "transparency" in upright.info:
            pixels = np.array(upright.convert("RGBA"))
            return Photograph(
                np.ascontiguousarray(pixels[:, :, :3]), np.ascontiguousarray(pixels[:, :, 3]), gray, profile
            )
        return Photograph(np.array(upright.convert("RGB")), None, gray, profile)


def _deep(path: Path, image: Image.Image) -> Photograph | None:
    """A photograph of 16 bits a channel, which Pillow would read as one of 8; None for others."""
    modes = [tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0] for tile in image.tile]
    if not any(";16" in str(mode) for mode in modes):
        return None
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        return None
    pixels = _TURNS.get(image.getexif().get(_ORIENTATION), np.asarray)(pixels)
    if pixels.ndim == 2:
        return Photograph(np.repeat(pixels[:, :, None], 3, axis=2), gray=True)
    alpha = np.ascontiguousarray(pixels[:, :, 3]) if pixels.shape[2] == 4 else None
    return Photograph(np.ascontiguousarray(pixels[:, :, 2::-1]), alpha)


def write(path: Path, photograph: Photograph) -> None:
    """Write a photograph as a PNG, or as a JPEG if the name says so: that has 8 bits, and white instead of alpha.

    Raises:
        InputError: no suffix of either.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: cannot be written: name a file of {', '.join(SUFFIXES)}")
    if suffix != ".png":
        photograph = replace(photograph, levels=photograph.seen, alpha=None)
    pixels = photograph.levels[:, :, 0] if photograph.gray else photograph.levels[:, :, ::-1]
    if photograph.alpha is not None:
        pixels = np.dstack([photograph.levels[:, :, ::-1], photograph.alpha])
    profile = (
        [] if photograph.profile is None else [(cv2.IMAGE_METADATA_ICCP, np.frombuffer(photograph.profile, np.uint8))]
    )
    _, encoded = cv2.imencodeWithMetadata(
        suffix,
        np.ascontiguousarray(pixels),
        [kind for kind, _ in profile],
        [chunk for _, chunk in profile],
        _ENCODING[suffix],
    )
    with replacing(path) as temporary:
        temporary.write_bytes(encoded)
