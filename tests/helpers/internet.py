"""A local stand-in for the internet: an HTTPS proxy that responds for the hosts itself.

Programs under test use it as any proxy, by its address and certificate, and request the real URLs.
"""

import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import trustme

Response = tuple[dict[str, str], bytes | Path]  # headers and content


@dataclass
class Internet:
    """Hosts by name: each maps a URL to a response, or to None if it does not have it."""

    hosts: dict[str, Callable[[str], Response | None]]
    requests: list[str] = field(default_factory=list)  # "METHOD URL"
    proxy: str = ""

    @contextmanager
    def serving(self, certificate: Path) -> Iterator[None]:
        """Serve at the address `proxy` in the `with` block; write the CA certificate of the hosts to `certificate`."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(certificate))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*self.hosts).configure_cert(context)
        with ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Bound", (_Proxy,), {"internet": self, "context": context})
        ) as server:
            self.proxy = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


class _Proxy(BaseHTTPRequestHandler):
    internet: Internet
    context: ssl.SSLContext
    protocol_version = "HTTP/1.1"
    host = ""

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        self.host = self.path.partition(":")[0]
        if self.host not in self.internet.hosts:
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        try:
            self.connection = self.request = self.context.wrap_socket(self.connection, server_side=True)
        except OSError:  # the client has disconnected
            self.close_connection = True
            return
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def do_GET(self):
        address = f"https://{self.host}{self.path}"
        self.internet.requests.append(f"GET {address}")
        response = self.internet.hosts[self.host](address) if self.host else None
        if response is None:
            self.send_error(404)
            return
        headers, content = response
        content = content.read_bytes() if isinstance(content, Path) else content
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part:
            first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
            headers = headers | {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            content = content[first : last + 1]
        self.send_response(206 if part else 200)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def folder(path: Path, prefix: str) -> Callable[[str], Response | None]:
    """Return a host that serves the files of a folder at `prefix`/NAME."""

    def respond(address: str) -> Response | None:
        name = urlsplit(address).path.removeprefix(prefix + "/")
        return ({}, path / name) if name in {file.name for file in path.iterdir()} else None

    return respond


class Drive:
    """The part of Google Drive's API, version 3, that lists and reads folders by their IDs.

    Args:
        folders: Local folder by ID; subfolders are included.
    """

    def __init__(self, folders: dict[str, Path]):
        self.files = {}
        for folder_id, folder in folders.items():
            self._add(folder_id, folder)

    def _add(self, folder_id: str, folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            file_id = f"{folder_id}-{path.name}"
            metadata = {
                "id": file_id,
                "name": path.name,
                "parents": [folder_id],
                "trashed": False,
                "modifiedTime": "2026-01-01T00:00:00.000Z",
                "createdTime": "2026-01-01T00:00:00.000Z",
            }
            if path.is_dir():
                self.files[file_id] = metadata | {"mimeType": "application/vnd.google-apps.folder"}, path
                self._add(file_id, path)
            else:
                content = path.read_bytes()
                checksums = {
                    f"{kind}Checksum": hashlib.new(kind, content).hexdigest() for kind in ("md5", "sha1", "sha256")
                }
                self.files[file_id] = (
                    metadata | checksums | {"mimeType": "application/octet-stream", "size": str(len(content))},
                    path,
                )

    def __call__(self, address: str) -> Response | None:
        parts = urlsplit(address)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        json_headers = {"Content-Type": "application/json"}
        if parts.path == "/drive/v3/files":
            found = [metadata for metadata, _ in self.files.values() if _matches(metadata, query["q"])]
            return json_headers, json.dumps({"files": found, "incompleteSearch": False}).encode()
        metadata, path = self.files.get(parts.path.rpartition("/")[2], (None, None))
        if metadata is None:
            return None
        if query.get("alt") == "media":
            return {}, path
        return json_headers, json.dumps(metadata).encode()


def _matches(metadata: dict, query: str) -> bool:
    """Evaluate the search terms that rclone sends: parents, names and MIME types."""
    parents, names = re.findall(r"'([^']+)' in parents", query), re.findall(r"name ?= ?'([^']+)'", query)
    is_folder = metadata["mimeType"].endswith(".folder")
    terms = {
        "mimeType='application/vnd.google-apps.folder'": is_folder,
        "mimeType!='application/vnd.google-apps.folder'": not is_folder,
    }
    return (
        (not parents or metadata["parents"][0] in parents)
        and (not names or metadata["name"] in names)
        and all(is_true for term, is_true in terms.items() if term in query)
    )
