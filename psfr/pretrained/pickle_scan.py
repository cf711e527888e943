"""Check files of torch.save before torch.load opens them.

`torch.load(weights_only=True)` runs no code from a file, but a crafted file can still make it use unlimited memory or
time, or overflow the stack, and users load weights from anywhere to restore photos.
"""

import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

# The only globals that the pickle of a state dict refers to.
_ALLOWED_GLOBALS = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch \w+Storage"
)
_MARK, _SLICE = pickletools.markobject, pickletools.stackslice
_MAX_TUPLE_DEPTH = 9  # a tensor has three nested tuples


def check_pickle(path: Path) -> None:
    """Check that a file of torch.save holds only what a state dict needs.

    Raises:
        ValueError: the file unpacks to more than its size, refers to other globals, or nests tuples too deeply.
    """
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                unpacked = sum(member.file_size for member in members)
                if unpacked > path.stat().st_size:
                    raise ValueError(f"it unpacks to {unpacked} bytes")
                for member in members:
                    if member.filename.endswith(".pkl"):
                        _check_stream(io.BytesIO(archive.read(member)))
        else:  # the format before PyTorch 1.6: five pickles, followed by the data
            file.seek(0)
            for _ in range(5):
                _check_stream(file)


def _check_stream(stream: BinaryIO) -> None:
    """Simulate the stack of a pickle to find the depth of nested tuples.

    As dictionary keys, deeply nested tuples overflow the stack when hashed, and shared ones take exponential time.
    """
    # The stack and memo hold, for each object, the depth of nested tuples in it.
    stack: list[int] = []
    outer_stacks: list[list[int]] = []
    memo: dict[object, int] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name == "GLOBAL" and not _ALLOWED_GLOBALS.fullmatch(str(argument)):
            raise ValueError(f"it refers to {argument}")
        if name == "MARK":
            outer_stacks.append(stack)
            stack = []
        elif "PUT" in name:
            memo[argument] = stack[-1]
        else:
            popped: list[int] = []
            if _MARK in opcode.stack_before:
                popped, stack = stack, outer_stacks.pop()
            popped += [stack.pop() for kind in opcode.stack_before if kind not in (_MARK, _SLICE)]
            depth = 1 + max(popped, default=0) if "TUPLE" in name else 0
            if depth > _MAX_TUPLE_DEPTH or ("GET" in name and memo[argument]):
                raise ValueError("it nests tuples too deeply or shares them")
            stack += [depth] * len(opcode.stack_after)
