"""A real S3 server on loopback: rclone's own, which can be killed and started again."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

RCLONE = Path(sys.executable).parent / "rclone"  # of the requirements


class S3:
    """Serves the folder `root`, its folders being the buckets, as the remote `s3:`."""

    def __init__(self, folder: Path):
        self.root = folder / "served"
        self.root.mkdir()
        self.config = folder / "rclone.conf"
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.address = taken.getsockname()
        self.process = None
        self.write_config()

    def write_config(self, secret: str = "its-secret") -> None:
        endpoint = "http://{}:{}".format(*self.address)
        self.config.write_text(
            f"[s3]\ntype = s3\nprovider = Rclone\nendpoint = {endpoint}\naccess_key_id = its-key\nsecret_access_key = {secret}\n"
        )

    def start(self) -> None:
        command = [
            RCLONE,
            "serve",
            "s3",
            "--auth-key",
            "its-key,its-secret",
            "--addr",
            "{}:{}".format(*self.address),
            "--dir-cache-time",
            "0s",
            self.root,
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(self.address).close()
                return
            except ConnectionRefusedError:
                assert self.process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def s3(tmp_path, monkeypatch) -> Iterator[S3]:
    server = S3(tmp_path)
    monkeypatch.setenv("RCLONE_CONFIG", str(server.config))
    server.start()
    yield server
    server.kill()


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
