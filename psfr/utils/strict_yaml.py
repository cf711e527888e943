"""A YAML file whose values are written out: safe, short, and no key twice."""

import re
from pathlib import Path

import yaml

from psfr.utils.errors import InputError, shortened

MOST_BYTES = 100_000  # thirty times a file of parameters; PyYAML would take minutes over one of many megabytes


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but 1e-4 is a number, as YAML 1.2 (and so DVC) has it, a key stands once, and nothing refers to another place.

    A few lines of references to references stand for more values than any memory holds.
    """

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None, None, f"*{event.anchor} refers to another place: write the value out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read(path: Path) -> object:
    """The one document of a file.

    Raises:
        InputError: the file is missing or no regular one, too long, not UTF-8, or no YAML.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file: copy one of params/*.yaml to it")
    if not path.is_file():
        raise InputError(f"{path}: no regular file: copy one of params/*.yaml to it")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise InputError(f"{path}: more than {MOST_BYTES} bytes: this is no file of parameters")
    try:
        return yaml.load(content.decode(), Loader)
    except Exception as error:  # PyYAML raises many kinds on what its constructors do not expect
        raise InputError(f"{path}: not valid YAML ({shortened(error, 300)})") from None
