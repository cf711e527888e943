"""Random mutations of valid files."""

import io
import json
import zipfile
from collections.abc import Iterator

import numpy as np

from tests.helpers.hostile import VALUES, png_chunk

INTEGERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


def mutate(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Apply one to three random mutations to a file; in half of the files, then fix the checksums of the format.

    A file with valid checksums is read further, so a fault behind them is reached.

    Args:
        other: another file, of which parts may be inserted.
    """
    for i in range(rng.choice([1, 1, 2, 3])):
        mutations = [_flip_bits, _cut, _splice, _overwrite_integer, _edit_text]
        if i == 0:
            mutations += [_mutate_inside] * 3
        content = mutations[rng.integers(len(mutations))](rng, content, other)
    return _fix_checksums(content) if rng.random() < 0.5 else content


def _span(rng: np.random.Generator, content: bytes) -> tuple[int, int]:
    """Return a random span, more often near the start, where headers are."""
    start = int(rng.integers(0, min(len(content), 10 ** rng.integers(1, 7)) + 1))
    return start, start + int(rng.integers(0, 2 ** rng.integers(1, 10)))


def _flip_bits(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
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


def _splice(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    (start, end), (first, last) = _span(rng, content), _span(rng, other)
    return [
        content[:start] + other[first:],
        content[:start] + other[first:last] + content[end:],
        content + other,
        other[:last] + content,
    ][rng.integers(4)]


def _overwrite_integer(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    start, width = _span(rng, content)[0], 2 ** int(rng.integers(0, 4))
    number = int(rng.choice(np.array(INTEGERS, object))) % 256**width
    return content[:start] + number.to_bytes(width, ["little", "big"][rng.integers(2)]) + content[start + width :]


def _edit_text(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Replace a value, or replace, duplicate or indent a line."""
    value = VALUES[rng.integers(len(VALUES))].encode("utf-8", "surrogateescape")
    lines = content.split(b"\n")
    index = int(rng.integers(len(lines)))
    match rng.integers(4):
        case 0:
            for separator in (b": ", b",", b":"):
                if separator in lines[index]:
                    words = lines[index].split(separator)
                    words[rng.integers(len(words))] = value
                    lines[index] = separator.join(words)
                    break
        case 1:
            lines.insert(index, lines[rng.integers(len(lines))])
        case 2:
            lines[index] = b"  " + lines[index]
        case 3:
            lines[index] = value
    return b"\n".join(lines)


def _mutate_inside(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """Mutate the content of a container: a file in a zip archive, a chunk of a PNG, the header of safetensors."""
    if content[:4] == b"PK\3\4":
        return _mutate_zip(rng, content, other)
    if content[:4] == b"\x89PNG":
        return _mutate_png(rng, content)
    if content[8:9] == b"{" and (length := int.from_bytes(content[:8], "little")) < len(content):
        if rng.random() < 0.8:
            header = json.dumps(_mutate_json(rng, json.loads(content[8 : 8 + length]))).encode()
        else:
            header = json.dumps(VALUES).encode()
        return len(header).to_bytes(8, "little") + header + content[8 + length :]
    return content


def _mutate_png(rng: np.random.Generator, content: bytes) -> bytes:
    chunks = list(_png_chunks(content))
    chunk_type, data = chunks[int(rng.integers(len(chunks)))]
    mutated = [
        (chunk_type, _overwrite_integer(rng, data, b"")),
        (chunk_type, _cut(rng, data, b"")),
        (rng.choice([b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fdAT", b"zTXt"]), data),
    ]
    chunks[rng.integers(len(chunks))] = mutated[rng.integers(3)]
    return content[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)


def _mutate_zip(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            is_mutated = name.endswith(("pkl", "version")) or rng.random() < 0.02
            archive.writestr(name, _flip_bits(rng, data, other) if is_mutated else data)
    return stream.getvalue()


def _mutate_json(rng: np.random.Generator, value: object) -> object:
    """Change one value or key of a JSON document."""
    if isinstance(value, dict) and value:
        keys = ["__metadata__"] if rng.random() < 0.5 and "__metadata__" in value else []
        key = keys[0] if keys else list(value)[rng.integers(len(value))]
        if isinstance(value[key], str) and value[key][:1] == "{":
            return value | {key: json.dumps(_mutate_json(rng, json.loads(value[key])))}
        if rng.random() < 0.9:
            return value | {key: _mutate_json(rng, value[key])}
        return {**value, f"{key}_": value[key]}
    if isinstance(value, list) and value:
        index = rng.integers(len(value))
        return [_mutate_json(rng, item) if i == index else item for i, item in enumerate(value)]
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


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    offset = 8
    while offset + 8 <= len(content):
        length = int.from_bytes(content[offset : offset + 4], "big")
        yield content[offset + 4 : offset + 8], content[offset + 8 : offset + 8 + length]
        offset += length + 12


def _fix_checksums(content: bytes) -> bytes:
    if content[:4] == b"\x89PNG":
        return content[:8] + b"".join(png_chunk(chunk_type, data) for chunk_type, data in _png_chunks(content))
    return content
