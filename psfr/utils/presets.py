"""Merge presets into params.yaml: files that name the parameters to change, or all of them.

The text is edited, so that comments, order and all other values stay as they are.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from yaml.nodes import CollectionNode, MappingNode, Node

from psfr.utils import strict_yaml
from psfr.utils.errors import UserError
from psfr.utils.param_groups import REFERENCE_KEYS
from psfr.utils.strict_yaml import StrictLoader

Keys = tuple[str, ...]  # keys that lead to a value, outermost first

EXTERNAL = "models/external/"  # the user's own generators


def read(path: Path) -> str:
    """Return the text of a file of parameters.

    Raises:
        UserError: it is missing, is not valid YAML, or holds something else than keys and values.
    """
    text = strict_yaml.read_text(path)
    if not isinstance(strict_yaml.parse(text, path), dict):
        raise UserError(f"{path}: not a file of parameters: write lines of the form KEY: VALUE")
    return text


def merge_file(
    text: str, path: Path, sets: Iterable[str], known: Iterable[Path], is_complete: Callable[[object], bool]
) -> str:
    """Return the parameters in `text` with those of a preset.

    A file that names some keys is merged as it is. A complete one has every key, so that it also names what belongs to
    a machine or a user. This stays as it is in `text`, and one line on stderr says so: `compute`, `weights.mirror`,
    the files of `evaluate`, and sets whose images no known file names. Models are those of the file and those in
    models/external.

    Args:
        sets: the groups that name a set of images.
        known: files of parameters that come with the project.
        is_complete: whether the content of a file is valid by itself.

    Raises:
        UserError: a file is missing or not valid YAML, or the layout of `text` cannot be edited.
    """
    preset = read(path)
    current = flatten(text)
    values: dict[Keys, str | None] = {
        keys: value for keys, value in flatten(preset).items() if value != "{}" or not _has_group(current, keys)
    }
    if is_complete(strict_yaml.parse(preset, path)):
        own = _own_keys(current, sets, known)
        own_values = {keys: values.pop(keys) for keys in current.keys() & values.keys() if _starts_with(keys, own)}
        kept = [keys for keys in current if keys in own_values and not _equal(own_values[keys], current[keys])]
        values |= {
            keys: None
            for keys, model in current.items()
            if keys[0] == "models" and keys not in values and not model.strip("'\"").startswith(EXTERNAL)
        }
        if kept:
            names = ", ".join(map(".".join, kept))
            print(f"kept as settings of this machine or your own (-S sets them): {names}", file=sys.stderr)
    return merge(text, values)


def _own_keys(current: Mapping[Keys, str], sets: Iterable[str], known: Iterable[Path]) -> list[Keys]:
    """Return the keys, of values or groups, that belong to the machine or the user."""
    names = {value for file in known for value in flatten(read(file)).values()} | {"null"}
    own_sets = [(name,) for name in sets if current.get((name, "images"), "null") not in names]
    own_files = [("evaluate", key) for key in REFERENCE_KEYS]
    return [("compute",), ("weights", "mirror"), *own_files, *own_sets]


def _has_group(values: Mapping[Keys, str], keys: Keys) -> bool:
    return any(other[: len(keys)] == keys != other for other in values)


def _starts_with(keys: Keys, prefixes: list[Keys]) -> bool:
    return any(keys[: len(prefix)] == prefix for prefix in prefixes)


def parse_assignment(assignment: str) -> dict[Keys, str]:
    """Return what `KEY=VALUE` sets; the key has dots between groups, the value is YAML.

    A group, `KEY={a: 1}`, sets the keys that it names, as a preset does.

    Raises:
        UserError: it has no key or no `=`, or the value is not YAML.
    """
    dotted, equals, text = assignment.partition("=")
    keys = tuple(dotted.split("."))
    if not (equals and all(keys)):
        raise UserError(f"-S {assignment}: not an assignment: write KEY=VALUE, as in fpn.epochs=5")
    if strict_yaml.parse(text, f"-S {assignment}") is None:  # also for an empty text
        return {keys: "null"}
    return {(*keys, *inner): _on_one_line(node, text) for inner, node in _leaves(_compose(text)).items()}


def flatten(text: str) -> dict[Keys, str]:
    """Return the values of a YAML text of nested groups, each on one line and else as it is written."""
    return {keys: _on_one_line(node, text) for keys, node in _leaves(_compose(text)).items()}


def differences(before: str, after: str) -> Iterator[str]:
    """Yield a line `key: old -> new` for each value that differs between two texts."""
    old, new = flatten(before), flatten(after)
    for keys in [*new, *(keys for keys in old if keys not in new and not _has_group(new, keys))]:
        if old.get(keys) != new.get(keys):
            yield f"{'.'.join(keys)}: {old.get(keys, '(none)')} -> {new.get(keys, '(none)')}"


def merge(text: str, values: Mapping[Keys, str | None]) -> str:
    """Return a YAML text of nested groups with other values.

    Values that are equal keep their spelling. New keys become the last ones of their group.

    Args:
        values: the text of each value, None to remove its line.

    Raises:
        UserError: the layout of the text is one that this function cannot edit.
    """
    leaves = _leaves(_compose(text))
    before = {keys: _on_one_line(node, text) for keys, node in leaves.items()}
    values = {keys: value for keys, value in values.items() if not _equal(before.get(keys), value)}
    for keys, node in reversed(leaves.items()):  # from the end, so that the marks of the others stay right
        if value := values.get(keys):
            text = _replace(text, node, value)
    for keys, value in values.items():
        if value is None:
            text = _remove(text, keys)
        elif keys not in leaves:
            text = _put(text, keys, value)
    expected = {keys: value for keys, value in before.items() if not any(_overlap(keys, other) for other in values)}
    expected |= {keys: value for keys, value in values.items() if value is not None}
    names = ", ".join(map(".".join, values))
    hint = f"cannot set {names} in this layout: write each key and its value on a line of their own in params.yaml"
    try:
        found = flatten(text)
    except Exception:  # PyYAML's constructors raise many types
        raise UserError(hint) from None
    if found != expected:
        raise UserError(hint)
    return text


def _compose(text: str) -> Node:
    loader = StrictLoader(text)
    try:
        node = loader.get_single_node()
        assert node  # the text is not empty
        return node
    finally:
        loader.dispose()


def _leaves(node: Node, keys: Keys = ()) -> dict[Keys, Node]:
    """Return the values of nested groups that are no groups, or empty ones, in the order of the text."""
    if not (isinstance(node, MappingNode) and node.value):
        return {keys: node}
    values = {}
    for key, child in node.value:
        values |= _leaves(child, (*keys, key.value))
    return values


def _on_one_line(node: Node, text: str) -> str:
    written = text[node.start_mark.index : _end(node, text)]
    is_block = isinstance(node, CollectionNode) and not node.flow_style
    if is_block or "\n" in written:
        return json.dumps(StrictLoader("").construct_document(node), ensure_ascii=False, default=str)
    return written or "null"


def _end(node: Node, text: str) -> int:
    """Return the index after a value; PyYAML's mark of a block is after the comments that follow it."""
    while isinstance(node, CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return max(node.start_mark.index, len(text[: node.end_mark.index].rstrip()))


def _equal(value: str | None, other: str | None) -> bool:
    """Return whether two values are equal, though perhaps written in other ways, as 1e-3 and 0.001."""
    if value is None or other is None or value == other:
        return value == other
    first, second = (StrictLoader("").construct_document(_compose(text)) for text in (value, other))
    return repr(first) == repr(second)


def _overlap(keys: Keys, other: Keys) -> bool:
    """Return whether one value is the other or in its group."""
    return all(a == b for a, b in zip(keys, other, strict=False))


def _put(text: str, keys: Keys, value: str) -> str:
    node, column = _compose(text), 0
    for depth, key in enumerate(keys):
        if not (isinstance(node, MappingNode) and node.value):  # a group takes the place of a value or of {}
            start, end, line_end = node.start_mark.index, _end(node, text), _end_of_line(text, node)
            line = (text[:start] + text[end:line_end].lstrip()).rstrip()
            return line + _lines(keys[depth:], value, column + 2) + text[line_end:]
        name, child = next((item for item in node.value if item[0].value == key), (None, None))
        if name is None or child is None:
            end = _end_of_line(text, node)
            return text[:end] + _lines(keys[depth:], value, node.start_mark.column) + text[end:]
        node, column = child, name.start_mark.column
    return _replace(text, node, value)


def _replace(text: str, node: Node, value: str) -> str:
    start = node.start_mark.index
    space = "" if text[start - 1].isspace() else " "
    return text[:start] + space + value + text[_end(node, text) :]


def _lines(keys: Keys, value: str, column: int) -> str:
    groups = "".join(f"\n{' ' * (column + 2 * depth)}{key}:" for depth, key in enumerate(keys))
    return f"{groups} {value}"


def _remove(text: str, keys: Keys) -> str:
    node, start = _compose(text), 0
    for key in keys:
        name, node = next(item for item in node.value if item[0].value == key)
        start = name.start_mark.index - name.start_mark.column
    return text[:start] + text[_end_of_line(text, node) + 1 :]


def _end_of_line(text: str, node: Node) -> int:
    end = text.find("\n", _end(node, text))
    return len(text) if end < 0 else end
