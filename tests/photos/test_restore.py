"""`psfr.restore` and `psfr.align`: kinds of photographs, models, options and errors."""

import contextlib
import functools
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from psfr import align, restore
from psfr.data import images, labels
from psfr.metrics import identity
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.photos import album, alignment, detection, io, models, restoration, strength
from psfr.photos.alignment import Frame
from psfr.photos.io import Photograph
from psfr.photos.restorer import Restoration, Restorer
from psfr.pretrained import network_files
from psfr.utils.errors import UserError, printable
from tests.helpers import photos
from tests.helpers.running import run_command

SIZE = 64
SMALL_FPN = {
    "image_size": SIZE,
    "min_feature_size": 32,
    "base_channels": 8,
    "min_channels": 8,
    "max_channels": 8,
    "body_blocks": 1,
}
SMALL_GENERATOR = {"image_size": SIZE, "constant_size": 16, "min_channels": 8, "max_channels": 8}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """The folder of a run, with small networks of random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    serialization.save(folder / "models" / models.FPN_FILE, FaceParsingNetwork(**SMALL_FPN), **SMALL_FPN)
    serialization.save(folder / "models" / models.GENERATOR_FILE, Generator(**SMALL_GENERATOR), **SMALL_GENERATOR)
    return folder


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Run a command with arguments; return its exit status, stdout and stderr."""

    def call(cli: Callable[[], None], *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        status, message = 0, ""
        try:
            cli()
        except SystemExit as stop:
            status, message = (stop.code, "") if isinstance(stop.code, int) else (1, stop.code)
        out, err = capsys.readouterr()
        return status, out, err + message

    return call


@pytest.fixture
def run_restore(run_cli, run_folder):
    """Run psfr.restore with arguments, as `run_cli` does."""

    def call(*arguments: object, model: object = run_folder) -> tuple[int, str, str]:
        return run_cli(restore.cli, *arguments, "--model", model)

    return call


@pytest.fixture
def fixed_detection(monkeypatch):
    """Replace the detection, which is slow: a square photo with content shows the astronaut."""

    def find_faces(image: np.ndarray) -> list[Frame]:
        height, width = image.shape[:2]
        return [photos.FRAME.scaled(height / 256)] if height == width and image.std() > 20 else []

    monkeypatch.setattr(detection, "find_faces", find_faces)


@pytest.fixture
def instant_restore(monkeypatch):
    """Replace the restoration: a square photo has a face, and stays as it is."""
    nothing = np.zeros((8, 8, 3), np.uint8)
    face = restoration.RestoredFace(
        photos.FRAME, nothing, nothing[:, :, 0], nothing[:, :, 0], nothing, 1.0, (0.5, 0.1), 0.3, 1
    )

    def restore_none(_: Restorer, photograph: Photograph, **__) -> Restoration:
        height, width = photograph.pixels.shape[:2]
        faces = [face] if height == width else []
        return Restoration(photograph, faces, len(faces))

    monkeypatch.setattr(Restorer, "restore", restore_none)


def visible_files(folder: Path) -> list[str]:
    """Return the relative paths of the files in a folder, without hidden ones, sorted."""
    return sorted(str(path.relative_to(folder)) for path in images.walk_files(folder))


def restore_flawed(
    photo: np.ndarray, scale: int = 1, weight: float | None = 1.0
) -> tuple[Photograph, list[restoration.RestoredFace]]:
    restored = restoration.restore(Photograph(photo), photos.flawed_restorer, photos.SIZE, scale, weight)
    return restored.image, restored.faces


@pytest.mark.heavy
@pytest.mark.parametrize("degrees", [0, 20, 45])
def test_restores_a_rotated_face_in_place(degrees):
    photo, true = photos.rotated(degrees)
    result, faces = restore_flawed(photo)
    assert len(faces) == 1 and abs(faces[0].frame.center - true.center) < 5
    rows, columns = alignment.window(faces[0].frame, photo.shape)
    outside = np.ones(photo.shape[:2], bool)
    outside[rows, columns] = False
    assert (result.pixels[outside] == photo[outside]).all()
    assert abs(detection.find_faces(result.pixels)[0].center - true.center) < 5
    assert 0 < faces[0].identity_distance < 0.7


@pytest.mark.heavy
@pytest.mark.parametrize("side", ["left", "top", "right", "bottom"])
def test_restores_a_cut_face(monkeypatch, side):
    """The frame is that of the whole face, and nothing changes beside the head."""
    photo, true = photos.cut(side, 0.36)
    monkeypatch.setattr(detection, "_all_candidates", lambda _: [(1.0, Frame(true.corner - 3, true.side * 1.03))])
    result, (face,) = restore_flawed(photo)
    assert face.frame.size == pytest.approx(true.size, rel=0.05)
    head = alignment.uncrop((photos.parsing_map(512) > 0).astype(np.float32), true, photo.shape)
    changed = (result.pixels != photo).any(2)
    assert not changed[cv2.dilate(head, np.ones((9, 9))) == 0].any() and changed[head > 0.9].mean() > 0.3
    assert 0 < face.identity_distance < 0.7


@pytest.mark.heavy
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_scale(fixed_detection, scale):
    result, faces = restore_flawed(photos.astronaut(), scale)
    assert result.pixels.shape == (256 * scale, 256 * scale, 3)
    assert 0 < faces[0].identity_distance < 0.6
    small = cv2.resize(result.pixels, (256, 256), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small - restore_flawed(photos.astronaut())[0].pixels).mean() < 1.5


def test_strength_0_changes_nothing(fixed_detection):
    result, faces = restore_flawed(photos.astronaut(), 1, 0.0)
    assert (result.pixels == photos.astronaut()).all()
    assert faces[0].identity_distance == 0


def blurred_astronaut() -> np.ndarray:
    return cv2.resize(cv2.resize(photos.astronaut(), (32, 32), interpolation=cv2.INTER_AREA), (256, 256))


@pytest.mark.parametrize("convert", [np.copy, images.gray, photos.sepia])
def test_auto_keeps_a_good_face(fixed_detection, convert):
    photo = convert(photos.astronaut())
    result, faces = restore_flawed(photo, 1, None)
    assert (result.pixels == photo).all()
    assert faces[0].strength == faces[0].identity_distance == 0
    assert faces[0].severities[0] == faces[0].severities[1] < strength.MIN_SEVERITY


def test_auto_restores_a_degraded_face(fixed_detection):
    """Auto is what `strength` chooses for the aligned face, at any scale."""
    photo = blurred_astronaut()
    result, faces = restore_flawed(photo, 2, None)
    assert faces[0].strength == strength.choose_strength(strength.estimate_severity(faces[0].aligned)) > 0.5
    assert (result.pixels == restore_flawed(photo, 2, faces[0].strength)[0].pixels).all()
    full = restore_flawed(photo, 2, 1.0)[1][0]
    assert (full.strength, full.severities[0]) == (1.0, faces[0].severities[0])
    assert full.severities[1] < full.severities[0], "flawed_restorer sharpens"


def test_auto_chooses_for_each_face(monkeypatch):
    """Of two faces in a photograph, the degraded one is restored."""
    photo = np.hstack([photos.astronaut(), blurred_astronaut()])
    frames = [photos.FRAME, Frame(photos.FRAME.corner + 256, photos.FRAME.side)]
    monkeypatch.setattr(detection, "find_faces", lambda image: frames)
    result, faces = restore_flawed(photo, 1, None)
    assert faces[0].strength == 0 < faces[1].strength
    assert (result.pixels[:, :250] == photo[:, :250]).all() and (result.pixels[:, 256:] != photo[:, 256:]).any()


@pytest.mark.heavy
def test_identity_distance_is_that_of_evaluate(fixed_detection, tmp_path):
    """The same number as `psfr.metrics.identity` computes from files of the aligned faces."""
    result, faces = restore_flawed(photos.astronaut())
    paths = [tmp_path / "before.png", tmp_path / "after.png"]
    for path, photo in zip(paths, (photos.astronaut(), result.pixels), strict=True):
        images.write(path, alignment.crop(photo, photos.FRAME, identity.SIZE))
    weights_dir = Path(importlib.util.find_spec(detection.PACKAGE).origin).parent / "models"
    assert identity.embedding_distances_from_files(paths, weights_dir) == [faces[0].identity_distance]


def test_twicing_recovers_what_the_network_removes(fixed_detection):
    """With a network that only blurs, so that the second restoration removes about as much as the first."""

    def blur(aligned: np.ndarray) -> restoration.Prediction:
        return photos.flawed_restorer(aligned)._replace(restored=cv2.GaussianBlur(aligned, (0, 0), 1.5))

    photo = photos.astronaut()
    once, twice = (
        restoration.restore(Photograph(photo), blur, photos.SIZE, 1, 1.0, twicing) for twicing in (False, True)
    )
    once_error, twice_error = (np.abs(result.image.pixels.astype(int) - photo).sum() for result in (once, twice))
    assert 0 < twice_error < 0.8 * once_error
    assert twice.faces[0].identity_distance < once.faces[0].identity_distance


def test_twicing_clips_levels():
    def invert(face: np.ndarray) -> restoration.Prediction:
        return photos.flawed_restorer(face)._replace(restored=255 - face)

    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert (restoration.apply_twicing(invert, black) == 0).all()
    assert (restoration.apply_twicing(invert, white) == 255).all()


@pytest.mark.heavy
def test_folder_of_all_kinds_of_photographs(fixed_detection, run_restore, tmp_path):
    """Gray, alpha, 16 bits, EXIF orientation, a name with a space, a subfolder; with --keep-faces."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    head = photos.astronaut()
    Image.fromarray(images.gray(head)[:, :, 0]).save(folder / "gray.png")
    alpha = np.full(head.shape[:2], 255, np.uint8)
    alpha[:9] = 0
    Image.fromarray(np.dstack([head, alpha])).save(folder / "with alpha.png")
    cv2.imwrite(str(folder / "deep.png"), head[:, :, ::-1].astype(np.uint16) * 257 + 5)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(head))).save(folder / "sub" / "turned.jpg", exif=exif, quality=98)
    status, out, _ = run_restore(folder, "-o", tmp_path / "out", "--strength", 1, "--keep-faces")
    assert status == 0 and "4 photographs restored" in out and out.count("identity distance") == 4
    for path in io.list_photos(folder):
        before, after = io.read(path), io.read(tmp_path / "out" / path.relative_to(folder).with_suffix(".png"))
        assert (after.pixels.dtype, after.gray) == (before.pixels.dtype, before.gray), path
        assert after.pixels.shape == before.pixels.shape, path
        assert (before.alpha is None) if after.alpha is None else (after.alpha == before.alpha).all()
        level = 257 if before.pixels.dtype == np.uint16 else 1
        assert (after.pixels[:, -40:] == before.pixels[:, -40:]).all()
        assert np.abs(after.pixels.astype(int) - before.pixels).max() > 5 * level
    assert np.abs(io.read(tmp_path / "out/sub/turned.png").pixels[:, -40:].astype(int) - head[:, -40:]).mean() < 3
    assert sorted(path.name for path in (tmp_path / "out/sub/faces").iterdir()) == [
        f"turned_1_{kind}.png" for kind in ("aligned", "regions", "restored")
    ]
    assert labels.read(tmp_path / "out/faces/deep_1_regions.png").shape == (SIZE, SIZE)
    assert images.read(tmp_path / "out/faces/gray_1_restored.png").shape == (SIZE, SIZE, 3)


@pytest.mark.heavy
def test_auto_is_the_default_strength_and_is_printed(fixed_detection, run_restore, tmp_path):
    images.write(tmp_path / "head.png", blurred_astronaut())
    outputs = {}
    for name, options in {"default": [], "auto": ["--strength", "auto"], "full": ["--strength", "1"]}.items():
        status, out, _ = run_restore(tmp_path / "head.png", "-o", tmp_path / f"{name}.png", *options)
        assert status == 0
        outputs[name] = re.search(
            r"frame of \d+ pixels, strength (\d\.\d\d), severity \d\.\d\d to \d\.\d\d, identity distance \d", out
        )[1]
    assert outputs["default"] == outputs["auto"] and 0.2 < float(outputs["auto"]) <= 1 and outputs["full"] == "1.00"
    assert (tmp_path / "default.png").read_bytes() == (tmp_path / "auto.png").read_bytes()


def test_photograph_without_a_face(fixed_detection, run_restore, tmp_path):
    Image.new("RGB", (60, 40), "olive").save(tmp_path / "field.png")
    status, out, _ = run_restore(tmp_path / "field.png", "-o", tmp_path / "out.png")
    assert status == 3 and "field.png: no face found" in out and not (tmp_path / "out.png").exists()
    status, out, _ = run_restore(tmp_path / "field.png", "-o", tmp_path / "out.png", "--copy-faceless", "--scale", 2)
    assert status == 3 and images.read(tmp_path / "out.png").shape == (80, 120, 3)


def test_continues_after_a_broken_photograph(fixed_detection, run_restore, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (60, 40), "olive").save(folder / "field.png")
    images.write(folder / "head.png", photos.astronaut())
    status, out, err = run_restore(folder, "-o", tmp_path / "out")
    assert status == 1
    assert "1 photographs restored, 1 without a face, 1 failed, 0 passed over" in out
    assert "broken.jpg: not a readable image" in err
    assert visible_files(tmp_path / "out") == ["head.png"]


NAMES_IN_BYTES = st.binary(max_size=20).filter(lambda name: not set(name) & set(b"/\0"))


@pytest.mark.heavy
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(restored=st.sets(NAMES_IN_BYTES, max_size=3), broken=st.sets(NAMES_IN_BYTES, min_size=1, max_size=2))
@example(restored={b"caf\xe9", b"line\nfeed", b"\x1b[31mred"}, broken={b"\xff\xfe", b"two\r\n"})
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_name_ends_an_album(instant_restore, monkeypatch, encoding, restored, broken):
    """Names in any encoding, on several lines, with escape sequences: each is restored or reported in one line."""
    monkeypatch.setattr(Restorer, "from_pretrained", lambda *_, **__: Restorer.__new__(Restorer))
    monkeypatch.setattr(models, "model_fingerprint", str)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        os.mkdir(f"{folder}/in")
        for name in restored:
            Image.new("RGB", (8, 8)).save(f"{folder}/in/r{os.fsdecode(name)}.png")
        for name in broken:
            Path(f"{folder}/in/b{os.fsdecode(name)}.jpg").write_bytes(b"no picture")
        out, err = (TextIOWrapper(BytesIO(), encoding) for _ in range(2))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr(sys, "argv", ["restore", f"{folder}/in", "-o", f"{folder}/out"])
        with pytest.raises(SystemExit) as end:
            restore.cli()
        expected = sorted(b"r" + name + b".png" for name in restored)
        found = os.listdir(os.fsencode(f"{folder}/out")) if restored else []
        assert sorted(name for name in found if not name.startswith(b".")) == expected
        out.flush()
        lines = out.buffer.getvalue().decode().splitlines()
    assert len(lines) == 2 * len(restored) + 1
    if encoding == "utf-8":
        assert {f"{folder}/out/r{printable(os.fsdecode(name))}.png: 1 face" for name in restored} <= set(lines)
    assert lines[-1] == f"{len(restored)} photographs restored, 0 without a face, {len(broken)} failed, 0 passed over"
    for name in broken:
        assert f"{folder}/in/b{printable(os.fsdecode(name))}.jpg: not a readable image" in end.value.code
    assert len(end.value.code.splitlines()) == 1


@pytest.mark.heavy
def test_pages_animations_and_formats_that_are_not_read(fixed_detection, run_restore, tmp_path):
    """Each page is restored, of an animation the first frame is, and the rest is named, also in the exit status."""
    folder, head = tmp_path / "in", Image.fromarray(photos.astronaut())
    folder.mkdir()
    small = head.resize((64, 64))
    small.save(folder / "scan.tif", save_all=True, append_images=[head, head.rotate(90)])
    head.save(folder / "scan_2.png")
    head.save(folder / "film.gif", save_all=True, append_images=[small.resize((256, 256))])
    head.save(folder / "photo.avif")
    (folder / "notes.txt").write_text("1969")
    status, out, err = run_restore(folder, "-o", tmp_path / "out", "--format", "jpeg", "--strength", 1)
    assert status == 0 and "4 photographs restored" in out
    assert "film.gif: the first of 2 frames" in err and "1 .txt" in err
    names = ["film.jpg", "photo.jpg", "scan.tif_1.jpg", "scan.tif_2.jpg", "scan.tif_3.jpg", "scan_2.png.jpg"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.jpg")) == names
    assert io.read(tmp_path / "out" / "scan.tif_1.jpg").pixels.shape == (64, 64, 3)
    (folder / "a.cr2").write_bytes(b"II*\0")
    (folder / "b.CR2").write_bytes(b"II*\0")
    status, out, err = run_restore(folder, "-o", tmp_path / "out", "--format", "jpeg", "--strength", 1)
    assert status == 1 and "4 passed over" in out
    assert "pictures of formats that are not read: 2 .cr2: convert them to PNG or JPEG" in err


@pytest.mark.parametrize("suffix", [".webp", ".tif", ".jpg"])
def test_result_of_another_format(fixed_detection, run_restore, tmp_path, suffix):
    images.write(tmp_path / "head.png", photos.astronaut())
    assert run_restore(tmp_path / "head.png", "-o", tmp_path / f"out{suffix}")[0] == 0
    assert np.abs(images.read(tmp_path / f"out{suffix}").astype(int) - photos.astronaut()).mean() < 6
    status, _, err = run_restore(tmp_path / "head.png", "-o", tmp_path / "out.gif")
    assert status == 1 and "out.gif: unsupported output format: use one of .png" in err
    assert not (tmp_path / "out.gif").exists()


@pytest.mark.parametrize("name", ["out.jpg", "out.bmp", "out.cr2", "notes"])
def test_results_need_a_folder(instant_restore, run_restore, run_align, tmp_path, name):
    """Nothing is restored for a folder that cannot be, and no folder gets the name of an image."""
    (tmp_path / "in").mkdir()
    images.write(tmp_path / "in" / "head.png", photos.astronaut())
    if name == "notes":
        (tmp_path / name).write_text("1969")
    for status, out, err in (
        run_restore(tmp_path / "in", "-o", tmp_path / name),
        run_align(tmp_path / "in", "-o", tmp_path / name),
    ):
        assert status == 1 and not out
        assert re.search(rf"{name}: (is a file: name a folder|the name of an image, .*: name one) with -o$", err)
    assert not (tmp_path / name).is_dir()
    (tmp_path / "out.png").mkdir()
    assert run_restore(tmp_path / "in" / "head.png", "-o", tmp_path / "out.png")[0] == 0
    assert visible_files(tmp_path / "out.png") == ["head.png"]


def test_failed_write_keeps_the_existing_result(fixed_detection, run_restore, tmp_path, monkeypatch):
    images.write(tmp_path / "head.png", photos.astronaut())
    (tmp_path / "out.png").write_bytes(b"existing")

    def raise_disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", raise_disk_full)
    status, _, err = run_restore(tmp_path / "head.png", "-o", tmp_path / "out.png")
    assert status == 1 and "No space left" in err
    assert (tmp_path / "out.png").read_bytes() == b"existing"
    assert sorted(os.listdir(tmp_path)) == ["head.png", "out.png"]


def test_refuses_to_overwrite(run_restore, tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    status, _, err = run_restore(tmp_path, "-o", tmp_path)
    assert status == 1 and "output folder is the input folder: choose another with -o" in err
    status, _, err = run_restore(tmp_path / "a.png", "-o", tmp_path)
    assert status == 1 and "would be overwritten" in err


def make_album(folder: Path) -> None:
    """Three photographs with a face, one without."""
    for name in ("a.png", "sub/b.png", "c.png"):
        images.write(folder / name, photos.astronaut())
    Image.new("RGB", (60, 40), "olive").save(folder / "field.png")


def test_an_interrupted_album_is_resumed(instant_restore, run_restore, tmp_path, monkeypatch):
    """A run that was killed in the middle, in the moment of a write, or that ended: what is done is passed over."""
    make_album(tmp_path / "in")
    write = io.write

    def interrupt(path: Path, photograph: Photograph) -> None:
        if path.name == "c.png":
            raise KeyboardInterrupt
        write(path, photograph)

    arguments = (tmp_path / "in", "-o", tmp_path / "out", "--strength", 1)
    with monkeypatch.context() as patch:
        patch.setattr(io, "write", interrupt)
        status, out, err = run_restore(*arguments)
    assert status == 130 and "run it again to resume" in err and visible_files(tmp_path / "out") == ["a.png"]
    # What a kill during a write to the record or to a result leaves.
    with next((tmp_path / "out").glob(".psfr-restore.*")).open("a") as file:
        file.write('\n{"photo": "../in/c')
    (tmp_path / "out/.c.png.partial").write_bytes(b"half")
    done = (tmp_path / "out/a.png").stat().st_mtime_ns
    status, out, _ = run_restore(*arguments)
    assert status == 3 and "2 photographs restored, 1 without a face, 0 failed, 1 passed over" in out
    assert "a.png" not in out and (tmp_path / "out/a.png").stat().st_mtime_ns == done
    assert visible_files(tmp_path / "out") == ["a.png", "c.png", "sub/b.png"]
    status, out, _ = run_restore(*arguments)
    assert status == 3 and "0 photographs restored, 0 without a face, 0 failed, 4 passed over" in out
    # An album that moved with its results is still done.
    for name in ("in", "out"):
        (tmp_path / "moved").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "moved" / name)
    status, out, _ = run_restore(tmp_path / "moved/in", "-o", tmp_path / "moved/out", "--strength", 1)
    assert "4 passed over" in out


@pytest.mark.heavy
def test_what_changed_is_restored_again(instant_restore, run_restore, tmp_path, run_folder):
    """A photograph, also by an older one of the same size; an option; the model; a result that is gone or empty."""
    make_album(tmp_path / "in")
    model = shutil.copytree(run_folder, tmp_path / "model")

    def run(*options: object, out: str = "out") -> tuple[int, int]:
        _, printed, _ = run_restore(tmp_path / "in", "-o", tmp_path / out, *options, model=model)
        restored, passed_over = re.search(r"(\d+) photographs restored, .*, (\d+) passed over", printed).groups()
        return int(restored), int(passed_over)

    assert run() == (3, 0) and run() == (0, 4)
    os.utime(tmp_path / "in/a.png", (1, 1))
    assert run() == (1, 3)
    (tmp_path / "out/a.png").unlink()
    (tmp_path / "out/c.png").write_bytes(b"")
    assert run() == (2, 2)
    assert run("--strength", 1) == (3, 0) and run("--strength", "1.0") == (0, 4)
    assert run("--scale", 2) == (3, 0) and run("--scale", 2) == (0, 4)
    assert run("--scale", 2, "--overwrite") == (3, 0)
    os.utime(model / "models" / models.FPN_FILE)
    assert run("--scale", 2) == (3, 0)
    torch.manual_seed(1)
    serialization.save(model / "models" / models.GENERATOR_FILE, Generator(**SMALL_GENERATOR), **SMALL_GENERATOR)
    assert run("--scale", 2) == (3, 0) and run("--scale", 2) == (0, 4)
    # Another album overwrites a result; a photograph without a face leaves no result of its last content.
    images.write(tmp_path / "other/a.png", photos.astronaut())
    run_restore(tmp_path / "other", "-o", tmp_path / "out", "--scale", 2, model=model)
    assert run("--scale", 2) == (1, 3)
    shutil.copy(tmp_path / "in/field.png", tmp_path / "in/c.png")
    assert run("--scale", 2) == (0, 3)
    assert visible_files(tmp_path / "out") == ["a.png", "sub/b.png"]


def test_photographs_of_one_stem_have_results_of_their_own(instant_restore, run_restore, tmp_path):
    for name in ("a.png", "a.bmp", "sub/a.png", "b.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photos.astronaut()).save(tmp_path / "in" / name)
    status, out, _ = run_restore(tmp_path / "in", "-o", tmp_path / "out", "--strength", 0)
    assert status == 0 and "4 photographs restored" in out
    assert visible_files(tmp_path / "out") == ["a.bmp.png", "a.png.png", "b.png", "sub/a.png"]


NAMES = st.text("aAb_.", min_size=1, max_size=4).filter(lambda name: name.strip("."))


@given(st.sets(st.tuples(st.lists(NAMES, max_size=2), NAMES).map(lambda t: Path("in", *t[0], f"x{t[1]}.jpg"))))
def test_names_are_distinct(paths):
    """For any album, in folders and joined by "_", whatever the case; a name that nobody shares has no suffix."""
    for separator in "/_":
        names = album.distinct_names(sorted(paths), Path("in"), separator)
        assert len({name.casefold() for name in names.values()}) == len(paths) == len(names)
        full_names = [separator.join(path.parts[1:]).casefold() for path in names]
        stems = [name.removesuffix(".jpg") for name in full_names]
        for name, stem in zip(names.values(), stems, strict=True):
            assert name.casefold() == stem or stems.count(stem) > 1 or stem in full_names


def test_a_record_names_photographs_on_another_drive_by_their_path(tmp_path, monkeypatch):
    def relpath(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(album.os.path, "relpath", relpath)
    photo = tmp_path / "a.png"
    record = album.Record(tmp_path / "out", "restore", {}, overwrite=False)
    assert record.find(photo, "a") is None
    record.add(photo, "a", [], 0)
    assert album.Record(tmp_path / "out", "restore", {}, overwrite=False).find(photo, "a") is not None


def test_results_in_a_folder_above_the_album(instant_restore, run_restore, tmp_path):
    make_album(tmp_path / "album/in")
    status, out, _ = run_restore(tmp_path / "album/in", "-o", tmp_path / "album", "--strength", 0)
    assert status == 3 and "3 photographs restored, 1 without a face" in out
    assert (tmp_path / "album/sub/b.png").is_file()


def half_of(run_folder: Path, tmp_path: Path) -> Path:
    """Copy a run without its generator."""
    half = Path(shutil.copytree(run_folder, tmp_path / "half"))
    (half / "models" / models.GENERATOR_FILE).unlink()
    return half


def test_invalid_arguments(run_restore, tmp_path, run_folder, monkeypatch):
    images.write(tmp_path / "head.png", photos.astronaut())
    for value in ("2", "-0.1", "nan", "abc"):
        status, _, err = run_restore(tmp_path / "head.png", "-o", tmp_path / "out", f"--strength={value}")
        assert status == 2 and f"argument --strength: '{value}': must be a number from 0 to 1 or auto" in err
    status, _, err = run_restore(tmp_path / "none.png", "-o", tmp_path / "out")
    assert status == 1 and "none.png" in err and "no such image" in err
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    for model in ("empty", "models"):
        status, _, err = run_restore(tmp_path / "head.png", "-o", tmp_path / "out", model=model)
        command = "psfr-restore PHOTO -o OUT --model published"
        assert status == 1 and re.search(f"{model}: no model there: train one .* use .*`{command}`", err)
    status, _, err = run_restore(tmp_path / "head.png", "-o", tmp_path / "out", model=half_of(run_folder, tmp_path))
    assert status == 1 and "no such checkpoint" in err
    status, _, err = run_restore(tmp_path / "head.png", "-o", tmp_path / "out", model=tmp_path / "published.pth")
    assert status == 1 and "no such weights file" in err


@pytest.mark.process
def test_model_from_a_run_a_git_revision_or_published_weights(run_folder, tmp_path, monkeypatch):
    """The models of a revision come from the DVC cache, whatever is in the working tree."""
    aligned = alignment.crop(photos.astronaut(), photos.FRAME, SIZE)
    expected = Restorer.from_pretrained(run_folder)(aligned)
    project = tmp_path / "project"
    (project / "models/psfrgan").mkdir(parents=True)
    for name in (models.FPN_FILE, models.GENERATOR_FILE):
        (project / "models" / name).write_bytes((run_folder / "models" / name).read_bytes())
    for command in (
        ["git", "init", "-q"],
        ["dvc", "init", "-q"],
        ["dvc", "add", "-q", "models/fpn.safetensors", "models/psfrgan"],
        ["git", "add", "-A"],
        ["git", "commit", "-qm", "models"],
        ["git", "tag", "good"],
    ):
        run_command(command, project)
    for name in (models.FPN_FILE, models.GENERATOR_FILE):
        (project / "models" / name).unlink()
    monkeypatch.chdir(project)
    for array, expected_array in zip(Restorer.from_pretrained("good")(aligned), expected, strict=True):
        assert (array == expected_array).all()
    with pytest.raises(UserError, match=r"missing: not a folder of models, .* a \.pth file, published or a git rev"):
        Restorer.from_pretrained("missing")

    monkeypatch.setattr(serialization, "from_published", lambda kind, tensors: (kind, tensors))
    torch.save({"w": torch.ones(1)}, tmp_path / "net.pth")
    torch.save({"w": torch.zeros(1)}, tmp_path / network_files.PUBLISHED_FPN)
    (fpn, _), (generator, generator_weights) = models.load_networks(str(tmp_path / "net.pth"))
    assert (fpn, generator) == ("fpn", "generator") and generator_weights["w"] == 1


def test_warns_of_faces_that_look_like_another_person(fixed_detection, run_restore, tmp_path, monkeypatch):
    """A line for each beyond 0.6, and their number for an album."""
    images.write(tmp_path / "in/near.png", photos.astronaut())
    images.write(tmp_path / "in/unlike.png", photos.astronaut())
    distances = iter([0.6, 0.601])
    monkeypatch.setattr(restoration, "_identity_distance", lambda *_: next(distances))
    status, out, _ = run_restore(tmp_path / "in", "-o", tmp_path / "out")
    assert status == 0 and "1 of the restored faces may look like another person" in out
    lines = out.splitlines()
    (warning,) = [index for index, line in enumerate(lines) if "try a lower --strength or --twicing" in line]
    assert "identity distance 0.601" in lines[warning - 1]


@pytest.mark.process
@pytest.mark.parametrize("source", ["sample", "folder"])
def test_says_once_that_a_model_knows_portraits_only(fixed_detection, run_restore, run_folder, tmp_path, source):
    """By the dvc.lock of the run, beside the folder of the models or in the git revision."""
    shutil.copytree(run_folder, tmp_path / "run")
    lock = {"stages": {"download@ffhq": {"params": {"params.yaml": {"ffhq": {"source": source}}}}}}
    (tmp_path / "run" / models.LOCK_FILE).write_text(json.dumps(lock))
    images.write(tmp_path / "in/a.png", photos.astronaut())
    images.write(tmp_path / "in/b.png", photos.astronaut())
    for number, model in enumerate((tmp_path / "run", tmp_path / "run/models")):
        _, _, err = run_restore(tmp_path / "in", "-o", tmp_path / f"out{number}", model=model)
        assert err.count("trained on synthetic portraits only") == (source == "sample")
        assert err.count("`psfr-restore PHOTO -o OUT --model published`") == (source == "sample")
    run_command(["git", "init", "-q"], tmp_path / "run")
    run_command(["git", "add", models.LOCK_FILE], tmp_path / "run")
    run_command(["git", "commit", "-qm", "lock"], tmp_path / "run")
    with contextlib.chdir(tmp_path / "run"):
        assert models.is_trained_on_portraits("HEAD") == (source == "sample")
        assert not models.is_trained_on_portraits("none") and not models.is_trained_on_portraits("a.pth")


@pytest.fixture
def run_align(run_cli):
    """Run psfr.align with arguments, without other processes, as `run_cli` does."""
    return lambda *arguments: run_cli(align.cli, *arguments, "--size", "32", "--workers", "0")


@pytest.fixture
def two_faces(monkeypatch):
    """Replace the detection: a square photo has a face of its size and one of half its size, others have none."""

    def find_faces(image: np.ndarray) -> list[Frame]:
        height, width = image.shape[:2]
        return [Frame(0j, complex(size)) for size in (width, width / 2)] if height == width else []

    monkeypatch.setattr(detection, "find_faces", find_faces)


def test_align_with_another_least_size_leaves_no_stale_faces(two_faces, run_align, tmp_path):
    """And what the user or another album wrote stays."""
    make_album(tmp_path / "in")
    run = functools.partial(run_align, tmp_path / "in", "-o", tmp_path / "out")
    status, out, err = run()
    assert (status, out) == (
        0,
        f"{tmp_path}/out: 6 faces of 4 photographs, 1 without a face, 0 failed, 0 passed over\n",
    )
    assert "field.png: no face found" in err
    images.write(tmp_path / "out/a_3.png", photos.astronaut())
    images.write(tmp_path / "other/d.png", photos.astronaut())
    assert run_align(tmp_path / "other", "-o", tmp_path / "out")[0] == 0
    assert "6 faces of 4 photographs, 1 without a face, 0 failed, 4 passed over" in run()[1]
    status, out, _ = run("--min-size", 200)
    assert status == 0 and "3 faces of 4 photographs, 1 without a face, 0 failed, 0 passed over" in out
    faces = ["a_1.png", "a_3.png", "c_1.png", "d_1.png", "d_2.png", "sub_b_1.png"]
    assert visible_files(tmp_path / "out") == faces
    assert "4 passed over" in run("--min-size", 200)[1] and "0 passed over" in run("--min-size", 200, "--overwrite")[1]
    status, out, _ = run("--min-size", 400)
    assert status == 3 and "0 faces of 4 photographs, 4 without a face" in out
    assert visible_files(tmp_path / "out") == ["a_3.png", "d_1.png", "d_2.png"]


@pytest.mark.parametrize("earlier", [[], ["--min-size", 200]])
def test_faces_that_an_interrupted_align_wrote_are_known(two_faces, run_align, tmp_path, monkeypatch, earlier):
    """A kill while the faces of a photograph are written leaves none that the next run, with another size, has not."""
    make_album(tmp_path / "in")
    run = functools.partial(run_align, tmp_path / "in", "-o", tmp_path / "out")
    if earlier:
        run(*earlier)
    write = images.write

    def interrupt(path: Path, image: np.ndarray) -> None:
        write(path, image)
        if path.name == "c_2.png":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(images, "write", interrupt)
        assert run()[0] == 130 and (tmp_path / "out/c_2.png").is_file()
    assert "3 faces of 4 photographs" in run("--min-size", 200)[1]
    assert visible_files(tmp_path / "out") == ["a_1.png", "c_1.png", "sub_b_1.png"]


def test_an_interrupted_align_is_resumed(two_faces, run_align, tmp_path, monkeypatch):
    """Also after it was killed while it replaced the faces of other options: none of both remain together."""
    make_album(tmp_path / "in")
    (tmp_path / "in/broken.png").write_bytes(b"no picture")
    run = functools.partial(run_align, tmp_path / "in", "-o", tmp_path / "out")
    status, out, err = run()
    assert status == 1 and "6 faces of 5 photographs, 1 without a face, 1 failed, 0 passed over" in out
    assert "error: " + str(tmp_path / "in/broken.png: not a readable image") in err
    with pytest.raises(UserError, match=r"broken\.png: not a readable image"):
        align.align(tmp_path / "in", tmp_path / "out", 32, 0, 0)
    (tmp_path / "in/broken.png").unlink()
    write = images.write

    def interrupt(path: Path, image: np.ndarray) -> None:
        if path.name == "c_1.png":
            raise KeyboardInterrupt
        write(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(images, "write", interrupt)
        assert run("--min-size", 200)[0] == 130
    assert "6 faces of 4 photographs, 1 without a face, 0 failed, 0 passed over" in run()[1]
    with monkeypatch.context() as patch:
        patch.setattr(images, "write", interrupt)
        assert run("--min-size", 200)[0] == 130
    assert "3 faces of 4 photographs, 1 without a face, 0 failed, 1 passed over" in run("--min-size", 200)[1]
    assert visible_files(tmp_path / "out") == ["a_1.png", "c_1.png", "sub_b_1.png"]


@pytest.mark.parametrize("option", ["--size", "--min-size", "--workers"])
def test_align_refuses_negative_numbers(run_cli, option):
    status, _, err = run_cli(align.cli, "photos", "-o", "out", option, "-4")
    assert status == 2 and f"argument {option}: '-4': must be a" in err


def test_align_of_a_file_and_of_equal_names(two_faces, run_align, tmp_path):
    make_album(tmp_path / "in")
    status, out, _ = run_align(tmp_path / "in/a.png", "-o", tmp_path / "file")
    assert status == 0 and "2 faces of 1 photographs" in out and visible_files(tmp_path / "file")[0] == "a_1.png"
    status, _, err = run_align(tmp_path / "in/none.png", "-o", tmp_path / "file")
    assert status == 1 and "none.png: no such image" in err
    for name in ("a.bmp", "sub_b.png"):
        Image.fromarray(photos.astronaut()).save(tmp_path / "in" / name)
    assert run_align(tmp_path / "in", "-o", tmp_path / "out", "--min-size", 200)[0] == 0
    checksums = [zlib.crc32(path) for path in (b"sub/b.png", b"sub_b.png")]
    assert set(visible_files(tmp_path / "out")) == {
        *(f"{name}_1.png" for name in ("a.png", "a.bmp", "c")),
        *(f"sub_b.png~{checksum:08x}_1.png" for checksum in checksums),
    }
    assert len(images.list_images(tmp_path / "out")) == 5, "no stem is there twice"
    assert run_align(tmp_path / "in", "-o", tmp_path / "out", "--min-size=a")[0] == 2


def test_align_leaves_out_cut_faces(tmp_path, monkeypatch, capsys):
    """They are counted, also when a later run passes over the photograph."""
    (tmp_path / "in").mkdir()
    images.write(tmp_path / "in/whole.png", photos.astronaut())
    images.write(tmp_path / "in/cut.png", photos.cut("left", 0.37)[0])
    true = {photos.astronaut().shape: photos.FRAME, photos.cut("left", 0.37)[0].shape: photos.cut("left", 0.37)[1]}
    monkeypatch.setattr(detection, "find_faces", lambda image: [true[image.shape]])
    monkeypatch.setattr(sys, "argv", ["align", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--workers", "0"])
    for _ in range(2):
        align.main()
        out, err = capsys.readouterr()
        assert "1 faces of 2 photographs, 1 without a face, 0 failed, 1 faces cut by the border left out" in out
        assert "cut.png: no face that the border does not cut" in err
    assert [path.name for path in images.list_images(tmp_path / "out")] == ["whole_1.png"]


@pytest.mark.heavy
def test_align(tmp_path):
    """Names are unique, and faces agree at any rotation."""
    folder = tmp_path / "in"
    for name, degrees in (("a", 0), ("b", 30)):
        images.write(folder / name / "photo.png", photos.rotated(degrees)[0])
    Image.new("RGB", (60, 40), "olive").save(folder / "field.png")
    counts = align.align(folder, tmp_path / "out", 256, 0, 0)
    assert sorted(counts.values()) == [0, 1, 1]
    paths = images.list_images(tmp_path / "out")
    assert [path.name for path in paths] == ["a_photo_1.png", "b_photo_1.png"]
    upright, rotated = (images.read(path).astype(int) for path in paths)
    assert upright.shape == (256, 256, 3)
    assert np.abs(upright - rotated)[60:200, 60:200].mean() < 8
    with pytest.raises(UserError, match="output folder is the input folder"):
        align.align(folder, folder, 256, 0, 0)
