"""Files that are crafted to do harm: decompression bombs, malicious pickles, invalid headers, unsafe names."""

import io
import json
import pickle
import string
import struct
import zipfile
import zlib
from collections.abc import Iterator
from itertools import pairwise

from PIL import Image

from tests.helpers.hostile import GENERATOR_CONFIG, ROOT, SUFFIXES, VALUES, encode, listing_json, png, png_chunk

UNSAFE_NAMES = [
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
]


def crafted_files(large: bool) -> list[tuple[str, str, bytes]]:
    """Return (kind, suffix, content) of files that are crafted to do harm.

    Args:
        large: include large images, which take seconds each to decode.
    """
    files = []
    for kind, suffixes in SUFFIXES.items():
        if kind != "folder":
            for suffix in suffixes:
                files += [(kind, suffix, b""), (kind, suffix, b"\0"), (kind, suffix, b"\xff" * 5000)]
                files.append((kind, suffix, b"<html>not found</html>"))
    for suffix in (".png", ".jpg"):
        for image_format in ("GIF", "ICO", "PPM", "EPS", "PDF", "TGA", "JPEG2000", "AVIF"):
            files.append(("image", suffix, encode(Image.new("RGB", (8, 8)), image_format)))
    files += [(kind, ".png", content) for content in _pngs() for kind in ("image", "mask")]
    files += [(kind, ".tif", content) for content in _tiffs() for kind in ("image", "photograph")]
    for brand in (b"heic", b"avif", b"mif1", b"crx ", b"\0\0\0\0"):
        for rest in (b"", bytes(400), b"\xff" * 400):
            files.append(("image", ".heic", b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1" + brand + rest))
    files += [("weights", ".pth", content) for content in _pickles()]
    files += [("weights", ".pth", _zip_checkpoint(content)) for content in _pickles()]
    files += [("weights", ".pth", _zip_checkpoint(pickle.dumps({}, 2), zipfile.ZIP_DEFLATED, bytes(2**27)))]
    files += [("checkpoint", ".safetensors", content) for content in _safetensors()]
    files += [("parameters", ".yaml", text.encode("utf-8", "surrogatepass")) for text in _yamls()]
    params = (ROOT / "params.yaml").read_text()
    files += [("parameters", ".yaml", params.encode(encoding)) for encoding in ("utf-16", "utf-32", "utf-8-sig")]
    files += [("listing", ".json", listing_json(f"{name}.png")) for name in UNSAFE_NAMES]
    for kind in ("listing", "checksums"):
        for text in (b"[" * 100_000, b'{"0":' * 100_000, b"[\n" + b'{"a":' * 100_000, b"1" * 100_000):
            files.append((kind, ".json", text))
    if large:
        for depth, color_type in [(8, 2), (8, 6), (16, 0), (16, 6), (8, 0), (8, 4)]:
            files.append(("image", ".png", png(15_000, 15_000, depth, color_type)))
        files.append(("mask", ".png", png(15_000, 15_000, 8, 0)))
    return files


def _pngs() -> list[bytes]:
    zeros, text = zlib.compress(bytes(2**27), 1), zlib.compress(bytes(900_000))
    extra = [
        png_chunk(b"iCCP", b"x\0\0" + zeros),
        png_chunk(b"zTXt", b"x\0\0" + zeros),
        png_chunk(b"iTXt", b"x\0\1\0\0\0" + zeros),
        png_chunk(b"tEXt", b"a\0b") * 50_000,
    ]
    extra.append(b"".join(png_chunk(b"zTXt", b"k%d\0\0" % i + text) for i in range(100)))
    extra.append(struct.pack(">I", 2**31 - 1) + b"tEXt")
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
        [png(8, 8, extra=chunks) for chunks in extra]
        + [png(*size, data=zeros[:1000]) for size in sizes]
        + [png(8, 8, data=zeros), png(8, 8, 8, 3), png(8, 8, 8, 3, png_chunk(b"PLTE", b""))]
    )


def _tiffs() -> Iterator[bytes]:
    def tiff(changes: dict[int, tuple | None], next_directory: int = 0) -> bytes:
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
        header = b"II*\0" + struct.pack("<IH", 8, len(fields) // 12)
        return header + fields + struct.pack("<I", next_directory) + bytes(1000)

    yield tiff({}, 8)  # a cycle of directories
    yield tiff({0x8769: (4, 1, 8), 0x8825: (4, 1, 8)})  # EXIF data that point to the image itself
    for size in (0, 2**31 - 1, 2**32 - 1, 100_000):
        yield tiff({256: (4, 1, size), 257: (4, 1, size)})
    for tag, field_type, count in [
        (270, 2, 2**32 - 1),
        (700, 12, 2**29),
        (273, 4, 2**28),
        (279, 4, 2**28),
        (258, 3, 2**31),
        (274, 2, 4),
        (320, 3, 2**30),
    ]:
        yield tiff({tag: (field_type, count, 400)})
    for tag in (258, 259, 262, 277, 278, 284, 317, 322, 323, 338, 339):
        for number in (0, 5, 8, 32, 65_535):
            yield tiff({tag: (3, 1, number)})
    for compression in (2, 3, 4, 5, 6, 7, 8, 32773, 34712, 50000, 50001):
        yield tiff({259: (3, 1, compression), 256: (4, 1, 10_000), 257: (4, 1, 10_000), 278: (4, 1, 10_000)})
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
    key, pair = b"X\x01\x00\x00\x00a", b"\x86q\x00h\x00"
    yield b"\x80\x02}K\x01K\x01" + pair * 60 + b"\x86K\x01s."  # hashing takes 2 ** 60 steps
    yield b"\x80\x02}K\x01" + b"\x85" * 1_000_000 + b"K\x01s."  # nested a million levels deep
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
    for num_elements in (b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"K\x00"):
        storage = (
            b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
            + num_elements
            + b"tQ"
        )
        tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + num_elements + b"\x85K\x00\x85\x89}tR"
        yield b"\x80\x02}" + key + tensor + b"s."
    yield b"\x80\x02X\xff\xff\xff\xffa."
    yield b"\x80\x04\x95" + b"\xff" * 8 + b"}."
    yield b"\x80\x02." + b"\x80\x02}." * 5


def _zip_checkpoint(pickled: bytes, compression: int = zipfile.ZIP_STORED, data: bytes = bytes(8)) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", data)
        archive.writestr("archive/../../harm", b"x")
    return stream.getvalue()


def _safetensors() -> Iterator[bytes]:
    def pack(header: object, data: bytes = bytes(64), length: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return (len(text) if length is None else length).to_bytes(8, "little") + text + data

    def with_metadata(network: str | dict) -> bytes:
        return pack(
            {
                "__metadata__": {"network": network if isinstance(network, str) else json.dumps(network)},
                "a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]},
            }
        )

    for length in (0, 1, 2**31, 2**63, 2**64 - 1, 99_999_999):
        yield pack({}, length=length)
    for dtype, shape, offsets in [
        ("F32", [2**40, 2**40], [0, 64]),
        ("F32", [-1], [0, 64]),
        ("F32", [16], [64, 0]),
        ("F32", [16], [0, 2**64]),
        ("X", [], [0, 0]),
        ("F32", [1] * 5000, [0, 4]),
    ]:
        yield pack({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}})
    # Overlapping tensors.
    yield pack({str(i): {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]} for i in range(1000)})
    duplicate_key = b'"a":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}'
    yield pack(b"{" + duplicate_key + b"," + duplicate_key + b"}")
    yield pack(b"[" * 100_000)
    yield pack({str(i): {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(50_000)}, b"")
    for key in ("image_size", "constant_size", "min_channels", "max_channels", "else"):
        for value in (0, -1, 10**30, 8192, 1.5, True, None, "x", "9" * 5000, [1], {"a": 1}):
            yield with_metadata({"class": "Generator", "sizes": GENERATOR_CONFIG | {key: value}})
    for network in (
        "",
        "null",
        "[" * 100_000,
        {"class": "Generator"},
        {"class": ["Generator"], "sizes": GENERATOR_CONFIG},
        {"class": "os.system", "sizes": GENERATOR_CONFIG},
        {"class": "Generator", "sizes": []},
    ):
        yield with_metadata(network)


def _yamls() -> Iterator[str]:
    text = (ROOT / "params.yaml").read_text()
    letters = string.ascii_lowercase[:12]
    lists, mappings = "a: &a [1, 1, 1]\n", "a: &a {x: 1}\n"  # aliases that expand exponentially
    for previous, letter in pairwise(letters):
        aliases = ", ".join([f"*{previous}"] * 9)
        lists += f"{letter}: &{letter} [{aliases}]\n"
        mappings += f"{letter}: &{letter} {{<<: [{aliases}]}}\n"
    yield lists + "seed: *l"
    yield mappings
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
