"""Restore photographs from Python: `Restorer.from_pretrained("published").restore(image)`."""

import threading
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image

from psfr.compute.devices import compute_dtype, select_device
from psfr.data import raster
from psfr.data.datasets import normalize, to_image, to_tensor
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.networks.inference.fuse import fuse
from psfr.params import ComputeParams
from psfr.photos import encoding, models, restoration
from psfr.photos.blending import HEAD_LABELS
from psfr.photos.io import EnlargeFn, Photograph
from psfr.photos.restoration import ImageT, Prediction, Restoration
from psfr.photos.selection import Selection
from psfr.utils.errors import UserError, safe_repr

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]
# Of Pillow's images: those of 8 bits per channel, of a palette, or bilevel.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")

COMPUTE = ComputeParams(
    device="auto", precision="auto", batch_size=1, workers=0, devices=1, checkpoint_seconds=0, scheduler=None
)


class Restorer:
    """Restore the faces of photographs with a parsing network and a generator.

    It changes no setting of the process, and threads may share it: they take turns at the networks, which use all
    cores by themselves.

    Args:
        face_parser: moved to the device and fused, as is the generator.
        generator: determines `size`, the side length of the aligned faces.
        device: "auto" selects the NVIDIA GPU if there is one; "mps" is the GPU of a Mac, in float32.
        precision: of the convolutions; "auto" selects bf16 if the device has units that multiply it.

    Raises:
        UserError: "cuda" or "mps" is requested and PyTorch finds no such GPU, or `device` or `precision` is another.
    """

    def __init__(
        self,
        face_parser: FaceParsingNetwork,
        generator: Generator,
        device: Device = "auto",
        precision: Precision = "auto",
    ):
        _check_choice("device", device, get_args(Device))
        _check_choice("precision", precision, get_args(Precision))
        compute = COMPUTE.model_copy(update={"device": device, "precision": precision})
        self.device = select_device(compute, "")
        self.size = generator.constant.shape[-1] * 2 ** (len(generator.stages) - 1)
        dtype = compute_dtype(compute, self.device)
        self.face_parser = fuse(face_parser.to(self.device), dtype)
        self.generator = fuse(generator.to(self.device), dtype)
        self._lock = threading.Lock()  # the first call of a fused network changes its kernels

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        device: Device = "auto",
        precision: Precision = "auto",
        mirror: str | None = None,
    ) -> "Restorer":
        """Load a model.

        Args:
            model: "published", the authors' networks, which are fetched into the user's cache once; the `models` folder
                of a run, or the folder that contains it; `models/psfrgan@STEP` or `@best`, a kept generator of its
                training; the published generator, a .pth file, with the published parsing network beside it; or a git
                revision of the project in the current folder, whose models are read from the DVC cache.
            device: as for `Restorer`.
            precision: as for `Restorer`.
            mirror: folder or URL to fetch the published networks from, instead of the authors' release.

        Raises:
            UserError: `model` is none of these, or its files are missing or damaged.
        """
        return cls(*models.load_networks(str(model), mirror), device, precision)

    def restore(
        self,
        image: ImageT,
        scale: int = 1,
        strength: float | None = None,
        twicing: bool = False,
        faces: Literal["all", "largest"] | Sequence[int] = "all",
        min_size: float = 0,
        background: EnlargeFn | None = None,
    ) -> Restoration[ImageT]:
        """Restore the faces of a photograph.

        Args:
            image: an array of RGB, gray or RGBA, uint8 (0 to 255) or uint16 (0 to 65535), (H, W, 3), (H, W) or
                (H, W, 4); a Pillow image of 8 bits per channel, which is turned upright by its EXIF data; or what
                `psfr.photos.io.read` returns. It is not changed.
            scale: factor by which the result is larger.
            strength: weight of the change, from 0 (no change) to 1 (full restoration), or None to choose it for each
                face by how degraded it is, see `psfr.photos.strength`.
            twicing: whether to restore each face again and add what that removes, see `restoration.apply_twicing`.
            faces: which faces to restore: all, the largest, or numbers, 1 for the largest.
            min_size: faces whose frame has a smaller side, in pixels of the image, are not restored.
            background: enlarges what is around the faces, such as a `psfr.photos.background.Background`; by default,
                bicubic interpolation does.

        Returns:
            The result, which differs from the enlarged image only in the faces, of the same type and dtype. A Pillow
            image has the mode L, LA, RGB or RGBA, and its color profile in `info`.

        Raises:
            UserError: an argument is of another kind, the image has no face of a number in `faces`, the result would be
                too large, or dlib's files are missing.
        """
        _check_numbers(scale, strength, min_size)
        return _convert(
            image,
            lambda photograph: restoration.restore(
                photograph, self, self.size, scale, strength, twicing, Selection(faces, min_size), background
            ),
        )

    def restore_aligned(
        self, image: ImageT, scale: int = 1, strength: float | None = None, twicing: bool = False
    ) -> Restoration[ImageT]:
        """Restore an image that is a face aligned as in FFHQ, as a whole: see `restoration.restore_square`.

        Args:
            image: square, otherwise as for `restore`, as are the other arguments.

        Raises:
            UserError: the image is not square, an argument is of another kind, or the result would be too large.
        """
        _check_numbers(scale, strength)
        return _convert(
            image,
            lambda photograph: restoration.restore_square(photograph, self, self.size, scale, strength, twicing),
        )

    @torch.inference_mode()
    def __call__(self, aligned: np.ndarray) -> Prediction:
        """Restore an aligned face.

        Args:
            aligned: uint8 RGB (size, size, 3).
        """
        lq = normalize(to_tensor(aligned)[None].to(self.device))
        with self._lock:
            logits = self.face_parser.predict_logits(lq)
            seg = logits.argmax(1)
            restored = self.generator(lq, seg)
            head_probability = logits[0].float().softmax(0)[HEAD_LABELS].sum(0)
            seg = seg[0].to(torch.uint8)
            return Prediction(seg.cpu().numpy(), to_image(restored[0]), head_probability.cpu().numpy())


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f"{name}: {safe_repr(value)}: pass one of {', '.join(choices)}")


def _check_numbers(scale: int, strength: float | None, min_size: float = 0) -> None:
    if not (isinstance(scale, Integral) and scale >= 1):
        raise UserError(f"scale: {safe_repr(scale)}: pass a whole number from 1")
    if not (strength is None or (isinstance(strength, Real) and 0 <= strength <= 1)):
        raise UserError(
            f"strength: {safe_repr(strength)}: pass a number from 0 to 1, or None to choose it for each face"
        )
    if not (isinstance(min_size, Real) and min_size >= 0):
        raise UserError(f"min_size: {safe_repr(min_size)}: pass a number of pixels")


def _convert(image: ImageT, restore: Callable[[Photograph], Restoration[Photograph]]) -> Restoration[ImageT]:
    """Apply a function of photographs to an image of any kind that `Restorer.restore` takes."""
    done = restore(image if isinstance(image, Photograph) else _to_photograph(image))
    if isinstance(image, Photograph):
        return Restoration(done.image, done.faces, done.num_found)
    samples = encoding.to_samples(done.image)
    if isinstance(image, np.ndarray):
        return Restoration(samples[:, :, 0] if image.ndim == 2 else samples, done.faces, done.num_found)
    restored = Image.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else samples)
    if done.image.icc_profile is not None:
        restored.info["icc_profile"] = done.image.icc_profile
    return Restoration(restored, done.faces, done.num_found)


def _to_photograph(image: np.ndarray | Image.Image) -> Photograph:
    """Convert an array or a Pillow image of the kinds that `Restorer.restore` takes."""
    if isinstance(image, Image.Image):
        if image.mode not in MODES:
            raise UserError(f"image: Pillow mode {image.mode}: convert it to L or RGB, or pass an array of uint16")
        return Photograph(**vars(raster.from_pillow(image)))
    if not isinstance(image, np.ndarray):
        raise UserError(f"image: {type(image).__name__}: pass an array or a Pillow image")
    has_channels = image.ndim == 3 and image.shape[2] in (3, 4)
    if image.dtype not in (np.uint8, np.uint16) or not (image.size and (image.ndim == 2 or has_channels)):
        raise UserError(
            f"image: {image.dtype} {image.shape}: pass uint8 or uint16 of shape (H, W), (H, W, 3) or (H, W, 4)"
        )
    levels = image[:, :, :3] if has_channels else image
    alpha = image[:, :, 3] if has_channels and image.shape[2] == 4 else None
    return Photograph(**vars(raster.make_raster(levels, alpha, None)))
