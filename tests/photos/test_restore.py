"""Photographs are restored from the command line: every kind of photograph, model and mishap."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from psfr import align, restore
from psfr.data import images, labels
from psfr.networks import serialization
from psfr.networks.fpn import FaceParsingNetwork
from psfr.networks.generator import Generator
from psfr.photos import alignment, detection, io, restorer
from psfr.photos.alignment import Frame
from psfr.photos.io import Photograph
from psfr.pretrained import network_files
from psfr.utils.errors import InputError
from tests.helpers import photos

ROOT = Path(__file__).parents[2]
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
    """A run's folder with small networks of random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    serialization.save(folder / "models" / restorer.FPN, FaceParsingNetwork(**SMALL_FPN), **SMALL_FPN)
    serialization.save(folder / "models" / restorer.GENERATOR, Generator(**SMALL_GENERATOR), **SMALL_GENERATOR)
    return folder


@pytest.fixture
def program(monkeypatch, capsys, run_folder):
    """Run psfr.restore with arguments: exit status and what it said."""

    def call(*arguments: object, model: object = run_folder) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["restore", *map(str, arguments), "--model", str(model)])
        status = 0
        try:
            restore.run(restore.main)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
            said = "" if isinstance(end.code, int) else end.code
            out, err = capsys.readouterr()
            return status, out, err + said
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def found(monkeypatch):
    """Let the finding of faces, which takes its time, find what the test knows: the astronaut wherever there is a picture of that size."""

    def find(picture: np.ndarray) -> list[Frame]:
        times = picture.shape[0] / 256
        return [photos.FRAME.scaled(times)] if picture.shape[0] == picture.shape[1] and picture.std() > 20 else []

    monkeypatch.setattr(detection, "find", find)


def restored(
    picture: np.ndarray, scale: int = 1, strength: float = 1.0
) -> tuple[Photograph, list[restore.RestoredFace]]:
    return restore.restore(Photograph(picture), photos.careless, photos.SIZE, scale, strength)


@pytest.mark.parametrize("degrees", [0, 20, 45])
def test_a_turned_photograph_comes_back_with_its_face_in_place(degrees):
    picture, true = photos.turned(degrees)
    result, done = restored(picture)
    assert len(done) == 1 and abs(done[0].frame.centre - true.centre) < 5
    rows, columns = alignment.window(done[0].frame, picture.shape)
    outside = np.ones(picture.shape[:2], bool)
    outside[rows, columns] = False
    assert (result.levels[outside] == picture[outside]).all()
    assert abs(detection.find(result.levels)[0].centre - true.centre) < 5
    assert 0 < done[0].distance < 0.7


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_result_has_the_size_asked_for_and_its_face_in_place(found, scale):
    result, done = restored(photos.astronaut(), scale)
    assert result.levels.shape == (256 * scale, 256 * scale, 3)
    assert 0 < done[0].distance < 0.6
    small = cv2.resize(result.levels, (256, 256), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small - restored(photos.astronaut())[0].levels).mean() < 1.5


def test_no_strength_no_change(found):
    result, done = restored(photos.astronaut(), 1, 0.0)
    assert (result.levels == photos.astronaut()).all()
    assert done[0].distance == 0


def test_twice_gives_back_what_the_network_loses(found):
    """Of a network that does nothing but blur, and so loses the same again of what it made."""

    def blurring(aligned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return photos.regions(len(aligned)), cv2.GaussianBlur(aligned, (0, 0), 1.5)

    picture = photos.astronaut()
    once, twice = (
        restore.restore(Photograph(picture), blurring, photos.SIZE, 1, 1.0, twice) for twice in (False, True)
    )
    away = [np.abs(result.levels.astype(int) - picture).sum() for result, _ in (once, twice)]
    assert 0 < away[1] < 0.8 * away[0]
    assert twice[1][0].distance < once[1][0].distance


def test_levels_do_not_wrap_when_twiced():
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert (restore.twiced(lambda face: (face[:, :, 0], 255 - face), black) == 0).all()
    assert (restore.twiced(lambda face: (face[:, :, 0], 255 - face), white) == 255).all()


def test_every_kind_of_photograph_comes_back_as_its_kind(found, program, tmp_path):
    """Grey, alpha, 16 bits, turned by EXIF, with a space in its name, in a sub-folder: one run for all, and its faces on request."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    head = photos.astronaut()
    Image.fromarray(images.gray(head)[:, :, 0]).save(folder / "grey.png")
    alpha = np.full(head.shape[:2], 255, np.uint8)
    alpha[:9] = 0
    Image.fromarray(np.dstack([head, alpha])).save(folder / "with alpha.png")
    cv2.imwrite(str(folder / "deep.png"), head[:, :, ::-1].astype(np.uint16) * 257 + 5)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(head))).save(folder / "sub" / "turned.jpg", exif=exif, quality=98)
    status, said, _ = program(folder, "-o", tmp_path / "out", "--keep-faces")
    assert status == 0 and "4 photographs restored" in said and said.count("identity distance") == 4
    for path in io.listed(folder):
        before, after = io.read(path), io.read(tmp_path / "out" / path.relative_to(folder).with_suffix(".png"))
        assert (after.levels.dtype, after.gray, after.levels.shape) == (
            before.levels.dtype,
            before.gray,
            before.levels.shape,
        ), path
        assert (before.alpha is None) if after.alpha is None else (after.alpha == before.alpha).all()
        unit = 257 if before.levels.dtype == np.uint16 else 1
        assert (after.levels[:, -40:] == before.levels[:, -40:]).all()
        assert np.abs(after.levels.astype(int) - before.levels).max() > 5 * unit
    assert np.abs(io.read(tmp_path / "out/sub/turned.png").levels[:, -40:].astype(int) - head[:, -40:]).mean() < 3
    assert sorted(path.name for path in (tmp_path / "out/sub/faces").iterdir()) == [
        f"turned_1_{kind}.png" for kind in ("aligned", "regions", "restored")
    ]
    assert labels.read(tmp_path / "out/faces/deep_1_regions.png").shape == (SIZE, SIZE)
    assert images.read(tmp_path / "out/faces/grey_1_restored.png").shape == (SIZE, SIZE, 3)


def test_a_photograph_without_a_face_is_told_and_copied_if_asked(found, program, tmp_path):
    Image.new("RGB", (60, 40), "olive").save(tmp_path / "field.png")
    status, said, _ = program(tmp_path / "field.png", "-o", tmp_path / "out.png")
    assert status == 2 and "field.png: no face found" in said and not (tmp_path / "out.png").exists()
    status, said, _ = program(tmp_path / "field.png", "-o", tmp_path / "out.png", "--copy-faceless", "--scale", 2)
    assert status == 2 and images.read(tmp_path / "out.png").shape == (80, 120, 3)


def test_a_failing_photograph_stops_no_other_and_is_named(found, program, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no picture")
    Image.new("RGB", (60, 40), "olive").save(folder / "field.png")
    images.write(folder / "head.png", photos.astronaut())
    status, said, told = program(folder, "-o", tmp_path / "out")
    assert (
        status == 1
        and "1 photographs restored, 1 without a face, 1 failed" in said
        and "broken.jpg: not a readable image" in told
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["head.png"]


def test_a_result_of_before_stays_whole_when_writing_fails(found, program, tmp_path, monkeypatch):
    images.write(tmp_path / "head.png", photos.astronaut())
    (tmp_path / "out.png").write_bytes(b"of before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    status, _, told = program(tmp_path / "head.png", "-o", tmp_path / "out.png")
    assert status == 1 and "No space left" in told
    assert (tmp_path / "out.png").read_bytes() == b"of before" and sorted(os.listdir(tmp_path)) == [
        "head.png",
        "out.png",
    ]


def test_nothing_is_written_over_and_no_two_become_one(program, tmp_path):
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (60, 40)).save(tmp_path / name)
    status, _, told = program(tmp_path, "-o", tmp_path / "out")
    assert status == 1 and "a.png and" in told and "would both become" in told
    status, _, told = program(tmp_path / "a.png", "-o", tmp_path)
    assert status == 1 and "would be written over" in told


def test_what_is_asked_for_must_be_possible(program, tmp_path, run_folder):
    images.write(tmp_path / "head.png", photos.astronaut())
    assert program(tmp_path / "head.png", "-o", tmp_path / "out", "--strength", 2)[0] == 2
    status, _, told = program(tmp_path / "none.png", "-o", tmp_path / "out")
    assert status == 1 and "none.png" in told and "no such image" in told
    (tmp_path / "empty").mkdir()
    status, _, told = program(tmp_path / "head.png", "-o", tmp_path / "out", model=tmp_path / "empty")
    assert status == 1 and "no such checkpoint" in told
    status, _, told = program(tmp_path / "head.png", "-o", tmp_path / "out", model=tmp_path / "published.pth")
    assert status == 1 and "no such file of weights" in told


def git(folder: Path, *arguments: str) -> None:
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, env={**os.environ, **who})


def test_a_model_is_a_run_the_published_one_or_a_git_revision(run_folder, tmp_path, monkeypatch):
    """All three give the same face; a revision's models come from DVC's cache, whatever lies in the folder now."""
    aligned = alignment.crop(photos.astronaut(), photos.FRAME, SIZE)
    wanted = restorer.load_restorer(str(run_folder), restore.COMPUTE)(aligned)
    project = tmp_path / "project"
    (project / "models/psfrgan").mkdir(parents=True)
    for name in (restorer.FPN, restorer.GENERATOR):
        (project / "models" / name).write_bytes((run_folder / "models" / name).read_bytes())
    dvc = [sys.executable, "-m", "dvc"]
    git(project, "init", "-q")
    subprocess.run([*dvc, "init", "-q"], cwd=project, check=True)
    subprocess.run([*dvc, "add", "-q", "models/fpn.safetensors", "models/psfrgan"], cwd=project, check=True)
    git(project, "add", "-A")
    git(project, "commit", "-qm", "models")
    git(project, "tag", "good")
    for name in (restorer.FPN, restorer.GENERATOR):
        (project / "models" / name).unlink()
    monkeypatch.chdir(project)
    for found, expected in zip(restorer.load_restorer("good", restore.COMPUTE)(aligned), wanted, strict=True):
        assert (found == expected).all()
    with pytest.raises(InputError, match=r"better: no folder of models, no \.pth file, and no git revision"):
        restorer.load_restorer("better", restore.COMPUTE)

    monkeypatch.setattr(serialization, "from_published", lambda kind, tensors: (kind, tensors))
    monkeypatch.setattr(restorer, "Restorer", lambda fpn, generator, compute: (fpn, generator))
    torch.save({"w": torch.ones(1)}, tmp_path / "net.pth")
    torch.save({"w": torch.zeros(1)}, tmp_path / network_files.PUBLISHED_FPN)
    (fpn, _), (generator, generator_weights) = restorer.load_restorer(str(tmp_path / "net.pth"), restore.COMPUTE)
    assert (fpn, generator) == ("fpn", "generator") and generator_weights["w"] == 1


def test_aligned_faces_are_a_folder_source(tmp_path, capsys):
    """Faces of all photographs, aligned to the pixel or two, names told apart; what is too small or broken is told."""
    folder = tmp_path / "in"
    for name, degrees in (("a", 0), ("b", 30)):
        images.write(folder / name / "photo.png", photos.turned(degrees)[0])
    Image.new("RGB", (60, 40), "olive").save(folder / "field.png")
    counts = align.align(folder, tmp_path / "out", 256, 0, 0)
    assert sorted(counts.values()) == [0, 1, 1]
    paths = images.listed(tmp_path / "out")
    assert [path.name for path in paths] == ["a_photo_1.png", "b_photo_1.png"]
    straight, level = (images.read(path).astype(int) for path in paths)
    assert straight.shape == (256, 256, 3)
    assert np.abs(straight - level)[60:200, 60:200].mean() < 8
    with pytest.raises(InputError, match="among the photographs"):
        align.align(folder, folder, 256, 0, 0)
    assert set(align.align(folder, tmp_path / "none", 256, 400, 0).values()) == {0}
    (folder / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png: not a readable image"):
        align.align(folder, tmp_path / "rest", 64, 0, 0)
    assert len(images.listed(tmp_path / "rest")) == 2
