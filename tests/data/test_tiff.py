"""Every TIFF layout that is accepted has the levels that tifffile reads; others are refused in one line."""

import io as memory

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from psfr.data import images
from psfr.photos import io
from psfr.utils.errors import UserError

# By orientation: the stored image upright.
UPRIGHT = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: a.swapaxes(0, 1)[::-1],
}  # fmt: skip
COLORS = {"minisblack": 1, "miniswhite": 1, "palette": 1, "rgb": 3, "separated": 4, "ycbcr": 3, "cielab": 3}


def save(path, samples: np.ndarray, photometric: str, planar: str = "contig", orientation: int = 1, **options) -> None:
    """Write samples (H, W, S) with tifffile."""
    stored = samples if planar == "contig" else np.moveaxis(samples, 2, 0)
    if samples.shape[2] == 1:
        stored, planar = samples[:, :, 0], None
    options = {"metadata": None, "extratags": [(274, 3, 1, orientation, True)]} | options
    tifffile.imwrite(path, stored, photometric=photometric, planarconfig=planar, **options)


def expected(path, photometric: str, extra: tuple[int, ...], orientation: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return RGB (H, W, 3) and alpha of a file from the levels that tifffile reads."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        levels = page.asarray()
        palette = None if page.colormap is None else page.colormap.T
        if page.planarconfig == 2 and levels.ndim == 3:
            levels = np.moveaxis(levels, 0, 2)
    levels = UPRIGHT[orientation](levels if levels.ndim == 3 else levels[:, :, None])
    count, highest = COLORS[photometric], np.iinfo(levels.dtype).max
    color = levels[:, :, :count]
    alpha = next((levels[:, :, count + i] for i, kind in enumerate(extra) if kind > 0), None)
    if 1 in extra:
        unassociated = color.astype(float) * highest / np.maximum(alpha, 1)[:, :, None]
        color = np.where(alpha[:, :, None] > 0, np.minimum(np.rint(unassociated), highest), 0).astype(levels.dtype)
    if photometric == "palette":
        color = (palette[color[:, :, 0]] >> 8).astype(np.uint8)
    elif photometric == "miniswhite":
        color = highest - color
    elif photometric != "minisblack" and photometric != "rgb":
        mode = {"separated": "CMYK", "ycbcr": "YCbCr", "cielab": "LAB"}[photometric]
        if levels.dtype == np.uint16:
            color = np.rint(color / 257.0).astype(np.uint8)
            alpha = None if alpha is None else np.rint(alpha / 257.0).astype(np.uint8)
        image = Image.frombytes(mode, color.shape[1::-1], np.ascontiguousarray(color).tobytes())
        if mode == "LAB":
            profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            image = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        color = np.array(image.convert("RGB"))
    return np.broadcast_to(color, (*color.shape[:2], 3)), alpha


@pytest.mark.heavy
@settings(max_examples=60)
@given(
    photometric=st.sampled_from(sorted(COLORS)),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    extra=st.sampled_from([(), (1,), (2,), (0,), (0, 2), (0, 0)]),
    orientation=st.integers(1, 8),
    planar=st.sampled_from(["contig", "separate"]),
    compression=st.sampled_from([None, "deflate", "lzma"]),
    byteorder=st.sampled_from("<>"),
    tile=st.sampled_from([None, (16, 32)]),
    predictor=st.booleans(),
    bigtiff=st.booleans(),
)
def test_every_layout_is_read_as_by_tifffile(
    tmp_path_factory, photometric, dtype, extra, orientation, planar, compression, byteorder, tile, predictor, bigtiff
):
    path = tmp_path_factory.mktemp("tiff") / "photo.tif"
    rng = np.random.default_rng(0)
    if photometric == "palette":
        dtype, extra = np.uint8, ()
    samples = rng.integers(0, np.iinfo(dtype).max + 1, (21, 35, COLORS[photometric] + len(extra))).astype(dtype)
    options = {"compression": compression, "byteorder": byteorder, "bigtiff": bigtiff, "extrasamples": extra or None}
    options |= {"tile": tile} if tile else {"rowsperstrip": 8}
    options |= {"predictor": True} if predictor and compression else {}
    options |= {"colormap": rng.integers(0, 2**16, (3, 256)).astype(np.uint16)} if photometric == "palette" else {}
    save(path, samples, photometric, planar, orientation, **options)
    is_lab16 = photometric == "cielab" and dtype == np.uint16
    if is_lab16 or (1 in extra and photometric not in ("minisblack", "rgb")):
        with pytest.raises(UserError, match=r"photo\.tif: TIFF of a kind that is not read .*: save it as"):
            io.read(path)
        return
    color, alpha = expected(path, photometric, extra, orientation)
    photograph = io.read(path)
    assert photograph.pixels.dtype == color.dtype and (photograph.pixels == color).all()
    assert (photograph.alpha is None) == (alpha is None)
    assert alpha is None or (photograph.alpha == alpha).all()
    assert photograph.gray == (photometric in ("minisblack", "miniswhite"))
    assert (images.read(path) == photograph.to_srgb8()).all()


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize(
    ("mode", "compression"),
    [(mode, kind) for mode in ("RGB", "L", "1", "P", "CMYK") for kind in ("tiff_lzw", "packbits")]
    + [("1", "group3"), ("1", "group4"), ("L", "jpeg"), ("RGB", "jpeg"), ("YCbCr", "jpeg"), ("CMYK", "jpeg")]
    + [("RGB", "zstd")],
)
def test_other_compressions(tmp_path, mode, compression, orientation):
    y, x = np.mgrid[0:24, 0:32]
    image = Image.fromarray(np.stack([x * 8, y * 10, 255 - x * 4 - y * 4], axis=2).astype(np.uint8)).convert(mode)
    options = {"quality": 95} if compression == "jpeg" else {}
    image.save(tmp_path / "photo.tif", compression=compression, tiffinfo={274: orientation}, **options)
    upright = UPRIGHT[orientation](np.array(image.convert("RGB")))
    difference = np.abs(images.read(tmp_path / "photo.tif").astype(int) - upright)
    assert difference.max() <= (24 if compression == "jpeg" else 0)
    assert (io.read(tmp_path / "photo.tif").to_srgb8() == images.read(tmp_path / "photo.tif")).all()


@pytest.mark.parametrize(
    ("dtype", "photometric", "options"),
    [
        (np.float32, "rgb", {}),
        (np.int16, "minisblack", {}),
        (np.uint32, "rgb", {}),
        (np.uint8, "separated", {"extratags": [(332, 3, 1, 2, True)]}),
        (np.uint8, "rgb", {"extratags": [(50706, 1, 4, b"\1\4\0\0", True)]}),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, dtype, photometric, options):
    path = tmp_path / "photo.tif"
    save(path, np.zeros((24, 32, COLORS[photometric]), dtype), photometric, **options)
    for read in (images.read, io.read):
        with pytest.raises(UserError, match=r"photo\.tif: TIFF of a kind that is not read .*: save it as") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_reversed_bits_are_refused_where_pillow_lacks_them(tmp_path):
    path, samples = tmp_path / "photo.tif", np.zeros((24, 32, 3), np.uint16)
    save(path, samples, "rgb", byteorder=">", extratags=[(265, 3, 1, 2, True)])  # tifffile writes no fill order, 266
    path.write_bytes(path.read_bytes().replace(b"\1\x09\0\3", b"\1\x0a\0\3"))
    with pytest.raises(UserError, match=r"photo\.tif: TIFF of a kind that is not read \(reversed bits"):
        images.read(path)


def test_truncated_pages_are_refused(tmp_path):
    save(tmp_path / "photo.tif", np.full((64, 64, 3), 9, np.uint16), "rgb", "separate", rowsperstrip=8)
    content = (tmp_path / "photo.tif").read_bytes()
    (tmp_path / "photo.tif").write_bytes(content[: len(content) - 1000])
    with pytest.raises(UserError, match=r"photo\.tif: not a readable image"):
        images.read(tmp_path / "photo.tif")


@pytest.mark.parametrize("subfile_type", [0, 1])
def test_previews_and_masks_are_passed_over(tmp_path, subfile_type):
    """A preview before the photograph is not the photograph, even if the file does not say that it is one."""
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    stream = memory.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(photo[::8, ::8], photometric="rgb", subfiletype=subfile_type, metadata=None)
        writer.write(photo, photometric="rgb", metadata=None)
        writer.write(photo[:, :, 0] > 9, photometric="minisblack", subfiletype=4, metadata=None)
    (tmp_path / "photo.tif").write_bytes(stream.getvalue())
    assert (images.read(tmp_path / "photo.tif") == photo).all()
    assert images.read_size(tmp_path / "photo.tif") == (64, 48)
    assert io.count_pages(tmp_path / "photo.tif") == (1 if subfile_type else 2)


def test_a_preview_of_raw_data_is_not_the_photograph(tmp_path):
    """The raw data of many cameras are TIFF files with a preview, and the photograph below it."""
    with tifffile.TiffWriter(tmp_path / "photo.tif") as writer:
        preview, photo = np.zeros((6, 8, 3), np.uint8), np.zeros((48, 64), np.uint16)
        writer.write(preview, photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        writer.write(photo, photometric="minisblack", metadata=None)
    with pytest.raises(UserError, match=r"photo\.tif: TIFF of a kind that is not read \(a preview only"):
        images.read(tmp_path / "photo.tif")
