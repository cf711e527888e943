"""What the user can mend is said in one line; everything else keeps its traceback."""

import os
import re
import reprlib
import signal
import sys
import threading
from collections.abc import Callable, Iterable


class InputError(Exception):
    """Something outside the program is wrong: a file, a folder, a parameter.

    The message is one line: what is wrong, where, and the mend.
    """


CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
)  # characters that no line of a table or of a message can hold

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxset, _REPR.maxdict = 2, 4, 4, 4, 4
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 80

# User and password of an address, and what stands behind a name of that kind, in a query or in an rclone remote.
_SECRETS = re.compile(
    r"(?<=://)[^\s/@]*@|(?i:(?<=key=)|(?<=token=)|(?<=secret=)|(?<=pass=)|(?<=password=)|(?<=signature=)|(?<=sig=))['\"]?[^\s&,:'\"]+['\"]?"
)


def quoted(value: object) -> str:
    """A value from outside for a message: its `repr`, shortened where it is long, wide or deep, secrets masked."""
    if isinstance(value, str):
        value = _SECRETS.sub(
            "***", value[:10_000]
        )  # before it is shortened: the name of a secret may be what is left out
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
    """Run a program's `main`; what the user can mend, and Ctrl-C or SIGTERM, ends it with one line.

    Exit status: 1 after an `InputError`, an error of the operating system or want of memory, 128 + the signal's number after a signal.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop)
    try:
        main()
    except KeyboardInterrupt as stop:
        reason, status = stop.args if stop.args else ("stopped by Ctrl-C: run it again to go on", 128 + signal.SIGINT)
        print(reason, file=sys.stderr)
        sys.exit(status)
    except Exception as error:
        line = _line(error)
        if line is None:
            raise
        sys.exit(f"error: {line}")


def _stop(number: int, _) -> None:
    raise KeyboardInterrupt("stopped by SIGTERM: run it again to go on", 128 + number)


# What libraries say in RuntimeErrors of their own.
_OUT_OF_MEMORY = (
    "allocate memory",
    "not enough memory",
    "out of memory",
    "Insufficient memory",
    "unable to mmap",
    "std::bad_alloc",
)
_WORKER_KILLED = ("DataLoader worker", "worker process managed by the executor")


def _line(error: Exception) -> str | None:
    """An error that the user can mend, in one line; None for any other."""
    text = str(error).strip()
    last = (
        text.splitlines()[-1] if text else type(error).__name__
    )  # a data loader's worker sends the error with its traceback before it
    if isinstance(error, InputError):
        return last.removeprefix("psfr.utils.errors.InputError: ")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{os.strerror(error.errno)}" if error.errno else last.partition("Error: ")[2] or last
    if type(error).__name__ == "SafetensorError" and "I/O error" in text:
        return f"cannot write a checkpoint: {last.partition('I/O error: ')[2]}"
    if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        return "too little memory: lower batch_size, compute.batch_size, compute.workers or image_size"
    if isinstance(error, EOFError) or any(
        words in text for words in _WORKER_KILLED
    ):  # the end of a pipe to one that died while it was read
        return "a process that prepares images was killed, most likely for want of memory: lower compute.workers or batch_size, and run again to go on"
    return None
