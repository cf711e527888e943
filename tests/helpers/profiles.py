"""Small ICC profiles (version 2) of RGB, gray and CMYK, made from their parameters."""

import itertools
import struct

WHITE = (0.9642, 1.0, 0.8249)  # D50
# XYZ (D50) of the primaries.
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
DISPLAY_P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))


def rgb_profile(primaries: tuple[tuple[float, float, float], ...] = ADOBE_RGB, gamma: float = 2.2) -> bytes:
    """Return a profile of RGB with a gamma curve."""
    tags = {name: _xyz(*color) for name, color in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | {name: _curve(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")})


def gray_profile(gamma: float = 1.8) -> bytes:
    """Return a profile of gray with a gamma curve."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile() -> bytes:
    """Return a profile of CMYK with a lookup table to L*a*b*, unlike Pillow's plain conversion."""
    table = b""
    for cyan, magenta, yellow, black in itertools.product((0, 1), repeat=4):
        light = 255 * (1 - 0.3 * cyan) * (1 - 0.4 * magenta) * (1 - 0.1 * yellow) * (1 - 0.8 * black)
        table += bytes([round(light), 128 + 40 * (magenta - cyan), 128 + 40 * yellow])
    identity = struct.pack(">9i", *(65536 * (number % 4 == 0) for number in range(9)))
    curve = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + curve * 4 + table + curve * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut})


def _xyz(*color: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in color))


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * gamma)) + bytes(2)


def _profile(kind: bytes, space: bytes, connection_space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"wtpt": _xyz(*WHITE)} | tags
    offset, directory, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        directory += struct.pack(">4sII", name, offset + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s", offset + len(data), b"", 0x02100000, kind, space, connection_space, b"", b"acsp"
    )
    return (header + bytes(28) + _xyz(*WHITE)[8:]).ljust(128, b"\0") + directory + data
