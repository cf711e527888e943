"""A web server on this machine whose faults are chosen: what it answers, where it breaks off, what it says of its files."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WebServer:
    """Files by path, and the faults of the next answers, which are used up one by one."""

    files: dict[str, bytes]
    statuses: list[int] = field(default_factory=list)  # to answer with, instead of a file
    cuts: list[int] = field(default_factory=list)  # so many bytes are sent, then the connection breaks
    after: dict[str, bytes] = field(default_factory=dict)  # the files once an answer has been cut
    headers: dict[str, str] = field(default_factory=dict)  # more of every answer
    moved: dict[str, str] = field(default_factory=dict)  # path to the one that is to be asked for
    ranges: bool = True
    if_range: bool = True
    hold: bool = False  # the first connection that is cut does not break: nothing more comes
    shift: int = 0  # of what is sent, from what was asked for
    etag: bool = True
    modified: str = ""
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)  # path, Range and If-Range
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
        web.asked.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        if self.path in web.moved:
            self._head(302, {"Location": web.moved[self.path]})
        elif web.statuses:
            self._head(web.statuses.pop(0), {"Content-Length": "0"})
        elif self.path not in web.files:
            self._head(404, {"Content-Length": "0"})
        else:
            self._send(web.files[self.path])

    def _send(self, content: bytes):
        web, about, status, start = self.web, {}, 200, 0
        if web.etag:
            about["ETag"] = f'"{hashlib.md5(content).hexdigest()}"'
        if web.modified:
            about["Last-Modified"] = web.modified
        same = self.headers["If-Range"] in (None, *about.values())
        if (
            web.ranges
            and (same or not web.if_range)
            and (asked := re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or ""))
        ):
            start = int(asked[1]) + web.shift
            if start >= len(content):
                self._head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
                return
            status, about["Content-Range"] = 206, f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(status, about | {"Content-Length": str(len(content) - start)})
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
