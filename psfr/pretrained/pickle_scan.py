"""What a file of PyTorch's own format may hold, before torch.load opens it.

`torch.load(weights_only=True)` runs no code of a file. It can still be made to take memory or time without end, or to overflow the stack.
"""

import io
import pickletools
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

# All that the pickle of a state dict names.
_GLOBALS = re.compile(r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch \w+Storage")
_MARK, _SLICE = pickletools.markobject, pickletools.stackslice
_DEEPEST = 9  # tuples in tuples; a tensor has three


def look_through(path: Path) -> None:
    """Refuse what no file with a state dict has.

    Raises:
        ValueError: the file unpacks to more than its size, or a pickle of it holds what no state dict needs.
    """
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":
            with zipfile.ZipFile(file) as archive:
                if (unpacked := sum(part.file_size for part in archive.infolist())) > path.stat().st_size:
                    raise ValueError(f"it unpacks to {unpacked} bytes")
                for part in archive.infolist():
                    if part.filename.endswith(".pkl"):
                        _look_through_pickle(io.BytesIO(archive.read(part)))
        else:  # the format before PyTorch 1.6: five pickles, then the numbers
            file.seek(0)
            for _ in range(5):
                _look_through_pickle(file)


def _look_through_pickle(stream: BinaryIO) -> None:
    """Follow a pickle's operations: deep tuples as keys of a dictionary would overflow the stack, shared ones take for ever to hash."""
    stack, outer, memo = [], [], {}  # of each object how deep a tuple of tuples it is
    for operation, argument, _ in pickletools.genops(stream):
        name, taken = operation.name, []
        if name == "GLOBAL" and not _GLOBALS.fullmatch(argument):
            raise ValueError(f"it asks for {argument}")
        if name == "MARK":
            outer.append(stack)
            stack = []
        elif "PUT" in name:
            memo[argument] = stack[-1]
        else:
            if _MARK in operation.stack_before:
                taken, stack = stack, outer.pop()
            taken += [stack.pop() for kind in operation.stack_before if kind not in (_MARK, _SLICE)]
            depth = 1 + max(taken, default=0) if "TUPLE" in name else 0
            if depth > _DEEPEST or ("GET" in name and memo[argument]):
                raise ValueError("it holds tuples of tuples without end")
            stack += [depth] * len(operation.stack_after)
