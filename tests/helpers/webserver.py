"""A local web server with configurable faults: error statuses, broken connections, wrong headers."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WebServer:
    """Files by path, and the faults of the next responses; each entry of a list is used for one response."""

    files: dict[str, bytes]
    statuses: list[int] = field(default_factory=list)  # sent instead of a file
    cuts: list[int] = field(default_factory=list)  # bytes sent before the connection breaks
    after: dict[str, bytes] = field(default_factory=dict)  # replaces files after a cut
    headers: dict[str, str] = field(default_factory=dict)  # added to each response
    redirects: dict[str, str] = field(default_factory=dict)  # target by path
    ranges: bool = True
    if_range: bool = True
    hold: bool = False  # the first cut leaves the connection open, without sending more
    shift: int = 0  # added to the start of each requested range
    etag: bool = True
    last_modified: str = ""
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)  # path, Range and If-Range
    address: str = ""
    released: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def serving(self) -> Iterator["WebServer"]:
        with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"web": self})) as server:
            self.address = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self.released.set()
                server.shutdown()
                thread.join()


class _Handler(BaseHTTPRequestHandler):
    web: WebServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        web = self.web
        web.requests.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        if self.path in web.redirects:
            self._head(302, {"Location": web.redirects[self.path]})
        elif web.statuses:
            self._head(web.statuses.pop(0), {"Content-Length": "0"})
        elif self.path not in web.files:
            self._head(404, {"Content-Length": "0"})
        else:
            self._send(web.files[self.path])

    def _send(self, content: bytes):
        web, headers, status, start = self.web, {}, 200, 0
        if web.etag:
            headers["ETag"] = f'"{hashlib.md5(content).hexdigest()}"'
        if web.last_modified:
            headers["Last-Modified"] = web.last_modified
        unchanged = self.headers["If-Range"] in (None, *headers.values())
        requested = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if requested and web.ranges and (unchanged or not web.if_range):
            start = int(requested[1]) + web.shift
            if start >= len(content):
                self._head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
                return
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(status, headers | {"Content-Length": str(len(content) - start)})
        self.wfile.write(content[start : start + web.cuts[0]] if web.cuts else content[start:])
        if web.cuts:
            web.cuts.pop(0)
            web.files |= web.after
        if web.hold:
            web.hold = False
            web.released.wait(10)

    def _head(self, status: int, headers: dict[str, str]):
        self.send_response(status)
        for name, value in (headers | self.web.headers).items():
            self.send_header(name, value)
        self.end_headers()
