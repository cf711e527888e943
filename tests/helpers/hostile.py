"""Files that are made to harm: valid ones changed at random, and such as are built for it."""

import io
import json
import os
import pickle
import string
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
SUFFIXES = {
    "image": (".png", ".jpg", ".webp", ".bmp", ".tif"), "mask": (".png",), "checkpoint": (".safetensors",), "weights": (".pth", ".safetensors"),
    "parameters": (".yaml",), "table": (".csv",), "model": (".dat",), "listing": (".json",), "checksums": (".json",), "folder": ("",),
}  # fmt: skip
SIZES = {"image_size": 32, "constant_size": 16, "min_channels": 2, "max_channels": 4}
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
# As text, in place of a value of YAML, JSON or CSV.
VALUES = ["0", "-1", "1e999", "nan", ".inf", "9" * 400, "0x" + "f" * 5000, "null", "~", "[]", "{}", "[[[[1]]]]", "''", '"\\0"', '"\\ud800"', "!!binary x", "!!int ''",
          "!!python/name:os.system", "2001-13-45", "&a [*a]", "*b", "<<", "x" * 5000, "../../x", "/etc/passwd", "-1:-1", "true", "\x1b[31m", "\udcff", "\x00", "\r", "§"]  # fmt: skip


# Valid files


def samples() -> dict[str, list[bytes]]:
    """Valid files of each kind."""
    import torch
    from safetensors.torch import save

    from psfr.networks import serialization
    from psfr.networks.generator import Generator

    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (24, 32, 3), np.uint8)
    colours = Image.fromarray(picture)
    pictures = [
        colours,
        colours.convert("P"),
        Image.fromarray(np.dstack([picture, picture[:, :, 0]])),
        Image.fromarray(picture[:, :, 0].astype(np.uint16) * 200),
    ]
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    ways = [("PNG", {}, 4), ("PNG", {"exif": exif, "icc_profile": b"x" * 200}, 4), ("JPEG", {"exif": exif}, 1), ("JPEG", {"progressive": True}, 1), ("WEBP", {}, 3),
            ("WEBP", {"lossless": True}, 3), ("BMP", {}, 3), ("TIFF", {}, 4), ("TIFF", {"compression": "tiff_lzw"}, 4), ("TIFF", {"compression": "tiff_adobe_deflate"}, 4),
            ("TIFF", {"compression": "jpeg"}, 1)]  # fmt: skip
    images = [
        _saved(image, kind, **options) for kind, options, able in ways for image in pictures[:able]
    ]  # not every format holds every kind of pixel
    images += [
        _saved(colours, kind, save_all=True, append_images=pictures[:1]) for kind in ("MPO", "PNG", "WEBP", "TIFF")
    ]
    regions = Image.fromarray(rng.integers(0, 19, (24, 32), np.uint8))
    torch.manual_seed(0)
    network = Generator(**SIZES)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    published = serialization.to_published("generator", network)
    return {
        "image": images,
        "mask": [
            _saved(regions, "PNG"),
            _saved(regions.convert("P"), "PNG"),
            _saved(regions, "PNG", bits=8, optimize=True),
        ],
        "checkpoint": [save(state, {"network": json.dumps({"class": "Generator", "sizes": SIZES})})],
        "weights": [_torch(published), _torch(published, False), _torch({"a": torch.ones(3).half()}), save(published)],
        "parameters": [
            path.read_bytes() for path in [REPOSITORY / "params.yaml", *sorted((REPOSITORY / "params").glob("*.yaml"))]
        ],
        "table": [_table()],
        "model": [b"\x01\x01dlib" * 100],
        "listing": [_listing("a.png", "b/c.jpg", "d e#.png")],
        "checksums": [
            json.dumps(
                {
                    "0": {
                        "image": {
                            "file_path": "images1024x1024/00000/00000.png",
                            "file_md5": "0" * 32,
                            "face_landmarks": [[1.5, 2]],
                        }
                    }
                }
            ).encode()
        ],
    }


def _listing(*names: str) -> bytes:
    """As `rclone lsjson` writes it."""
    return (
        b"[\n"
        + b",\n".join(
            json.dumps({"Path": name, "Size": 3, "IsDir": False, "Hashes": {"md5": "0" * 32}}).encode()
            for name in names
        )
        + b"\n]\n"
    )


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _torch(state: dict, zip_format: bool = True) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=zip_format)
    return stream.getvalue()


def _table() -> bytes:
    from dataclasses import asdict

    from psfr.data import degradation_table

    noisy = degradation_table.Degradation(True, "motion", 5.0, 12.5, -0.5, 64, "area", 3.5, True, 12345, 40)
    plain = degradation_table.Degradation(False, None, None, None, None, 64, "cubic", None, None, None, None)
    with tempfile.TemporaryDirectory() as folder:
        degradation_table.write_table(
            [{"name": f"{i:05}", "variant": i % 2, **asdict([noisy, plain][i % 2])} for i in range(6)],
            Path(folder) / "t.csv",
        )
        return (Path(folder) / "t.csv").read_bytes()


# Changes at random


def changed(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """A file with one to three faults; one in two keeps the checks of its format whole, so that the fault gets farther in."""
    for turn in range(rng.choice([1, 1, 2, 3])):
        changes = [_flipped, _cut, _spliced, _number, _text] + ([] if turn else [_inside] * 3)
        content = changes[rng.integers(len(changes))](rng, content, other)
    return _with_right_sums(content) if rng.random() < 0.5 else content


def _span(rng: np.random.Generator, content: bytes) -> tuple[int, int]:
    """A place, more often near the beginning, where headers are."""
    start = int(rng.integers(0, min(len(content), 10 ** rng.integers(1, 7)) + 1))
    return start, start + int(rng.integers(0, 2 ** rng.integers(1, 10)))


def _flipped(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(rng.integers(1, 9) if data else 0):
        data[min(_span(rng, content)[0], len(data) - 1)] ^= 1 << rng.integers(8)
    return bytes(data)


def _cut(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    start, end = _span(rng, content)
    return [
        content[:start],
        content[:start] + content[end:],
        content[:end] + content[start:],
        content[:start] + bytes(end - start) + content[end:],
    ][rng.integers(4)]


def _spliced(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    (start, end), (first, last) = _span(rng, content), _span(rng, other)
    return [
        content[:start] + other[first:],
        content[:start] + other[first:last] + content[end:],
        content + other,
        other[:last] + content,
    ][rng.integers(4)]


def _number(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    start, width = _span(rng, content)[0], 2 ** int(rng.integers(0, 4))
    number = int(rng.choice(np.array(NUMBERS, object))) % 256**width
    return content[:start] + number.to_bytes(width, ["little", "big"][rng.integers(2)]) + content[start + width :]


def _text(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """A word of a text file becomes another, or a line goes, comes twice, or moves in."""
    value = VALUES[rng.integers(len(VALUES))].encode("utf-8", "surrogateescape")
    lines = content.split(b"\n")
    at = int(rng.integers(len(lines)))
    match rng.integers(4):
        case 0:
            for mark in (b": ", b",", b":"):
                if mark in lines[at]:
                    words = lines[at].split(mark)
                    words[rng.integers(len(words))] = value
                    lines[at] = mark.join(words)
                    break
        case 1:
            lines.insert(at, lines[rng.integers(len(lines))])
        case 2:
            lines[at] = b"  " + lines[at]
        case 3:
            lines[at] = value
    return b"\n".join(lines)


def _inside(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """A fault within what a container holds: a part of a zip file, the header of safetensors, a chunk of a PNG."""
    if content[:4] == b"PK\3\4":
        return _rezipped(
            content,
            lambda name, part: (
                _flipped(rng, part, other) if name.endswith(("pkl", "version")) or rng.random() < 0.02 else part
            ),
        )
    if content[:4] == b"\x89PNG":
        chunks = list(_chunks(content))
        at = int(rng.integers(len(chunks)))
        kind, data = chunks[at]
        changes = [
            (kind, _number(rng, data, b"")),
            (kind, _cut(rng, data, b"")),
            (rng.choice([b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fdAT", b"zTXt"]), data),
        ]
        chunks[rng.integers(len(chunks))] = changes[rng.integers(3)]
        return content[:8] + b"".join(chunk(*each) for each in chunks)
    if content[8:9] == b"{" and (length := int.from_bytes(content[:8], "little")) < len(content):
        header = json.dumps(
            _other_json(rng, json.loads(content[8 : 8 + length])) if rng.random() < 0.8 else VALUES
        ).encode()
        return len(header).to_bytes(8, "little") + header + content[8 + length :]
    return content


def _other_json(rng: np.random.Generator, value: object) -> object:
    """One place of a tree of JSON is changed."""
    if isinstance(value, dict) and value:
        keys = [key for key in value if key == "__metadata__"] if rng.random() < 0.5 else []
        key = (keys or list(value))[0 if keys else rng.integers(len(value))]
        if isinstance(value[key], str) and value[key][:1] == "{":
            return value | {key: json.dumps(_other_json(rng, json.loads(value[key])))}
        return value | {key: _other_json(rng, value[key])} if rng.random() < 0.9 else {**value, f"{key}_": value[key]}
    if isinstance(value, list) and value:
        at = rng.integers(len(value))
        return [_other_json(rng, each) if i == at else each for i, each in enumerate(value)]
    return [
        -1,
        0,
        2**63,
        10**30,
        1.5,
        True,
        None,
        [],
        {},
        "",
        "F64",
        "I32",
        "BOOL",
        "F8_E4M3",
        "x" * 3000,
        [2**40, 2**40],
        "\x1b[31m\n",
        [[1]] * 3,
    ][rng.integers(18)]


def _rezipped(content: bytes, change) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, change(name, part))
    return stream.getvalue()


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        yield content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        place += length + 12


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _with_right_sums(content: bytes) -> bytes:
    if content[:4] == b"\x89PNG":
        return content[:8] + b"".join(chunk(kind, data) for kind, data in _chunks(content))
    return content


# Files built to harm


def built(large: bool) -> list[tuple[str, str, bytes]]:
    """Kind, suffix and content. The large ones are decoded to the last pixel, which takes seconds each."""
    files = [
        (kind, suffix, content)
        for kind in SUFFIXES
        if kind != "folder"
        for suffix in SUFFIXES[kind]
        for content in (b"", b"\0", b"\xff" * 5000, b"<html>not found</html>")
    ]
    files += [
        ("image", suffix, _saved(Image.new("RGB", (8, 8)), kind))
        for suffix in (".png", ".jpg")
        for kind in ("GIF", "ICO", "PPM", "EPS", "PDF", "TGA", "JPEG2000", "AVIF")
    ]
    files += [(kind, ".png", content) for content in _pngs() for kind in ("image", "mask")]
    files += [("image", ".tif", content) for content in _tiffs()]
    files += [("weights", ".pth", pickled) for pickled in _pickles()] + [
        ("weights", ".pth", _zipped(pickled)) for pickled in _pickles()
    ]
    files += [("weights", ".pth", _zipped(pickle.dumps({}, 2), zipfile.ZIP_DEFLATED, bytes(2**27)))]
    files += [("checkpoint", ".safetensors", content) for content in _headers()]
    files += [("parameters", ".yaml", text.encode("utf-8", "surrogatepass")) for text in _yamls()]
    files += [
        ("parameters", ".yaml", (REPOSITORY / "params.yaml").read_text().encode(encoding))
        for encoding in ("utf-16", "utf-32", "utf-8-sig")
    ]
    files += [
        ("listing", ".json", _listing(f"{name}.png"))
        for name in (
            "../x",
            "a/../../x",
            "/x",
            "..",
            "x" * 300,
            "a\x00",
            "a\x1b",
            "\udcff",
            "a/./b",
            "-o",
            "a\rb",
            "~/x",
            "",
        )
    ]
    files += [
        (kind, ".json", text)
        for kind in ("listing", "checksums")
        for text in (b"[" * 100_000, b'{"0":' * 100_000, b"[\n" + b'{"a":' * 100_000, b"1" * 100_000)
    ]
    if large:
        files += [
            ("image", ".png", png(15_000, 15_000, depth, colour))
            for depth, colour in [(8, 2), (8, 6), (16, 0), (16, 6), (8, 0), (8, 4)]
        ] + [("mask", ".png", png(15_000, 15_000, 8, 0))]
    return files


def png(
    width: int, height: int, depth: int = 8, colour: int = 2, extra: bytes = b"", data: bytes | None = None
) -> bytes:
    """A black PNG, whatever its size: the file stays small. `data` in place of the pixels, chunks `extra` before them."""
    if data is None:
        row = bytes(1 + width * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * depth // 8)
        packer = zlib.compressobj(9)
        data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        + extra
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def _pngs() -> list[bytes]:
    zeros, text = zlib.compress(bytes(2**27), 1), zlib.compress(bytes(900_000))
    extra = [
        chunk(b"iCCP", b"x\0\0" + zeros),
        chunk(b"zTXt", b"x\0\0" + zeros),
        chunk(b"iTXt", b"x\0\1\0\0\0" + zeros),
        chunk(b"tEXt", b"a\0b") * 50_000,
    ]
    extra += [
        b"".join(chunk(b"zTXt", b"k%d\0\0" % i + text) for i in range(100)),
        struct.pack(">I", 2**31 - 1) + b"tEXt",
    ]
    sizes = [
        (100_000, 100_000),
        (2**31 - 1, 2**31 - 1),
        (2**31 - 1, 1),
        (1, 2**31 - 1),
        (0, 0),
        (0, 5),
        (2**32 - 1, 2**32 - 1),
        (16_385, 16_384),
    ]
    return (
        [png(8, 8, extra=each) for each in extra]
        + [png(*size, data=zeros[:1000]) for size in sizes]
        + [png(8, 8, data=zeros), png(8, 8, 8, 3), png(8, 8, 8, 3, chunk(b"PLTE", b""))]
    )


def _tiffs() -> Iterator[bytes]:
    def tiff(changes: dict[int, tuple | None], following: int = 0) -> bytes:
        tags = {
            256: (4, 1, 8),
            257: (4, 1, 8),
            258: (3, 1, 8),
            259: (3, 1, 1),
            262: (3, 1, 1),
            273: (4, 1, 300),
            277: (3, 1, 1),
            278: (4, 1, 8),
            279: (4, 1, 64),
        } | changes
        fields = b"".join(struct.pack("<HHII", tag, *value) for tag, value in sorted(tags.items()) if value)
        return b"II*\0" + struct.pack("<IH", 8, len(fields) // 12) + fields + struct.pack("<I", following) + bytes(1000)

    yield tiff({}, 8)  # a ring of pictures
    yield tiff({0x8769: (4, 1, 8), 0x8825: (4, 1, 8)})  # EXIF that is the picture itself
    for size in (0, 2**31 - 1, 2**32 - 1, 100_000):
        yield tiff({256: (4, 1, size), 257: (4, 1, size)})
    for tag, kind, count in [
        (270, 2, 2**32 - 1),
        (700, 12, 2**29),
        (273, 4, 2**28),
        (279, 4, 2**28),
        (258, 3, 2**31),
        (274, 2, 4),
        (320, 3, 2**30),
    ]:
        yield tiff({tag: (kind, count, 400)})
    for tag in (258, 259, 262, 277, 278, 284, 317, 322, 323, 338, 339):
        for number in (0, 5, 8, 32, 65_535):
            yield tiff({tag: (3, 1, number)})
    for packing in (2, 3, 4, 5, 6, 7, 8, 32773, 34712, 50000, 50001):  # libtiff's and Pillow's decoders, on zeros
        yield tiff({259: (3, 1, packing), 256: (4, 1, 10_000), 257: (4, 1, 10_000), 278: (4, 1, 10_000)})
    yield tiff(
        {
            273: None,
            278: None,
            279: None,
            322: (4, 1, 2**31 - 16),
            323: (4, 1, 2**31 - 16),
            324: (4, 1, 300),
            325: (4, 1, 10),
        }
    )


def _pickles() -> Iterator[bytes]:
    key, twice = b"X\x01\x00\x00\x00a", b"\x86q\x00h\x00"
    yield b"\x80\x02}K\x01K\x01" + twice * 60 + b"\x86K\x01s."  # 2 ** 60 steps to hash
    yield b"\x80\x02}K\x01" + b"\x85" * 1_000_000 + b"K\x01s."  # a hash a million levels deep
    yield b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b"."
    yield b"\x80\x02}" + key + b"c__builtin__\nbytearray\n\x8a\x06\x00\x00\x00\x00\x10\x00\x85Rs."
    for call in (
        b"cposix\nmkdir\n",
        b"cnt\nmkdir\n",
        b"cbuiltins\nexec\n",
        b"c__builtin__\neval\n",
        b"ctorch.hub\nload\n",
        b"ctorch.serialization\nload\n",
        b"ctorch._utils\n_rebuild_sparse_tensor\n",
    ):
        yield b"\x80\x02}" + key + call + b"X\x04\x00\x00\x00harm\x85Rs."
    for number in (
        b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
        b"J\xff\xff\xff\x7f",
        b"J\xff\xff\xff\xff",
        b"K\x00",
    ):  # elements of a storage
        storage = (
            b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + number + b"tQ"
        )
        yield (
            b"\x80\x02}"
            + key
            + b"ctorch._utils\n_rebuild_tensor_v2\n("
            + storage
            + b"K\x00"
            + number
            + b"\x85K\x00\x85\x89}tRs."
        )
    yield b"\x80\x02X\xff\xff\xff\xffa."
    yield b"\x80\x04\x95" + b"\xff" * 8 + b"}."
    yield b"\x80\x02." + b"\x80\x02}." * 5


def _zipped(pickled: bytes, compression: int = zipfile.ZIP_STORED, data: bytes = bytes(8)) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in {
            "data.pkl": pickled,
            "version": b"3\n",
            "byteorder": b"little",
            "data/0": data,
            "../../harm": b"x",
        }.items():
            archive.writestr(f"archive/{name}", content)
    return stream.getvalue()


def _headers() -> Iterator[bytes]:
    def packed(header: object, data: bytes = bytes(64), length: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return (len(text) if length is None else length).to_bytes(8, "little") + text + data

    def described(network: str | dict) -> bytes:
        return packed(
            {
                "__metadata__": {"network": network if isinstance(network, str) else json.dumps(network)},
                "a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]},
            }
        )

    for length in (0, 1, 2**31, 2**63, 2**64 - 1, 99_999_999):
        yield packed({}, length=length)
    for entry in ({"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 64]}, {"dtype": "F32", "shape": [-1], "data_offsets": [0, 64]}, {"dtype": "F32", "shape": [16], "data_offsets": [64, 0]},
                  {"dtype": "F32", "shape": [16], "data_offsets": [0, 2**64]}, {"dtype": "X", "shape": [], "data_offsets": [0, 0]}, {"dtype": "F32", "shape": [1] * 5000, "data_offsets": [0, 4]}):  # fmt: skip
        yield packed({"a": entry})
    yield packed(
        {str(i): {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for i in range(1000)}
    )  # all in one place
    yield packed(
        b'{"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]},"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}}'
    )
    yield packed(b"[" * 100_000)
    yield packed({str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}, b"")
    for size in ("image_size", "constant_size", "min_channels", "max_channels", "else"):
        for value in (0, -1, 10**30, 8192, 1.5, True, None, "x", "9" * 5000, [1], {"a": 1}):
            yield described({"class": "Generator", "sizes": SIZES | {size: value}})
    for network in (
        "",
        "null",
        "[" * 100_000,
        {"class": "Generator"},
        {"class": ["Generator"], "sizes": SIZES},
        {"class": "os.system", "sizes": SIZES},
        {"class": "Generator", "sizes": []},
    ):
        yield described(network)


def _yamls() -> Iterator[str]:
    text = (REPOSITORY / "params.yaml").read_text()
    letters = string.ascii_lowercase[:12]
    yield (
        "a: &a [1, 1, 1]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise(letters))
        + "seed: *l"
    )
    yield "a: &a {x: 1}\n" + "".join(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in pairwise(letters))
    yield from (
        "[" * 90_000,
        "{" * 90_000,
        "- " * 40_000,
        "a:\n" * 30_000,
        "? " * 40_000,
        "!" * 90_000,
        "%YAML 9.9\n---\n" + text,
        "\0",
        "#" * 10**7,
        "&" * 1000,
        "'" + "x" * 90_000,
    )
    for value in VALUES:
        yield text.replace("seed: 1", f"seed: {value}")
        yield text.replace("images: null", f"images: {value}", 1).replace("source: sample", "source: folder", 1)
        yield text + f"\n{value}: 1\n"


def odd_folder(rng: np.random.Generator, folder: Path) -> None:
    """Some good images, and one to three entries that are none or have an odd name."""
    folder.mkdir()
    good = png(8, 8)
    for name in "ab":
        (folder / f"{name}.png").write_bytes(good)
    for number in range(rng.integers(1, 4)):
        odd = os.path.join(os.fsencode(folder), [b"%d.png" % number, b"NA.png", bytes(rng.integers(1, 256, 8, np.uint8)).replace(b"/", b"") + b".png", b"x" * 251 + b".png",
                           b"\xe2\x80\xae%d.png" % number, b"-rf%d.png" % number, b"%d\n.png" % number, b"a.webp", b" .png", b"...png"][rng.integers(10)])  # fmt: skip
        if os.path.lexists(odd):
            continue
        match rng.integers(6):
            case 0:
                os.mkfifo(odd)
            case 1:
                os.symlink(
                    ["/dev/zero", "/dev/random", "/etc/passwd", os.path.basename(odd), "..", "/"][rng.integers(6)], odd
                )
            case 2:
                os.mkdir(odd)
            case _:
                Path(os.fsdecode(odd)).write_bytes(good if rng.random() < 0.8 else good[:40])
