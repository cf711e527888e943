"""What the user can mend is said in one line; everything else keeps its traceback."""

import os
import re
import reprlib
import sys
from collections.abc import Callable, Iterable


class InputError(Exception):
    """Something outside the program is wrong: a file, a folder, a parameter.

    The message is one line: what is wrong, where, and the mend.
    """


CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # characters that no line of a table or of a message can hold

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxset, _REPR.maxdict = 2, 4, 4, 4, 4
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 80

# User and password of an address, and what stands behind a name of that kind, in a query or in an rclone remote.
_SECRETS = re.compile(r"(?<=://)[^\s/@]*@|(?i:(?<=key=)|(?<=token=)|(?<=secret=)|(?<=pass=)|(?<=password=)|(?<=signature=)|(?<=sig=))['\"]?[^\s&,:'\"]+['\"]?")


def quoted(value: object) -> str:
    """A value from outside for a message: its `repr`, shortened where it is long, wide or deep, secrets masked."""
    if isinstance(value, str):
        value = _SECRETS.sub("***", value[:10_000])  # before it is shortened: the name of a secret may be what is left out
    try:
        return _SECRETS.sub("***", _REPR.repr(value))
    except ValueError:  # Python prints no integer of more than 4,300 digits
        return "a number of thousands of digits"


def shortened(text: object, length: int = 200) -> str:
    """A text from outside (a library's error, a key) for a message: one line without control characters, cut at `length`, secrets masked."""
    line = " ".join(_SECRETS.sub("***", str(text)[: 4 * length]).split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= length else line[:length] + "..."


def raise_together(problems: Iterable[str], mend: str | None = None) -> None:
    """Report many problems at once.

    Raises:
        InputError: if there is any problem; it names each of them, then their common mend.
    """
    problems = list(problems)
    if problems:
        raise InputError("; ".join(problems) + (f": {mend}" if mend else ""))


def run(main: Callable[[], None]) -> None:
    """Run a program's `main`; an `InputError` or an error of the operating system ends it with one line and exit status 1."""
    try:
        main()
    except InputError as error:
        # A data loader's worker sends the error with its traceback before it.
        sys.exit(f"error: {str(error).strip().splitlines()[-1].removeprefix('psfr.errors.InputError: ')}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{os.strerror(error.errno) if error.errno else error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
