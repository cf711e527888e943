"""Files from the web: a download that breaks off goes on where it stopped, in the same run or in a later one."""

import json
import re
import sys
from dataclasses import astuple, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from requests.exceptions import ChunkedEncodingError, ConnectionError, HTTPError, ProxyError, RequestException, Timeout
from tqdm import tqdm

from psfr.utils.errors import shortened

# Further tries of what may pass, each after a longer pause: 0, 2, 4, 8 and 16 s, or what the server asks for.
RETRY = urllib3.Retry(total=5, backoff_factor=1, retry_after_max=120)
PASSING = {408, 429, 500, 502, 503, 504}  # answers of a server that another time may have the file

SECONDS = (10, 30)  # without a connection, and without a further byte
MOST_BYTES = 2**31  # four times the largest file: a host that sends on for ever fills no disk
CHUNK = 2**16


class Unavailable(Exception):
    """A file cannot be had; the message says why in a few words."""


@dataclass(frozen=True)
class Origin:
    """What an unfinished file is a part of: an address, what tells whether the file there is still the same, and its length, where known."""

    address: str
    validator: str
    length: str

    @staticmethod
    def of(address: str, answer: requests.Response) -> "Origin":
        etag = answer.headers.get("ETag", "W/")  # a weak one says nothing of the bytes
        validator = answer.headers.get("Last-Modified", "") if etag.startswith("W/") else etag
        length = answer.headers.get("Content-Length", "")
        packed = answer.headers.get("Content-Encoding", "identity") != "identity"
        return Origin(address, "", "") if packed else Origin(address, validator, length if length.isdecimal() else "")

    def goes_on(self, offset: int, answer: requests.Response) -> bool:
        """Whether an answer is the rest of the same file."""
        place = re.fullmatch(rf"bytes {offset}-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        same = Origin.of(self.address, answer).validator in ("", self.validator)
        return (
            answer.status_code == 206
            and same
            and place is not None
            and (not self.length or place[1] in ("*", self.length))
        )


class Web:
    """A run's downloads: proxies and certificates as the environment says; a host out of reach is not tried again for the next file."""

    def __init__(self):
        self.session = requests.Session()
        self.out_of_reach: dict[str, str] = {}
        self.begun: set[Path] = set()

    def fetch(self, address: str, path: Path) -> None:
        """Download to `path`; what an earlier try has left there is taken, if the server says that its file is still the same.

        Raises:
            Unavailable: the server has no such file, or does not give it after all tries, or sends more than MOST_BYTES. What has
                arrived stays for the next run, if it can be gone on with.
        """
        try:
            self._fetch(address, path)
        except (
            RequestException,
            urllib3.exceptions.HTTPError,
            ValueError,
        ) as error:  # what a server sends may be anything
            raise Unavailable(_reason(error)) from None
        except OSError as error:
            error.filename = error.filename or str(path)  # a full disk does not say where
            raise
        _note(path).unlink(missing_ok=True)

    def _fetch(self, address: str, path: Path) -> None:
        """Try until the file is there, or five tries after the last byte have brought nothing."""
        host, retry = urlsplit(address).netloc, RETRY
        if host in self.out_of_reach:
            raise Unavailable(self.out_of_reach[host])
        while True:
            before = _size(path)
            try:
                return self._go_on(address, path)
            except (ConnectionError, Timeout, ChunkedEncodingError, HTTPError) as error:
                answer = error.response
                if answer is not None and answer.status_code not in PASSING:
                    raise
                try:
                    retry = (RETRY if _size(path) > before else retry).increment(error=error)
                except urllib3.exceptions.MaxRetryError:
                    reason = f"{_reason(error)}, {RETRY.total + 1} times"
                    if answer is None and not isinstance(error, ChunkedEncodingError):
                        self.out_of_reach[host] = reason
                    size, origin = self._left(address, path)
                    raise Unavailable(
                        f"{reason}; its first {size} bytes are kept, run again to go on"
                        if origin and origin.validator
                        else reason
                    ) from None
                print(f"{_title(path)}: {_reason(error)}: trying again", file=sys.stderr)
                retry.sleep(None if answer is None else answer.raw)

    def _go_on(self, address: str, path: Path) -> None:
        """One try.

        Raises:
            RequestException: it broke off, or the server has answered with an error.
            Unavailable: it is too large.
        """
        offset, origin = self._left(address, path)
        headers = {"Accept-Encoding": "identity"}  # places in the file are meant, not in a packed form of it
        if origin:
            headers["Range"] = f"bytes={offset}-"
            if origin.validator:
                headers["If-Range"] = origin.validator
        with self.session.get(address, headers=headers, stream=True, timeout=SECONDS) as answer:
            if origin and answer.status_code == 416 and answer.headers.get("Content-Range") == f"bytes */{offset}":
                return  # nothing is missing
            if origin and answer.status_code in (206, 416) and not origin.goes_on(offset, answer):
                discard(path)
                raise ConnectionError("it sent no part of the same file")
            if answer.status_code == 200:
                offset, origin = 0, Origin.of(address, answer)
                self._begin(path, origin)
            elif not (origin and answer.status_code == 206):
                raise HTTPError(f"{answer.status_code} {shortened(answer.reason, 40)}", response=answer)
            total = int(origin.length) if origin.length else None
            with (
                path.open("ab") as file,
                tqdm(initial=offset, total=total, unit="B", unit_scale=True, desc=_title(path)) as bar,
            ):
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
                    if bar.n > MOST_BYTES:
                        discard(path)
                        raise Unavailable(f"more than {MOST_BYTES} bytes")

    def _left(self, address: str, path: Path) -> tuple[int, Origin | None]:
        """How many bytes of an address's file are there to go on with; what a server can't tell from another file, in the same run alone."""
        origin, size = _noted(path), _size(path)
        usable = (
            origin is not None and origin.address == address and size > 0 and (origin.validator or path in self.begun)
        )
        return (size, origin) if usable else (0, None)

    def _begin(self, path: Path, origin: Origin) -> None:
        """An empty file, then its note."""
        discard(path)
        path.touch()
        _note(path).write_text(json.dumps(astuple(origin)), encoding="utf-8")
        self.begun.add(path)


def parts(path: Path) -> tuple[Path, Path]:
    """The files that a download to `path` that broke off leaves: itself, and its note."""
    return path, _note(path)


def discard(path: Path) -> None:
    """Remove what a download to `path` has left."""
    for part in parts(path):
        part.unlink(missing_ok=True)


def _note(path: Path) -> Path:
    """Beside an unfinished file: its origin."""
    return path.with_name(f"{path.name}.json")


def _noted(path: Path) -> Origin | None:
    try:
        return Origin(*map(str, json.loads(_note(path).read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _title(path: Path) -> str:
    return path.name.removeprefix(".").removesuffix(".partial")


def _reason(error: Exception) -> str:
    """The innermost of errors in errors, without the names of Python's objects."""
    whose = "the proxy: " if isinstance(error, ProxyError) else ""
    while inner := getattr(error, "reason", None) or next(
        (each for each in error.args if isinstance(each, Exception)), None
    ):
        if not isinstance(inner, Exception):
            break
        error = inner
    return shortened(whose + re.sub(r"^(<.*?>|\w+\(.*?\)): ", "", str(error)), 120)
