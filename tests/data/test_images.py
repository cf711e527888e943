"""Reading of images in all formats, errors of damaged files, and listing of folders."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from psfr.data import images
from psfr.photos.io import read as read_photograph
from psfr.utils.errors import UserError


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth colors, 24x32, which lossy formats preserve."""
    y, x = np.mgrid[0:24, 0:32]
    return np.stack([x * 8, y * 10, 255 - x * 4 - y * 4], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("suffix", "tolerance"),
    [(".png", 0), (".bmp", 0), (".tif", 0), (".TIFF", 0), (".webp", 24), (".jpg", 12), (".JPEG", 12)],
)
def test_common_formats_are_read(tmp_path, picture, suffix, tolerance):
    path = tmp_path / f"face{suffix}"
    Image.fromarray(picture).save(path, quality=95)
    assert images.list_images(tmp_path) == [path]
    assert np.abs(images.read(path).astype(int) - picture).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, picture, orientation):
    """The file holds the rotated picture, and EXIF its orientation."""
    undo = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1)}
    undo |= {6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a.swapaxes(0, 1), 2), 8: lambda a: np.rot90(a, -1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(undo[orientation](picture))
    for name in ("face.jpg", "face.png"):
        Image.fromarray(stored).save(tmp_path / name, exif=exif, quality=95)
        got = images.read(tmp_path / name)
        assert got.shape == picture.shape
        assert np.abs(got.astype(int) - picture).max() <= (12 if name.endswith("jpg") else 0)


def test_grayscale_and_one_bit(tmp_path, picture):
    Image.fromarray(picture[:, :, 0]).save(tmp_path / "gray.png")
    assert (images.read(tmp_path / "gray.png") == picture[:, :, :1]).all()
    Image.fromarray(picture[:, :, 0] > 100).save(tmp_path / "bit.png")
    assert (images.read(tmp_path / "bit.png") == 255 * (picture[:, :, :1] > 100)).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_are_scaled(tmp_path, picture, channels):
    deep = picture.astype(np.uint16) * 257
    match channels:
        case 1:
            deep = deep[:, :, 0]
        case 3:
            deep = deep[:, :, ::-1]
        case 4:
            deep = np.dstack([deep[:, :, ::-1], np.full(deep.shape[:2], 65535, np.uint16)])
    for name in ("deep.png", "deep.tif") if channels != 4 else ("deep.png",):
        assert cv2.imwrite(str(tmp_path / name), deep)
        got = images.read(tmp_path / name)
        assert got.dtype == np.uint8
        assert (got == (picture if channels > 1 else picture[:, :, :1])).all(), name


@pytest.mark.parametrize(("channels", "color_type"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_16_bits_of_png_are_rounded(tmp_path, channels, color_type):
    """Pillow would cut them off. Alpha and profile are applied to the levels as they are in the file."""
    levels = np.random.default_rng(0).integers(0, 2**16, (9, 7, channels), np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    (tmp_path / "deep.png").write_bytes(_make_png(7, 9, 16, color_type, rows))
    eighths = np.rint(levels / 257)
    num_colors = channels - (channels % 2 == 0)
    opacity = np.ones((9, 7, 1)) if channels == num_colors else eighths[:, :, -1:] / 255
    expected = eighths[:, :, :num_colors] * opacity + 255 * (1 - opacity)
    assert np.abs(images.read(tmp_path / "deep.png") - expected).max() <= 0.51
    assert (images.read(tmp_path / "deep.png") == read_photograph(tmp_path / "deep.png").to_srgb8()).all()


@pytest.mark.parametrize(("bits", "level"), [(1, 1), (2, 2), (4, 11), (8, 200), (16, 40_000)])
def test_transparent_level_of_gray_png(tmp_path, bits, level):
    """It has the depth of the file."""
    pixels = [level, 0, level, 0, 0, 0, 0, 0]
    packed = int("".join(f"{pixel:0{bits}b}" for pixel in pixels), 2).to_bytes(bits, "big")
    content = _make_png(8, 1, bits, 0, b"\0" + packed, (b"tRNS", struct.pack(">H", level)))
    (tmp_path / "drawing.png").write_bytes(content)
    assert (images.read(tmp_path / "drawing.png")[0, :, 0] == [255, 0, 255, 0, 0, 0, 0, 0]).all()
    alpha = read_photograph(tmp_path / "drawing.png").alpha
    assert alpha is not None and (alpha[0] == np.where(pixels, 0, 2 ** max(bits, 8) - 1)).all()


def test_png_of_16_bits_without_its_end_is_refused(tmp_path):
    """OpenCV does not read it, and Pillow reads 8 bits."""
    content = _make_png(2, 1, 16, 2, b"\0" + bytes(12))
    (tmp_path / "deep.png").write_bytes(content[:-12])
    for read in (images.read, read_photograph):
        with pytest.raises(UserError, match=r"deep\.png: not a readable image \(damaged PNG of 16 bits\)"):
            read(tmp_path / "deep.png")


def test_alpha_is_blended_with_white(tmp_path, picture):
    alpha = np.zeros(picture.shape[:2], np.uint8)
    alpha[:, :10], alpha[:, 10:20] = 255, 128
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "alpha.png")
    got = images.read(tmp_path / "alpha.png").astype(int)
    assert (got[:, :10] == picture[:, :10]).all()
    assert np.abs(got[:, 10:20] - (picture[:, 10:20] * 128.0 + 255 * 127) / 255).max() <= 1
    assert (got[:, 20:] == 255).all()
    Image.fromarray(np.dstack([picture[:, :, 0], alpha])).save(tmp_path / "la.png")
    assert (images.read(tmp_path / "la.png")[:, 20:] == 255).all()


def test_palette_with_a_transparent_color(tmp_path):
    indices = np.zeros((8, 8), np.uint8)
    indices[:4] = 1
    image = Image.fromarray(indices)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "palette.png", transparency=0)
    got = images.read(tmp_path / "palette.png")
    assert (got[:4] == [200, 100, 50]).all()
    assert (got[4:] == 255).all()


def test_cmyk_jpeg(tmp_path):
    Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    got = images.read(tmp_path / "cmyk.jpg")
    assert np.abs(got.astype(int) - [200, 40, 90]).max() <= 6


def test_floating_point_is_refused(tmp_path):
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match=r"float\.tif.*8-bit"):
        images.read(tmp_path / "float.tif")


def _bomb() -> bytes:
    """Return a PNG with a header of 100,000 x 100,000 pixels."""
    return _make_png(100_000, 100_000, 8, 2, b"\0" * 100)


def _make_png(width: int, height: int, bits: int, color_type: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG with uncompressed `rows`, each after its filter type, and further chunks."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


def _png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["empty", "text", "bomb", "truncated", "missing"])
def test_errors_of_damaged_files_are_one_line_with_the_path(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    contents = {"empty": b"", "text": b"this is no image\n" * 20, "bomb": _bomb(), "truncated": _png(noise)[:5000]}
    path = tmp_path / "face.png"
    if kind in contents:
        path.write_bytes(contents[kind])
    with pytest.raises(UserError) as caught:
        images.read(path)
    assert str(caught.value).count(str(path)) == 1
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=400), st.integers(0, 400))
def test_no_bytes_crash_the_reader(tmp_path_factory, junk, cut):
    """Random bytes after the valid start of a PNG: read an image or raise UserError."""
    path = tmp_path_factory.mktemp("junk") / "face.png"
    path.write_bytes(_png(np.zeros((9, 7, 3), np.uint8))[:cut] + junk)
    try:
        assert images.read(path).shape[2] == 3
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("kind", "name"), [("ICO", "an icon"), ("PPM", "a Netpbm image"), ("EPS", "PostScript"), ("JPEG2000", "JPEG 2000")]
)
def test_other_formats_are_refused_under_any_name(tmp_path, picture, kind, name):
    """PostScript above all: Pillow would run Ghostscript on it. What is recognized is not called damaged."""
    Image.fromarray(picture).save(tmp_path / "face.png", kind)
    with pytest.raises(UserError, match=rf"face\.png: .*{name}.*, which is not read: convert it to PNG or JPEG"):
        images.read(tmp_path / "face.png")


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"8BPS\0\1", "a Photoshop document"),
        (b"\0\0\0\x18ftypcrx ", "raw data of a camera"),
        (b"\0\0\0\x18ftypavif", "an AVIF image that is damaged or of a kind that the decoder lacks"),
        (b"II*\0\x10\0\0\0CR\2\0", "camera"),
    ],
)
def test_what_is_recognized_by_content_gets_its_own_message(tmp_path, start, name):
    content = start + bytes(18) if start[:2] == b"II" else start + bytes(100)
    (tmp_path / "face.jpg").write_bytes(content)
    with pytest.raises(UserError, match=rf"face\.jpg: .*{name}.*: (convert|save) it") as caught:
        images.read(tmp_path / "face.jpg")
    assert "replace or remove" not in str(caught.value)


def test_heic_avif_gif_and_rare_suffixes(tmp_path, picture):
    """Of animations, the first frame; HEIC is recognized by content, as in files that are called JPEG."""
    pillow_heif.register_heif_opener()
    frames = {"save_all": True, "append_images": [Image.new("RGB", (32, 24), "red")]}
    files = dict.fromkeys(("a.avif", "b.gif", "c.apng", "d.mpo"), frames)
    files |= {name: {} for name in ("e.jfif", "f.jpe", "g.heic")}
    files |= {name: {"format": "HEIF"} for name in ("h.hif", "i.jpg")}
    for name, options in files.items():
        Image.fromarray(picture).save(tmp_path / name, quality=95, **options)
    assert [path.name for path in images.select_images(images.walk_files(tmp_path), tmp_path)] == list(files)
    for path in tmp_path.iterdir():
        assert np.abs(images.read(path).astype(int) - picture).mean() < 12, path


@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "MPO"), ("a.png", "PNG"), ("a.webp", "WEBP"), ("a.tif", "TIFF")])
def test_the_first_of_several_pictures_is_read(tmp_path, picture, name, kind):
    """Phones write JPEGs with several pictures; PNG and WebP may be animated."""
    Image.fromarray(picture).save(
        tmp_path / name, kind, save_all=True, append_images=[Image.new("RGB", (32, 24), "red")]
    )
    assert np.abs(images.read(tmp_path / name).astype(int) - picture).mean() < 10


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "I;16", "CMYK"])
def test_large_images_are_converted_in_chunks(tmp_path, picture, mode, monkeypatch):
    name = "a.tif" if mode == "CMYK" else "a.png"
    image = (
        Image.fromarray(picture[:, :, 0].astype(np.uint16) * 257)
        if mode == "I;16"
        else Image.fromarray(picture).convert(mode)
    )
    image.save(tmp_path / name, **({"transparency": 3} if mode == "P" else {}))
    whole = images.read(tmp_path / name)
    monkeypatch.setattr(images, "CHUNK_PIXELS", 5 * picture.shape[1])
    assert (images.read(tmp_path / name) == whole).all()


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_special_files_are_refused(tmp_path, kind):
    """Reading a pipe would block."""
    path = tmp_path / "face.png"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"face\.png: not a regular file"):
        images.read(path)


@pytest.mark.parametrize(
    "name",
    [
        b"two\nlines.png",
        b"latin-\xe9.png",
        b"esc\x1b[31m.png",
        b"sub\x7f/a.png",
        "next\u2028line.png".encode(),
        b"x" * 241 + b".png",
    ],
)
def test_invalid_names_are_refused(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").close()
    with pytest.raises(UserError, match="rename it") as caught:
        images.list_images(tmp_path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name",
    ["x" * 240, "Screenshot 1.02\u202fPM", "\u9854", "e\u0301", "\U0001f469\u200d\U0001f9b0", "-rf", "a,b", "50%"],
)
def test_unusual_names_are_accepted(tmp_path, picture, name):
    (tmp_path / "in").mkdir()
    Image.fromarray(picture).save(tmp_path / "in" / f"{name}.png")
    (path,) = images.list_images(tmp_path / "in")
    images.write(tmp_path / "out" / f"{path.stem}.png", images.read(path))
    assert (images.read(tmp_path / "out" / f"{name}.png") == picture).all()


def test_links_in_a_folder(tmp_path, picture):
    """Links to files are followed, links to folders are not, so that cycles end."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    Image.fromarray(picture).save(tmp_path / "face.png")
    (tmp_path / "in" / "face.png").symlink_to(tmp_path / "face.png")
    (tmp_path / "in" / "sub" / "cycle").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "itself.png").symlink_to(tmp_path / "in" / "itself.png")
    assert images.list_images(tmp_path / "in") == [tmp_path / "in" / "face.png", tmp_path / "in" / "itself.png"]
    with pytest.raises(UserError, match=r"itself\.png"):
        images.read(tmp_path / "in" / "itself.png")


def test_listing_skips_hidden_and_other_files(tmp_path, picture):
    names = ["b.png", "sub/a.png", ".hidden.png", ".git/c.png", "notes.txt"]
    names += ["@eaDir/b.png/SYNOPHOTO_THUMB_M.jpg", "sub/@eaDir/x.png", "__MACOSX/sub/._a.png", "sub/._a.png"]
    names += [".thumbnails/x.png", "#recycle/x.png", "$RECYCLE.BIN/x.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert images.list_images(tmp_path) == [tmp_path / "b.png", tmp_path / "sub" / "a.png"]
    assert images.list_images(tmp_path / "@eaDir" / "b.png"), "a system folder can be named itself"


def test_listing_names_all_duplicates(tmp_path):
    for name in ("a.png", "a.jpg", "b.png", "b.jpg", "c.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError) as caught:
        images.list_images(tmp_path)
    assert all(name in str(caught.value) for name in ("a.png", "a.jpg", "b.png", "b.jpg"))
    assert "c.png" not in str(caught.value)


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(UserError, match="no images in it"):
        images.list_images(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        images.list_images(tmp_path / "none")
    (tmp_path / "photos.zip").touch()
    with pytest.raises(UserError, match="photos.zip: not a folder: name a folder, and unpack archives"):
        images.list_images(tmp_path / "photos.zip")


def test_write_and_read_are_inverse(tmp_path, picture):
    images.write(tmp_path / "a" / "face.png", picture)
    assert (images.read(tmp_path / "a" / "face.png") == picture).all()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["face.png"]


def test_gray(picture):
    got = images.gray(picture)
    assert got.shape == picture.shape
    assert (got == got[:, :, :1]).all()
    assert np.abs(got[:, :, 0] - picture @ [0.299, 0.587, 0.114]).max() <= 0.51
    assert (images.gray(got) == got).all()
