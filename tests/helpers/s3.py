"""A local S3 server, rclone's, that tests can kill and restart."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from psfr.sources import rclone

RCLONE = Path(sys.executable).parent / "rclone"  # that of requirements.txt


class S3:
    """Serve the folders of `root` as buckets of the rclone remote `s3:`."""

    def __init__(self, folder: Path):
        self.root = folder / "served"
        self.root.mkdir()
        self.config = folder / "rclone.conf"
        with socket.socket() as probe:  # finds a free port
            probe.bind(("127.0.0.1", 0))
            self.address = probe.getsockname()
        self.process: subprocess.Popen | None = None
        self.write_config()

    def write_config(self, secret: str = "its-secret") -> None:
        endpoint = "http://{}:{}".format(*self.address)
        self.config.write_text(
            f"[s3]\ntype = s3\nprovider = Rclone\nendpoint = {endpoint}\n"
            f"access_key_id = its-key\nsecret_access_key = {secret}\n"
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
        deadline = time.monotonic() + 300
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


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files by their path relative to a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def empty_dir(folder: Path) -> Path:
    """Make a folder, emptied if it exists."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def commands(monkeypatch) -> list[tuple[str, ...]]:
    """The arguments of each run of rclone."""
    run_once, seen = rclone.run_once, []

    def record(*arguments: str, **more) -> rclone.Outcome:
        seen.append(arguments)
        return run_once(*arguments, **more)

    monkeypatch.setattr(rclone, "run_once", record)
    return seen
