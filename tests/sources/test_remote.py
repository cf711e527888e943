"""Sets from rclone remotes: an S3 server that is killed and restarted, interrupted transfers, corrupt files."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from psfr import sources
from psfr.data.subset import choose_subset
from psfr.sources import checksums, fetching, rclone, remote
from psfr.utils.errors import UserError
from tests.helpers.s3 import commands, s3, write_files  # noqa: F401 - commands and s3 are fixtures
from tests.helpers.sets import ROOT, read_tree, write_params

FETCHED = ".ffhq-rclone.partial/images"


def picture(seed: int, suffix: str = ".png", size: int = 64) -> bytes:
    return cv2.imencode(suffix, np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8))[1].tobytes()


def ffhq(count: int = 24, size: int = 64) -> dict[str, bytes]:
    """Return images in folders named as those of FFHQ, four in each."""
    return {f"{number // 4 * 4:05}/{number:05}.png": picture(number, size=size) for number in range(count)}


def ffhq_list(files: dict[str, bytes]) -> bytes:
    """Return FFHQ's list of the files."""
    entries = {}
    for path, content in files.items():
        image = {
            "file_url": "https://host.invalid",
            "file_path": f"images1024x1024/{path}",
            "file_size": len(content),
            "file_md5": hashlib.md5(content).hexdigest(),
        }
        entries[str(int(Path(path).stem))] = {
            "category": "training",
            "image": image | {"face_landmarks": [[1.5, 2.5]]},
            "thumbnail": image | {"file_md5": "0" * 32},
        }
    return json.dumps(entries).encode()


def download(folder: Path, address: str, **more) -> dict[str, bytes]:
    """Download a set, after earlier runs if there were any, and return the files of `raw`."""
    params = write_params(folder, ffhq={"source": "rclone", "images": address, "count": None} | more)
    (folder / "raw").mkdir(exist_ok=True)
    sources.download_set(folder / "raw", "ffhq", params)
    assert [path.name for path in folder.iterdir() if path.is_dir() and path.name.startswith(".")] == []
    return read_tree(folder / "raw")


def flat(files: dict[str, bytes]) -> dict[str, bytes]:
    return {Path(name).name: content for name, content in files.items()}


# Interruptions


@pytest.mark.parametrize("later", [False, True], ids=["in one run", "in a later run"])
def test_server_is_killed_and_restarted(tmp_path, s3, monkeypatch, capsys, later):
    files = ffhq(32, 128)
    write_files(s3.root / "faces", files)
    monkeypatch.setenv("RCLONE_BWLIMIT", "600k")
    folder = tmp_path / "set"
    before_kill = {}

    def interrupt() -> None:
        while len(list(folder.rglob("*.png"))) < 4:
            time.sleep(0.01)
        s3.kill()
        before_kill.update({path.name: path.stat().st_ino for path in folder.rglob("*.png")})
        if not later:
            time.sleep(1)
            s3.start()

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    if later:
        monkeypatch.setattr(rclone, "RETRY_DELAYS", ())
        monkeypatch.setattr(rclone, "MAX_CONSECUTIVE_ERRORS", 1)
        with pytest.raises(UserError, match="s3:faces: .*connection refused.*run it again to resume"):
            download(folder, "s3:faces")
        interrupter.join()
        s3.start()
        assert not read_tree(folder / "raw")
    assert download(folder, "s3:faces") == flat(files)
    interrupter.join()
    assert 4 <= len(before_kill) < len(files)
    assert {name: (folder / "raw" / name).stat().st_ino for name in before_kill} == before_kill, "fetched again"
    assert "B/s" in capsys.readouterr().err


def test_unreadable_files_are_named_and_hold_up_no_others(tmp_path, monkeypatch):
    """The first files cannot be read, twice as many as end one run of rclone."""
    forbidden = [f"a{number}.png" for number in range(2 * rclone.MAX_CONSECUTIVE_ERRORS)]
    others = [f"b{number}.png" for number in range(5)]
    monkeypatch.setattr(rclone, "RETRY_DELAYS", (0, 0, 0))

    def run(*arguments, **_):
        failed = {}
        for path in sorted(Path(arguments[arguments.index("--files-from-raw") + 1]).read_text().split()):
            if path in forbidden:
                failed[path] = "403 forbidden"
            else:
                write_files(tmp_path / "to", {path: b"x"})
            if len(failed) == rclone.MAX_CONSECUTIVE_ERRORS:
                break
        return rclone.Outcome(1 if failed else 0, "403 forbidden", failed, len(failed) == rclone.MAX_CONSECUTIVE_ERRORS)

    monkeypatch.setattr(rclone, "run_once", run)
    with pytest.raises(UserError, match=r"403 forbidden \(16 of 21 files are missing\)"):
        fetching.copy("s3:faces", dict.fromkeys(forbidden + others, 1), tmp_path / "to", "fetch")
    assert sorted(read_tree(tmp_path / "to")) == others
    with pytest.raises(UserError, match="s3:faces/a0.png: 403 forbidden; s3:faces/a1.png: 403 forbidden: check that"):
        fetching.copy("s3:faces", dict.fromkeys(forbidden[:2] + others, 1), tmp_path / "to", "fetch")


def test_rclone_ends_with_the_process_that_runs_it(tmp_path, s3, monkeypatch):
    write_files(s3.root / "faces", {"a.png": bytes(2**20)})
    monkeypatch.setenv("RCLONE_BWLIMIT", "20k")
    program = (
        "import sys; from pathlib import Path; from psfr.sources import fetching; "
        "fetching.copy('s3:faces', {'a.png': 2**20}, Path(sys.argv[1]), 'fetch')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "to")], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob("to/*.partial")):
        assert process.poll() is None
        time.sleep(0.05)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 300
    while os.path.exists(f"/proc/{child}") and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list(tmp_path.glob("to/*.png"))


def test_a_server_out_of_reach_and_a_wrong_key_are_one_line(tmp_path, s3, monkeypatch):
    write_files(s3.root / "faces", ffhq(4))
    monkeypatch.setattr(rclone, "RETRY_DELAYS", (0.1,))
    s3.write_config("another-secret")
    with pytest.raises(UserError, match="rclone: s3:faces: .*SignatureDoesNotMatch.*rclone config"):
        download(tmp_path / "set", "s3:faces")
    s3.kill()
    with pytest.raises(UserError, match="rclone: s3:faces: .*connection refused.*rclone config"):
        download(tmp_path / "set", "s3:faces")


# Corrupt files


def test_only_corrupt_files_are_fetched_again(tmp_path, s3, commands):
    """A truncated file, an empty one, one with a flipped bit in its pixels, and a partial file of rclone."""
    files = {f"{number}.bmp": picture(number, ".bmp") for number in range(6)}
    write_files(s3.root / "faces", files)
    flipped = bytearray(files["1.bmp"])
    flipped[2000] ^= 1
    write_files(
        tmp_path / "set" / FETCHED,
        files | {"0.bmp": files["0.bmp"][:3000], "1.bmp": bytes(flipped), "2.bmp": b"", "9.bmp": b"of another subset"},
    )
    write_files(tmp_path / "set" / FETCHED, {"3.bmp.1a2b3c4d.partial": files["3.bmp"]})
    (tmp_path / "set" / FETCHED / "3.bmp").unlink()
    kept = {name: (tmp_path / "set" / FETCHED / name).stat().st_ino for name in ("4.bmp", "5.bmp")}
    assert download(tmp_path / "set", "s3:faces") == files
    assert {name: (tmp_path / "set" / "raw" / name).stat().st_ino for name in kept} == kept
    assert [command[0] for command in commands] == ["backend", "lsjson", "copy", "copy"], (
        "listed once, fetched, fetched again"
    )


def test_moved_images_are_not_fetched_again(tmp_path, s3, commands):
    """An earlier run was interrupted while it moved files."""
    files = ffhq(8)
    write_files(s3.root / "faces", files)
    write_files(tmp_path / "set" / FETCHED, dict(list(files.items())[:4]))
    write_files(tmp_path / "set" / "raw", flat(dict(list(files.items())[4:])))
    assert download(tmp_path / "set", "s3:faces") == flat(files)
    assert "copy" not in [command[0] for command in commands]


def test_files_that_are_corrupt_on_the_remote_are_named(tmp_path, s3):
    files = ffhq(8)
    write_files(
        s3.root / "faces", files | {"00000/00001.png": files["00000/00001.png"][:2000], "00004/00006.png": b"no image"}
    )
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            download(tmp_path / "set", "s3:faces")
        assert "s3:faces/00000/00001.png: not a readable image" in str(
            caught.value
        ) and "s3:faces/00004/00006.png: not" in str(caught.value)
        assert "00002.png" not in str(caught.value) and "partial" not in str(caught.value)
    assert not read_tree(tmp_path / "set" / "raw")
    write_files(s3.root / "faces", files)
    assert download(tmp_path / "set", "s3:faces") == flat(files)


@pytest.mark.parametrize("location", ["in the parent", "beside the images", "at the root"])
def test_checksums_of_ffhq(tmp_path, s3, capsys, location):
    """One image differs from FFHQ's list, but is readable and has the hash that the server states."""
    files = ffhq(8)
    bucket = s3.root / "faces"
    write_files(bucket / "images1024x1024", files | {"00004/00005.png": picture(99)})
    write_files(
        bucket / ("images1024x1024" if location == "beside the images" else ""), {checksums.FFHQ_LIST: ffhq_list(files)}
    )
    address = "s3:faces" if location == "at the root" else "s3:faces/images1024x1024"
    md5 = hashlib.md5(picture(99)).hexdigest()
    with pytest.raises(
        UserError, match=f"images1024x1024/00004/00005.png: has MD5 {md5}, ffhq-dataset-v2.json says"
    ) as caught:
        download(tmp_path / "set", address)
    assert "00004.png" not in str(caught.value)
    assert "has the checksums of 8 of 8 images" in capsys.readouterr().err
    write_files(bucket / "images1024x1024", files)
    assert download(tmp_path / "set", address) == flat(files)


def test_file_that_is_fixed_on_the_remote_during_a_run(tmp_path, s3, monkeypatch):
    files = {"a.png": picture(1), "b.png": picture(2)}
    flipped = bytearray(files["b.png"])
    flipped[-40] ^= 1
    write_files(s3.root / "faces", files)
    fetch = remote.RemoteDir.fetch

    def fixed(self, paths, description):
        write_files(s3.root / "faces", files if description.endswith("again") else {"b.png": bytes(flipped)})
        fetch(self, paths, description)

    monkeypatch.setattr(remote.RemoteDir, "fetch", fixed)
    assert download(tmp_path / "set", "s3:faces") == files


def test_checksums_of_ffhq_are_not_used_for_other_sizes(tmp_path, s3, capsys):
    files = ffhq(4)
    write_files(
        s3.root / "faces" / "images64x64", {name: picture(number, size=32) for number, name in enumerate(files)}
    )
    write_files(s3.root / "faces", {checksums.FFHQ_LIST: ffhq_list(files)})
    assert len(download(tmp_path / "set", "s3:faces/images64x64")) == 4
    assert "has the checksums of 0 of 4 images" in capsys.readouterr().err


_ENTRY = '{"0": {"image": {"file_path": "00000.png", "file_md5": %s}}}'


@pytest.mark.parametrize("text", ["", "{", "[]", '{"0": 3}', _ENTRY % 5, _ENTRY % '"xyz"', "[" * 100_000])
def test_damaged_list_of_checksums(tmp_path, text):
    (tmp_path / checksums.FFHQ_LIST).write_text(text)
    with pytest.raises(UserError, match=r"ffhq-dataset-v2\.json: damaged"):
        checksums.read_ffhq_checksums(tmp_path / checksums.FFHQ_LIST, {"00000.png": Path("x")})


# Selection of files


def test_seeded_subset(tmp_path, s3, commands):
    files = ffhq(24)
    write_files(s3.root / "faces", files)
    first = download(tmp_path / "a", "s3:faces", count=10)
    rest = download(tmp_path / "b", "s3:faces", count=None, skip=10)
    assert first | rest == flat(files) and not first.keys() & rest.keys()
    assert sorted(first) == [
        f"{stem}.png" for stem in choose_subset([Path(name).stem for name in files], 10, 0, 1, "ffhq", "there")
    ]
    assert all("--no-traverse" in command for command in commands if command[0] == "copy"), (
        "few files are requested by name"
    )


def test_images_in_an_archive_on_a_remote(tmp_path, s3, commands, monkeypatch):
    """The CelebA-HQ folder of the reimplementation holds archives."""
    monkeypatch.setattr(fetching, "MAX_NO_TRAVERSE", 2)
    files = {f"{number:05}.jpg": picture(number, ".jpg") for number in range(1, 9)}
    (s3.root / "celebahq").mkdir()
    with zipfile.ZipFile(s3.root / "celebahq" / "data1024x1024.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"data1024x1024/{name}", content)
    with pytest.raises(
        UserError,
        match="no images in it: to read those in data1024x1024.zip, name `:archive:s3:celebahq/data1024x1024.zip`",
    ):
        download(tmp_path / "set", "s3:celebahq")
    taken = download(tmp_path / "set", ":archive:s3:celebahq/data1024x1024.zip", count=5)
    assert len(taken) == 5 and taken.items() <= files.items()
    assert "crc32" in next(command for command in reversed(commands) if command[0] == "lsjson")


@pytest.mark.parametrize(
    ("remote", "parent"),
    [
        ("drive:ffhq/images1024x1024", ("drive:ffhq", "images1024x1024")),
        ("drive:images/", ("drive:", "images")),
        ("drive,root_folder_id=1u2x:images1024x1024", ("drive,root_folder_id=1u2x:", "images1024x1024")),
        (":archive:drive:a/b.zip", (":archive:drive:a", "b.zip")),
        ("/data/ffhq", ("/data", "ffhq")),
        ("ffhq", (".", "ffhq")),
        ("drive:", None),
        ("/", None),
        ("..", None),
    ],
)
def test_parent_remote(remote, parent):
    assert fetching.parent_remote(remote) == parent
