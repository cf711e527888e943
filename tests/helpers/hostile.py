"""Valid files of every kind that the project reads, to be mutated, and folders with odd names."""

import io
import itertools
import json
import os
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import tifffile
from PIL import Image

from tests.helpers import profiles

ROOT = Path(__file__).parents[2]
SUFFIXES = {
    "image": (".png", ".jpg", ".webp", ".bmp", ".tif", ".gif", ".avif", ".heic"),
    "photograph": (".png", ".jpg", ".tif", ".heic"),
    "mask": (".png",),
    "checkpoint": (".safetensors",),
    "weights": (".pth", ".safetensors"),
    "parameters": (".yaml",),
    "table": (".csv",),
    "model": (".dat",),
    "listing": (".json",),
    "checksums": (".json",),
    "folder": ("",),
}
GENERATOR_CONFIG = {"image_size": 32, "constant_size": 16, "min_channels": 2, "max_channels": 4}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Values of YAML, JSON or CSV that replace valid ones.
VALUES = [
    "0",
    "-1",
    "1e999",
    "nan",
    ".inf",
    "9" * 400,
    "0x" + "f" * 5000,
    "null",
    "~",
    "[]",
    "{}",
    "[[[[1]]]]",
    "''",
    '"\\0"',
    '"\\ud800"',
    "!!binary x",
    "!!int ''",
    "!!python/name:os.system",
    "2001-13-45",
    "&a [*a]",
    "*b",
    "<<",
    "x" * 5000,
    "../../x",
    "/etc/passwd",
    "-1:-1",
    "true",
    "\x1b[31m",
    "\udcff",
    "\x00",
    "\r",
    "§",
]


def valid_files() -> dict[str, list[bytes]]:
    """Return the content of valid files of each kind but "folder"."""
    import torch
    from safetensors.torch import save

    from psfr.networks import serialization
    from psfr.networks.generator import Generator

    rng = np.random.default_rng(0)
    images = _valid_images(rng)
    seg = Image.fromarray(rng.integers(0, 19, (24, 32), np.uint8))
    torch.manual_seed(0)
    network = Generator(**GENERATOR_CONFIG)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    published = serialization.to_published("generator", network)
    half = {"a": torch.ones(3).half()}
    params = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]
    ffhq_entry = {
        "file_path": "images1024x1024/00000/00000.png",
        "file_md5": "0" * 32,
        "face_landmarks": [[1.5, 2]],
    }
    return {
        "image": images,
        "photograph": images,
        "mask": [encode(seg, "PNG"), encode(seg.convert("P"), "PNG"), encode(seg, "PNG", bits=8, optimize=True)],
        "checkpoint": [save(state, {"network": json.dumps({"class": "Generator", "sizes": GENERATOR_CONFIG})})],
        "weights": [_torch_file(published), _torch_file(published, False), _torch_file(half), save(published)],
        "parameters": [path.read_bytes() for path in params],
        "table": [_degradation_table()],
        "model": [b"\x01\x01dlib" * 100],
        "listing": [listing_json("a.png", "b/c.jpg", "d e#.png")],
        "checksums": [json.dumps({"0": {"image": ffhq_entry}}).encode()],
    }


def _valid_images(rng: np.random.Generator) -> list[bytes]:
    pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
    rgb = Image.fromarray(pixels)
    palette = rgb.convert("P")
    rgba = Image.fromarray(np.dstack([pixels, pixels[:, :, 0]]))
    gray16 = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200)
    images = [rgb, palette, rgba, gray16]
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    encodings = [  # format, options, how many of `images` the format can hold
        ("PNG", {}, 4),
        ("PNG", {"exif": exif, "icc_profile": b"x" * 200}, 4),
        ("JPEG", {"exif": exif}, 1),
        ("JPEG", {"progressive": True}, 1),
        ("WEBP", {}, 3),
        ("WEBP", {"lossless": True}, 3),
        ("BMP", {}, 3),
        ("TIFF", {}, 4),
        ("TIFF", {"compression": "tiff_lzw"}, 4),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, 4),
        ("TIFF", {"compression": "jpeg"}, 1),
        ("GIF", {}, 2),
        ("AVIF", {"exif": exif.tobytes()}, 3),
        ("HEIF", {"exif": exif.tobytes()}, 3),
    ]
    pillow_heif.register_heif_opener()
    files = []
    for image_format, options, count in encodings:
        files += [encode(image, image_format, **options) for image in images[:count]]
    for image_format in ("MPO", "PNG", "WEBP", "TIFF", "GIF", "AVIF", "HEIF"):
        files.append(encode(rgb, image_format, save_all=True, append_images=[rgb]))
    for profile in (profiles.rgb_profile(), profiles.gray_profile(), profiles.cmyk_profile()):
        files += [encode(image, "PNG", icc_profile=profile) for image in (rgb, rgba, rgb.convert("L"))]
        files += [encode(rgb.convert("CMYK"), name, icc_profile=profile) for name in ("JPEG", "TIFF")]
    for planar, photometric, bigtiff in itertools.product(("contig", "separate"), ("rgb", "separated"), (False, True)):
        samples = rng.integers(0, 2**16, (24, 32, 5 if photometric == "separated" else 4)).astype(np.uint16)
        stored = samples if planar == "contig" else np.moveaxis(samples, 2, 0)
        layout = {
            "photometric": photometric,
            "planarconfig": planar,
            "bigtiff": bigtiff,
            "extrasamples": ["unassalpha"],
        }
        stream = io.BytesIO()
        tifffile.imwrite(stream, stored, compression="deflate", predictor=True, tile=(16, 16), **layout)
        files.append(stream.getvalue())
    return files


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def png_chunk(chunk_type: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + chunk_type + data + struct.pack(">I", zlib.crc32(chunk_type + data))


def png(
    width: int, height: int, depth: int = 8, color_type: int = 2, extra: bytes = b"", data: bytes | None = None
) -> bytes:
    """Return a black PNG, which is a small file at any size.

    Args:
        depth: bits of a channel.
        extra: chunks before the pixels.
        data: replaces the compressed pixels.
    """
    if data is None:
        channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color_type]
        row = bytes(1 + width * channels * depth // 8)
        compressor = zlib.compressobj(9)
        data = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return PNG_SIGNATURE + png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def listing_json(*names: str) -> bytes:
    """Return a listing in the format of `rclone lsjson`."""
    entries = [{"Path": name, "Size": 3, "IsDir": False, "Hashes": {"md5": "0" * 32}} for name in names]
    return b"[\n" + b",\n".join(json.dumps(entry).encode() for entry in entries) + b"\n]\n"


def _torch_file(state: dict, zip_format: bool = True) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=zip_format)
    return stream.getvalue()


def _degradation_table() -> bytes:
    from dataclasses import asdict

    from psfr.data import degradation_table

    noisy = degradation_table.Degradation(True, "motion", 5.0, 12.5, -0.5, 64, "area", 3.5, True, 12345, 40)
    plain = degradation_table.Degradation(False, None, None, None, None, 64, "cubic", None, None, None, None)
    rows = [{"name": f"{i:05}", "variant": i % 2, **asdict([noisy, plain][i % 2])} for i in range(6)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        degradation_table.write_table(rows, path)
        return path.read_bytes()


def write_odd_folder(rng: np.random.Generator, folder: Path) -> None:
    """Write a folder of valid images and one to three entries with odd names or that are not image files."""
    folder.mkdir()
    valid = png(8, 8)
    for name in "ab":
        (folder / f"{name}.png").write_bytes(valid)
    for number in range(rng.integers(1, 4)):
        names = [
            b"%d.png" % number,
            b"NA.png",
            bytes(rng.integers(1, 256, 8, np.uint8)).replace(b"/", b"") + b".png",
            b"x" * 251 + b".png",
            b"\xe2\x80\xae%d.png" % number,  # right-to-left override
            b"-rf%d.png" % number,
            b"%d\n.png" % number,
            b"a.webp",
            b" .png",
            b"...png",
        ]
        path = os.path.join(os.fsencode(folder), names[rng.integers(10)])
        if os.path.lexists(path):
            continue
        match rng.integers(6):
            case 0:
                os.mkfifo(path)
            case 1:
                targets = ["/dev/zero", "/dev/random", "/etc/passwd", os.path.basename(path), "..", "/"]
                os.symlink(targets[rng.integers(6)], path)
            case 2:
                os.mkdir(path)
            case _:
                Path(os.fsdecode(path)).write_bytes(valid if rng.random() < 0.8 else valid[:40])
