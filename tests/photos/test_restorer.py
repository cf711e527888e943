"""`Restorer`, the Python interface: kinds of images, and threads that share one."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from psfr.data import images
from psfr.photos.restorer import Restorer
from psfr.utils.errors import UserError
from tests.helpers import photos
from tests.photos.test_restore import fixed_detection, run_folder  # noqa: F401 (fixtures)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ALPHA = np.full((256, 256), 200, np.uint8)


@pytest.fixture
def restorer(run_folder):
    return Restorer.from_pretrained(run_folder)


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["rgb", "gray", "rgba"])
def test_arrays_in_and_out(fixed_detection, restorer, kind, dtype):
    """The result has dtype and channels of the array, which is not changed; alpha and what is outside stay."""
    astronaut = photos.astronaut()
    array = {"rgb": astronaut, "gray": images.gray(astronaut)[:, :, 0], "rgba": np.dstack([astronaut, ALPHA])}[kind]
    array = array.astype(dtype) * (1 if dtype == np.uint8 else 257)
    given = array.copy()
    result = restorer.restore(array, strength=1.0)
    assert (array == given).all() and (result.image.dtype, result.image.shape) == (dtype, array.shape)
    assert (result.image[:, -40:] == array[:, -40:]).all() and (result.image != array).any()
    if kind == "rgba":
        assert (result.image[:, :, 3] == array[:, :, 3]).all()
    (face,) = result.faces
    opposite = photos.FRAME.to_image(1 + 1j)
    assert (face.frame.corners[[0, 2]] @ [1, 1j] == [photos.FRAME.corner, opposite]).all()
    assert face.identity_distance > 0
    assert restorer.restore(array, scale=2).image.shape[:2] == (512, 512)


@pytest.mark.heavy
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pillow_images_in_and_out(fixed_detection, restorer, mode):
    """The result is that of the array; EXIF orientation is applied, and the color profile stays."""
    image = Image.fromarray(photos.astronaut()).convert(mode)
    image.info["icc_profile"] = profile = None if "L" in mode else SRGB
    result = restorer.restore(image, strength=1.0).image
    assert isinstance(result, Image.Image) and (result.mode, result.info.get("icc_profile")) == (mode, profile)
    if mode in ("L", "RGB"):
        assert (np.asarray(result) == restorer.restore(np.asarray(image), strength=1.0).image).all()
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    assert (np.asarray(restorer.restore(turned, strength=1.0).image) == np.asarray(result)).all()


def test_what_is_no_image_is_refused(restorer):
    for array in (np.zeros((8, 8, 3)), np.zeros((8, 8, 2), np.uint8), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(UserError, match=r"image: \w+ \(.*\): pass uint8 or uint16 of shape"):
            restorer.restore(array)
    for mode in ("I;16", "LAB"):
        with pytest.raises(UserError, match=f"image: Pillow mode {mode}: convert it to L or RGB"):
            restorer.restore(Image.new(mode, (8, 8)))
    for value, kind in {None: "NoneType", "photo.png": "str"}.items():  # None is what cv2.imread returns for no file
        with pytest.raises(UserError, match=f"image: {kind}: pass an array or a Pillow image"):
            restorer.restore(value)


def test_invalid_arguments_are_refused(fixed_detection, run_folder, restorer, monkeypatch):
    values = {"scale": (0, 1.5), "strength": (2, np.nan, "auto"), "min_size": (-1, "big"), "faces": (1, None, [1.0])}
    for name, value in [(name, value) for name, group in values.items() for value in group]:
        with pytest.raises(UserError, match=f"^{name}: .*: pass "):
            restorer.restore(photos.astronaut(), **{name: value})
    with pytest.raises(UserError, match="no face 2, only 1 face is found"):
        restorer.restore(photos.astronaut(), faces=np.array([1, 2]))
    for name in ("device", "precision"):
        with pytest.raises(UserError, match=f"^{name}: 'fp16': pass one of auto, "):
            Restorer.from_pretrained(run_folder, **{name: "fp16"})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="^device: cuda, but PyTorch finds no GPU"):
        Restorer.from_pretrained(run_folder, device="cuda")


@pytest.mark.heavy
def test_threads_share_a_restorer(fixed_detection, restorer):
    """They take turns at the networks, whose first call changes their kernels. No setting of torch changes."""
    settings = torch.get_num_threads(), torch.backends.cuda.matmul.fp32_precision
    generator, active, max_active = restorer.generator, [], []

    def count_and_generate(*inputs: torch.Tensor) -> torch.Tensor:
        active.append(None)
        max_active.append(len(active))
        time.sleep(0.02)
        active.pop()
        return generator(*inputs)

    restorer.generator = count_and_generate
    pictures = [np.roll(photos.astronaut(), shift, axis=2) for shift in range(3)]
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(lambda picture: restorer.restore(picture, strength=1.0).image, pictures))
    assert max_active == [1, 1, 1]
    for picture, result in zip(pictures, results, strict=True):
        assert (result == restorer.restore(picture, strength=1.0).image).all()
    assert settings == (torch.get_num_threads(), torch.backends.cuda.matmul.fp32_precision)
