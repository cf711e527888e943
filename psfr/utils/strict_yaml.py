"""Read YAML files of plain values.

Parameter files come from other people and decide what a run computes: an alias bomb must not exhaust the memory, a
tag must not run code, and a repeated key must not silently override the first one.
"""

import re
from pathlib import Path

import yaml
import yaml.composer
import yaml.constructor

from psfr.utils.errors import UserError, truncate

MAX_BYTES = 100_000  # thirty times a parameter file; PyYAML takes minutes to parse many megabytes


class StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader that rejects duplicate keys and aliases and reads `1e-4` as a number.

    YAML 1.2, and so DVC, reads `1e-4` as a number; PyYAML implements YAML 1.1, where it is a string. Aliases are
    rejected because a few lines of nested ones expand to more values than fit into memory.
    """

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"*{event.anchor} is an alias: write the value out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_text(path: Path) -> str:
    """Return the text of a YAML file.

    Raises:
        UserError: the file is missing, not a regular file, too large or not UTF-8.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file: copy one of params/*.yaml to it")
    if not path.is_file():
        raise UserError(f"{path}: not a regular file: copy one of params/*.yaml to it")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: more than {MAX_BYTES} bytes, not a parameter file: copy one of params/*.yaml to it")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise _invalid(path, error) from None


def parse(text: str, path: Path | str) -> object:
    """Return the content of a text that holds one YAML document.

    Raises:
        UserError: it is not valid YAML. The message begins with `path`.
    """
    try:
        return yaml.load(text, StrictLoader)
    except Exception as error:  # PyYAML's constructors raise many types on malformed values
        raise _invalid(path, error) from None


def read(path: Path) -> object:
    """Return the content of a file that holds one YAML document.

    Raises:
        UserError: the file is missing, not a regular file, too large, not UTF-8 or not valid YAML.
    """
    return parse(read_text(path), path)


def _invalid(path: Path | str, error: Exception) -> UserError:
    return UserError(f"{path}: not valid YAML ({truncate(error, 300)}): fix it there")
