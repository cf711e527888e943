"""Download files over HTTP, resuming interrupted downloads in the same run or in a later one."""

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

from psfr.utils.errors import truncate

# Retries of temporary errors after 0, 2, 4, 8 and 16 s, or after what the server asks for.
RETRY = urllib3.Retry(total=5, backoff_factor=1, retry_after_max=120)
RETRY_STATUSES = {408, 429, 500, 502, 503, 504}

TIMEOUT = (10, 30)  # seconds to connect, and between two reads
MAX_BYTES = 2**31  # four times the largest file, so that an endless response does not fill the disk
CHUNK = 2**16


class DownloadError(Exception):
    """A file cannot be downloaded; the message is a short reason."""


@dataclass(frozen=True)
class RemoteFile:
    """The remote file that a partial download belongs to.

    Attributes:
        address: its URL.
        validator: strong ETag or Last-Modified date, which changes when the file does; empty if the server sends none.
        length: size in bytes as a decimal number; empty if unknown.
    """

    address: str
    validator: str
    length: str

    @staticmethod
    def from_response(address: str, response: requests.Response) -> "RemoteFile":
        """Return the remote file that a response describes in its headers."""
        headers = response.headers
        if headers.get("Content-Encoding", "identity") != "identity":  # validator and length are of the compressed file
            return RemoteFile(address, "", "")
        etag = headers.get("ETag", "W/")
        # A weak ETag does not identify the bytes.
        validator = headers.get("Last-Modified", "") if etag.startswith("W/") else etag
        length = headers.get("Content-Length", "")
        return RemoteFile(address, validator, length if length.isdecimal() else "")

    def is_continuation(self, offset: int, response: requests.Response) -> bool:
        """Return whether a response holds the bytes of the same file from `offset` on."""
        content_range = re.fullmatch(rf"bytes {offset}-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if response.status_code != 206 or content_range is None:
            return False
        same_validator = RemoteFile.from_response(self.address, response).validator in ("", self.validator)
        same_length = not self.length or content_range[1] in ("*", self.length)
        return same_validator and same_length


class Downloader:
    """The downloads of one run, with proxies and certificates from the environment.

    If a host is unreachable after all retries for one file, it is not tried again for the next.
    """

    def __init__(self) -> None:
        self.session = requests.Session()
        self.unreachable_hosts: dict[str, str] = {}  # with the reason
        self.started: set[Path] = set()

    def fetch(self, address: str, path: Path) -> None:
        """Download a file to `path`, resuming an earlier partial download if the server confirms the file is unchanged.

        Raises:
            DownloadError: the server does not have the file, fails after all retries, or sends more than MAX_BYTES.
                A partial file is kept for the next run if it can be resumed.
        """
        try:
            self._fetch_with_retries(address, path)
        except (RequestException, urllib3.exceptions.HTTPError, ValueError) as error:  # ValueError: malformed responses
            raise DownloadError(_reason(error)) from None
        except OSError as error:
            error.filename = error.filename or str(path)  # missing when the disk is full
            raise
        _metadata_path(path).unlink(missing_ok=True)

    def _fetch_with_retries(self, address: str, path: Path) -> None:
        """Try until the file is complete, or until all retries since the last received byte have failed."""
        host, retry = urlsplit(address).netloc, RETRY
        if host in self.unreachable_hosts:
            raise DownloadError(self.unreachable_hosts[host])
        while True:
            size_before = _size(path)
            try:
                return self._attempt(address, path)
            except (ConnectionError, Timeout, ChunkedEncodingError, HTTPError) as error:
                response = error.response
                if response is not None and response.status_code not in RETRY_STATUSES:
                    raise
                if _size(path) > size_before:
                    retry = RETRY
                try:
                    retry = retry.increment(error=error)
                except urllib3.exceptions.MaxRetryError:
                    raise self._give_up(error, host, address, path) from None
                print(f"{_display_name(path)}: {_reason(error)}: trying again", file=sys.stderr)
                retry.sleep(None if response is None else response.raw)

    def _give_up(self, error: RequestException, host: str, address: str, path: Path) -> DownloadError:
        reason = f"{_reason(error)}, {int(RETRY.total or 0) + 1} times"
        if error.response is None and not isinstance(error, ChunkedEncodingError):
            self.unreachable_hosts[host] = reason
        size, remote_file = self._resumable(address, path)
        if remote_file and remote_file.validator:
            return DownloadError(f"{reason}; its first {size} bytes are kept, run it again to resume")
        return DownloadError(reason)

    def _attempt(self, address: str, path: Path) -> None:
        """Make one request and append the response to the partial file.

        Raises:
            RequestException: the connection breaks or the server responds with an error.
            DownloadError: the file is too large.
        """
        offset, remote_file = self._resumable(address, path)
        headers = {"Accept-Encoding": "identity"}  # a range counts bytes of the file, not of a compressed form
        if remote_file:
            headers["Range"] = f"bytes={offset}-"
            if remote_file.validator:
                headers["If-Range"] = remote_file.validator
        with self.session.get(address, headers=headers, stream=True, timeout=TIMEOUT) as response:
            status = response.status_code
            if remote_file and status == 416 and response.headers.get("Content-Range") == f"bytes */{offset}":
                return  # the partial file was complete
            if remote_file and status in (206, 416) and not remote_file.is_continuation(offset, response):
                remove_partial(path)
                raise ConnectionError("it sent no part of the same file")
            if status == 200:
                offset, remote_file = 0, RemoteFile.from_response(address, response)
                self._start(path, remote_file)
            if remote_file is None or status not in (200, 206):
                raise HTTPError(f"{status} {truncate(response.reason, 40)}", response=response)
            total = int(remote_file.length) if remote_file.length else None
            with (
                path.open("ab") as file,
                tqdm(initial=offset, total=total, unit="B", unit_scale=True, desc=_display_name(path)) as bar,
            ):
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
                    if bar.n > MAX_BYTES:
                        remove_partial(path)
                        raise DownloadError(f"more than {MAX_BYTES} bytes")

    def _resumable(self, address: str, path: Path) -> tuple[int, RemoteFile | None]:
        """Return the size of the partial file of an address and its remote file; (0, None) if it cannot be resumed.

        Without a validator, a changed remote file cannot be detected, so only this run's partial files are resumed.
        """
        remote_file, size = _read_metadata(path), _size(path)
        if remote_file is None or remote_file.address != address or size == 0:
            return 0, None
        if not remote_file.validator and path not in self.started:
            return 0, None
        return size, remote_file

    def _start(self, path: Path, remote_file: RemoteFile) -> None:
        remove_partial(path)
        path.touch()  # before its metadata, which must never describe another file
        _metadata_path(path).write_text(json.dumps(astuple(remote_file)), encoding="utf-8")
        self.started.add(path)


def partial_files(path: Path) -> tuple[Path, Path]:
    """Return the files that an interrupted download to `path` leaves: the partial file and its metadata."""
    return path, _metadata_path(path)


def remove_partial(path: Path) -> None:
    """Remove what an interrupted download to `path` has left."""
    for file in partial_files(path):
        file.unlink(missing_ok=True)


def _metadata_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_metadata(path: Path) -> RemoteFile | None:
    """Return the remote file of a partial file; None if there is none or it is damaged."""
    try:
        return RemoteFile(*map(str, json.loads(_metadata_path(path).read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError):
        return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _display_name(path: Path) -> str:
    return path.name.removeprefix(".").removesuffix(".partial")


def _reason(error: Exception) -> str:
    """Return the message of the innermost nested exception, without the names of Python objects."""
    prefix = "the proxy: " if isinstance(error, ProxyError) else ""
    while inner := _nested(error):
        error = inner
    return truncate(prefix + re.sub(r"^(<.*?>|\w+\(.*?\)): ", "", str(error)), 120)


def _nested(error: Exception) -> Exception | None:
    """Return the exception that requests or urllib3 has wrapped in another."""
    candidates = [getattr(error, "reason", None), *error.args]
    return next((candidate for candidate in candidates if isinstance(candidate, Exception)), None)
