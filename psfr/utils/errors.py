"""User-fixable errors print one line; unexpected errors keep their traceback. `PSFR_DEBUG=1` prints every traceback."""

import codecs
import gc
import io
import os
import re
import reprlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from types import FrameType

from psfr.utils.versions import warn_about_versions


class UserError(Exception):
    """Error that the user can fix: a file, a folder, a parameter, a disk or a server.

    The message is one line of the form `where: what is wrong: how to fix it`.
    """


MAX_LISTED = 20  # items of a list in a message

# Control characters, line separators and lone surrogates: none may appear in a file name, a table or a message.
CONTROL_CHARS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

ESCAPE_ERRORS = "psfr.escape"  # name of the codec error handler that escapes what a stream's encoding lacks

_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxlist, _REPR.maxtuple, _REPR.maxset, _REPR.maxdict = 2, 4, 4, 4, 4
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 80

# User and password of a URL, and the value after a secret's name in a query string or an rclone remote.
_SECRETS = re.compile(
    r"(?<=://)[^\s/@]*@"
    r"|(?i:(?<=key=)|(?<=token=)|(?<=secret=)|(?<=pass=)|(?<=password=)|(?<=signature=)|(?<=sig=))"
    r"['\"]?[^\s&,:'\"]+['\"]?"
)


def safe_repr(value: object) -> str:
    """Return the `repr` of an untrusted value on one line, abbreviated if long, wide or deep, with secrets masked."""
    if isinstance(value, str):
        # Mask before abbreviating: the abbreviation may drop the name by which a secret is recognized.
        value = _SECRETS.sub("***", value[:10_000])
    try:
        return _SECRETS.sub("***", _REPR.repr(value))
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        return "a number of thousands of digits"


def truncate(text: object, length: int = 200) -> str:
    """Return an untrusted text (a library's message, a key) on one line of at most `length` characters plus "...".

    Secrets are masked, white space is collapsed and unprintable characters become "?".
    """
    line = " ".join(_SECRETS.sub("***", str(text)[: 4 * length]).split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= length else line[:length] + "..."


def printable(text: object) -> str:
    r"""Return a text, such as one with a file name, on one line: control characters and invalid bytes are escaped.

    A name in another encoding than the file system's has the bytes of its file in it: `caf\xe9.jpg`.
    """
    return CONTROL_CHARS.sub(lambda match: _escape(match[0]), str(text))


def _escape(text: str) -> str:
    """Escape each character as in a Python literal, and bytes that Python read as lone surrogates as `\\xNN`."""
    codes = (ord(character) for character in text)
    characters = (chr(code - 0xDC00) if 0xDC80 <= code <= 0xDCFF else chr(code) for code in codes)
    return "".join(characters).encode("unicode_escape").decode("ascii")


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return _escape(error.object[error.start : error.end]), error.end


codecs.register_error(ESCAPE_ERRORS, _escape_unencodable)


def _escape_output() -> None:
    """Let nothing that is printed raise an error: stdout and stderr escape the characters that they cannot encode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPE_ERRORS)


def join_first(items: Sequence[str], separator: str = "; ", limit: int = MAX_LISTED, total: int | None = None) -> str:
    """Join the first `limit` items; the number of the others follows, as in "a; b and 3 more".

    Every list of unknown length in a message is joined by this function, so that the message stays readable.

    Args:
        total: the number of all items if `items` are only the first of them.
    """
    text = separator.join(items[:limit])
    more = (len(items) if total is None else total) - len(items[:limit])
    return f"{text} and {more} more" if more else text


def raise_all(problems: Iterable[str], hint: str | None = None) -> None:
    """Raise one error for all problems, or return if there are none.

    Args:
        problems: one message each; the error names the first `MAX_LISTED` and the number of the others.
        hint: how to fix them, appended once.

    Raises:
        UserError: there is at least one problem.
    """
    problems = list(problems)
    if problems:
        raise UserError(join_first(problems) + (f": {hint}" if hint else ""))


def run_main(main: Callable[[], None], *version_groups: str) -> None:
    """Run a program's `main`; print one line and exit after a user-fixable error, Ctrl-C or SIGTERM.

    The exit status is 1 after a `UserError`, an error of the operating system or lack of memory, and 128 + the
    signal's number after a signal. Notes that were added to the error follow on the same line. Other exceptions
    propagate. With `PSFR_DEBUG=1` in the environment, the traceback comes before each one-line message. Characters that
    the terminal's encoding lacks are printed escaped, and so are control characters in messages.

    Args:
        version_groups: pinned packages that a stage's results depend on, for `warn_about_versions`.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise_interrupt)
    _escape_output()
    if not gc.isenabled():  # a stage: what it has imported stays, also in the processes that it forks
        gc.freeze()
        gc.enable()
    try:
        warn_about_versions(*version_groups)
        main()
    except KeyboardInterrupt as stop:
        print_debug_traceback(stop)
        message, status = stop.args or ("stopped by Ctrl-C: run it again to resume", 128 + signal.SIGINT)
        print(message, file=sys.stderr)
        sys.exit(status)
    except Exception as error:
        line = _one_line(error)
        if line is None:
            raise
        print_debug_traceback(error)
        notes = [truncate(note) for note in getattr(error, "__notes__", ())]
        sys.exit("; ".join([f"error: {printable(line)}", *notes]))


def print_debug_traceback(error: BaseException) -> None:
    """Print an error's traceback to stderr if `PSFR_DEBUG=1`; call it where an error is reduced to its message.

    The causes that `raise ... from None` hides are included. Secrets are not masked.
    """
    if os.environ.get("PSFR_DEBUG", "0") in ("", "0"):
        return
    cause: BaseException | None = error
    while cause is not None:
        cause.__suppress_context__ = False
        cause = cause.__cause__ or cause.__context__
    traceback.print_exception(error, file=sys.stderr)


def _raise_interrupt(signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt("stopped by SIGTERM: run it again to resume", 128 + signum)


# Texts of the RuntimeErrors that libraries raise.
_OUT_OF_MEMORY = (
    "allocate memory",
    "not enough memory",
    "out of memory",
    "Insufficient memory",
    "unable to mmap",
    "std::bad_alloc",
)
_WORKER_KILLED = ("DataLoader worker", "worker process managed by the executor")
_USER_ERROR_PREFIX = f"{UserError.__module__}.{UserError.__qualname__}: "


def _one_line(error: Exception) -> str | None:
    """Return the message of a user-fixable error on one line, None for any other error."""
    text = str(error).strip()
    # A DataLoader worker's error arrives with the worker's traceback as its message, which ends with the error.
    if isinstance(error, UserError):
        return text.rpartition(_USER_ERROR_PREFIX)[2]
    last = text.splitlines()[-1] if text else type(error).__name__
    # EOFError, ConnectionResetError: the worker at the other end of a pipe died while the pipe was read.
    is_worker_gone = isinstance(error, EOFError | ConnectionResetError)
    if isinstance(error, OSError) and not is_worker_gone:
        prefix = f"{error.filename}: " if error.filename else ""
        return f"{prefix}{os.strerror(error.errno)}" if error.errno else last.partition("Error: ")[2] or last
    if type(error).__name__ == "SafetensorError" and "I/O error" in text:
        return f"cannot write a checkpoint: {last.partition('I/O error: ')[2]}"
    if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        return "out of memory: lower batch_size, compute.batch_size, compute.workers or image_size"
    if is_worker_gone or any(words in text for words in _WORKER_KILLED):
        return (
            "a data-loading worker was killed (out of memory?): lower compute.workers or batch_size and rerun to resume"
        )
    return None
