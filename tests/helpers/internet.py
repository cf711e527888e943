"""A stand-in for the internet on this machine: an HTTPS proxy that answers for the hosts itself.

Programs reach it as they would reach a company's proxy, by its address and its certificates; what they ask for are the real addresses.
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

Answer = tuple[dict[str, str], bytes | Path]  # headers, and what comes


@dataclass
class Internet:
    """Hosts by name: each takes an address and answers, or gives None for what it has not."""

    hosts: dict[str, Callable[[str], Answer | None]]
    asked: list[str] = field(default_factory=list)  # METHOD ADDRESS, in order
    proxy: str = ""

    @contextmanager
    def serving(self, certificate: Path) -> Iterator[None]:
        """Answer at the address `proxy` meanwhile; `certificate` becomes the file of the authority that vouches for the hosts."""
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
        except OSError:  # who asked has gone
            self.close_connection = True
            return
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def do_GET(self):
        address = f"https://{self.host}{self.path}"
        self.internet.asked.append(f"GET {address}")
        answer = self.internet.hosts[self.host](address) if self.host else None
        if answer is None:
            self.send_error(404)
            return
        headers, content = answer
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


def folder(path: Path, prefix: str) -> Callable[[str], Answer | None]:
    """A host that has the files of a folder at `prefix`/NAME."""

    def answer(address: str) -> Answer | None:
        name = urlsplit(address).path.removeprefix(prefix + "/")
        return ({}, path / name) if name in {file.name for file in path.iterdir()} else None

    return answer


class Drive:
    """Google Drive's interface, version 3, as far as reading goes: folders by their IDs, listed and fetched.

    Args:
        folders: an ID for each folder of files on this machine, however deep.
    """

    def __init__(self, folders: dict[str, Path]):
        self.files = {}
        for identity, folder in folders.items():
            self._add(identity, folder)

    def _add(self, identity: str, folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            own = f"{identity}-{path.name}"
            about = {
                "id": own,
                "name": path.name,
                "parents": [identity],
                "trashed": False,
                "modifiedTime": "2026-01-01T00:00:00.000Z",
                "createdTime": "2026-01-01T00:00:00.000Z",
            }
            if path.is_dir():
                self.files[own] = about | {"mimeType": "application/vnd.google-apps.folder"}, path
                self._add(own, path)
            else:
                content = path.read_bytes()
                sums = {f"{kind}Checksum": hashlib.new(kind, content).hexdigest() for kind in ("md5", "sha1", "sha256")}
                self.files[own] = (
                    about | sums | {"mimeType": "application/octet-stream", "size": str(len(content))},
                    path,
                )

    def __call__(self, address: str) -> Answer | None:
        parts = urlsplit(address)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/drive/v3/files":
            found = [about for about, _ in self.files.values() if _matches(about, query["q"])]
            return {"Content-Type": "application/json"}, json.dumps(
                {"files": found, "incompleteSearch": False}
            ).encode()
        about, path = self.files.get(parts.path.rpartition("/")[2], (None, None))
        if about is None:
            return None
        return (
            ({}, path)
            if query.get("alt") == "media"
            else ({"Content-Type": "application/json"}, json.dumps(about).encode())
        )


def _matches(about: dict, query: str) -> bool:
    """Drive's search terms, of those that rclone sends: parents, names and kinds."""
    parents, names = re.findall(r"'([^']+)' in parents", query), re.findall(r"name ?= ?'([^']+)'", query)
    is_folder = about["mimeType"].endswith(".folder")
    wanted = {
        "mimeType='application/vnd.google-apps.folder'": is_folder,
        "mimeType!='application/vnd.google-apps.folder'": not is_folder,
    }
    return (
        (not parents or about["parents"][0] in parents)
        and (not names or about["name"] in names)
        and all(right for term, right in wanted.items() if term in query)
    )
