"""Files from the web: a download that breaks off goes on where it stopped, in the same run or in a later one."""

import json
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.exceptions import ChunkedEncodingError, ConnectionError, HTTPError, RequestException, Timeout
from tqdm import tqdm
from urllib3 import Retry
from urllib3.exceptions import MaxRetryError

from psfr.errors import shortened

# Further tries of what may pass, each after a longer pause: 0, 2, 4, 8 and 16 s, or what the server asks for.
RETRY = Retry(total=5, backoff_factor=1, retry_after_max=120)
PASSING = {408, 429, 500, 502, 503, 504}  # answers of a server that another time may have the file

SECONDS = (10, 30)  # without a connection, and without a further byte
MOST_BYTES = 2**31  # four times the largest file: a host that sends on for ever fills no disk
CHUNK = 2**16


class Unavailable(Exception):
    """A file cannot be had; the message says why in a few words."""


class Web:
    """A run's downloads: proxies and certificates as the environment says; a host out of reach is not tried again for the next file."""

    def __init__(self):
        self.session = requests.Session()
        self.out_of_reach: dict[str, str] = {}

    def fetch(self, address: str, path: Path) -> None:
        """Download to `path`; what an earlier try has left there is taken, if the server says that its file is still the same.

        Raises:
            Unavailable: the server has no such file, or does not give it after all tries, or sends more than MOST_BYTES. What has
                arrived stays for the next run, if it can be gone on with.
        """
        host, retry = urlsplit(address).netloc, RETRY
        if host in self.out_of_reach:
            raise Unavailable(self.out_of_reach[host])
        while True:
            before = _size(path)
            try:
                self._go_on(address, path)
                _note(path).unlink(missing_ok=True)
                return
            except (ConnectionError, Timeout, ChunkedEncodingError, HTTPError) as error:
                answer = error.response
                if answer is not None and answer.status_code not in PASSING:
                    raise Unavailable(_reason(error)) from None
                try:
                    retry = (RETRY if _size(path) > before else retry).increment(error=error)
                except MaxRetryError:
                    reason = f"{_reason(error)}, {RETRY.total + 1} times"
                    if answer is None and not isinstance(error, ChunkedEncodingError):
                        self.out_of_reach[host] = reason
                    left, _ = _left(address, path)
                    raise Unavailable(f"{reason}; its first {left} bytes are kept, run again to go on" if left else reason) from None
                print(f"{_title(path)}: {_reason(error)}: trying again", file=sys.stderr)
                retry.sleep(None if answer is None else answer.raw)
            except RequestException as error:  # no address, or redirected without end
                raise Unavailable(_reason(error)) from None
            except OSError as error:
                error.filename = error.filename or str(path)  # a full disk does not say where
                raise

    def _go_on(self, address: str, path: Path) -> None:
        """One try.

        Raises:
            RequestException: it broke off, or the server has answered with an error.
            Unavailable: it is too large.
        """
        offset, validator = _left(address, path)
        headers = {"Accept-Encoding": "identity"}  # places in the file are meant, not in a packed form of it
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
        with self.session.get(address, headers=headers, stream=True, timeout=SECONDS) as answer:
            place = answer.headers.get("Content-Range", "")
            if answer.status_code == 416 and place == f"bytes */{offset}":
                return  # nothing is missing
            if offset and (answer.status_code == 416 or (answer.status_code == 206 and not place.startswith(f"bytes {offset}-"))):
                discard(path)
                raise ConnectionError("it sent another part than asked for")
            if answer.status_code == 200:
                offset = 0
                _begin(address, path, answer)
            elif not (offset and answer.status_code == 206):
                raise HTTPError(f"{answer.status_code} {shortened(answer.reason, 40)}", response=answer)
            length = answer.headers.get("Content-Length", "")
            total = offset + int(length) if length.isdecimal() else None
            with path.open("ab") as file, tqdm(initial=offset, total=total, unit="B", unit_scale=True, desc=_title(path)) as bar:
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
                    if bar.n > MOST_BYTES:
                        discard(path)
                        raise Unavailable(f"more than {MOST_BYTES} bytes")


def parts(path: Path) -> tuple[Path, Path]:
    """The files that a download to `path` that broke off leaves: itself, and its note."""
    return path, _note(path)


def discard(path: Path) -> None:
    """Remove what a download to `path` has left."""
    for part in parts(path):
        part.unlink(missing_ok=True)


def _note(path: Path) -> Path:
    """Beside an unfinished file: the address it is of, and what says whether the file there is still the same."""
    return path.with_name(f"{path.name}.json")


def _begin(address: str, path: Path, answer: requests.Response) -> None:
    """An empty file and its note; without a word of the server that would tell another file apart there is none."""
    discard(path)
    path.touch()
    etag = answer.headers.get("ETag", "W/")
    validator = answer.headers.get("Last-Modified", "") if etag.startswith("W/") else etag
    if validator and answer.headers.get("Content-Encoding", "identity") == "identity":
        _note(path).write_text(json.dumps([address, validator]), encoding="utf-8")


def _left(address: str, path: Path) -> tuple[int, str]:
    """How many bytes of an address's file are there to go on with, and what If-Range takes; 0 where there are none."""
    try:
        noted, validator = json.loads(_note(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return 0, ""
    return (_size(path), str(validator)) if noted == address else (0, "")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _title(path: Path) -> str:
    return path.name.removeprefix(".").removesuffix(".partial")


def _reason(error: Exception) -> str:
    """The innermost of errors in errors, without the names of Python's objects."""
    while inner := getattr(error, "reason", None) or next((each for each in error.args if isinstance(each, Exception)), None):
        if not isinstance(inner, Exception):
            break
        error = inner
    return shortened(re.sub(r"^(<.*?>|\w+\(.*?\)): ", "", str(error)), 120)
