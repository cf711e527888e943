"""Which faces of a group photograph are restored: `--faces`, `--min-size`, `--list`, `--aligned`."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from psfr.data import images
from psfr.photos import album, alignment, detection, io, listing
from psfr.photos.restorer import Restorer
from psfr.photos.selection import Selection
from psfr.utils.errors import UserError
from tests.helpers import photos
from tests.photos.test_restore import SIZE, run_cli, run_folder, run_restore, visible_files  # noqa: F401 (fixtures)


@pytest.fixture
def group(monkeypatch, tmp_path) -> Path:
    """A file of the group photograph, whose faces are known; other photographs have none."""
    photo, frames = photos.group()
    monkeypatch.setattr(detection, "find_faces", lambda image: frames if image.shape == photo.shape else [])
    images.write(tmp_path / "in/group.png", photo)
    return tmp_path / "in/group.png"


def in_frames(shape: tuple[int, ...], frames: list[alignment.Frame]) -> np.ndarray:
    inside = np.zeros(shape[:2], bool)
    for frame in frames:
        inside[alignment.window(frame, shape)] = True
    return inside


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (["--faces", "all"], [1, 2, 3]),
        (["--faces", "largest"], [1]),
        (["--faces", "3,1,3"], [1, 3]),
        (["--faces", "2,3", "--min-size", "100"], [2]),
    ],
)
def test_nothing_but_the_chosen_faces_changes(run_restore, group, tmp_path, options, numbers):
    photo, frames = photos.group()
    status, out, _ = run_restore(group, "-o", tmp_path / "out.png", "--strength", 1, "--keep-faces", *options)
    assert status == 0 and f"{len(numbers)}{'' if len(numbers) == 3 else ' of 3'} faces" in out
    assert [int(number) for number in re.findall(r"(?m)^  (\d): at", out)] == numbers
    changed = (images.read(tmp_path / "out.png") != photo).any(2)
    assert not changed[~in_frames(photo.shape, [frames[number - 1] for number in numbers])].any()
    for number in numbers:
        assert changed[alignment.window(frames[number - 1], photo.shape)].any()
    written = {path.name for path in (tmp_path / "faces").iterdir()}
    assert {name for name in written if "aligned" in name} == {f"out_{number}_aligned.png" for number in numbers}


def test_no_face_is_chosen(run_restore, group, tmp_path):
    status, out, _ = run_restore(group, "-o", tmp_path / "out.png", "--min-size", 500)
    assert status == 3 and "group.png: 3 faces found, smaller than --min-size, nothing written" in out
    assert not (tmp_path / "out.png").exists()


def test_a_face_that_is_not_there_is_named_for_each_photograph(run_restore, group, tmp_path):
    """A photograph without a face has no numbers, and is no error."""
    (group.parent / "other.png").write_bytes(group.read_bytes())
    Image.new("RGB", (60, 40), "olive").save(group.parent / "field.png")
    status, out, err = run_restore(group.parent, "-o", tmp_path / "out", "--faces", "1,5,7")
    assert status == 1 and "0 photographs restored, 1 without a face, 2 failed" in out
    for name in ("group", "other"):
        assert f"{name}.png: no face 5, 7, only 3 faces are found: see their numbers with --list" in err
    assert visible_files(tmp_path / "out") == []


@pytest.mark.heavy
def test_kept_faces_are_those_of_the_last_options(run_restore, group, tmp_path):
    def kept(*options: object) -> set[str]:
        run_restore(group.parent, "-o", tmp_path / "out", *options)
        return {name for name in visible_files(tmp_path / "out") if name.startswith("faces/")}

    faces = {
        number: {f"faces/group_{number}_{kind}.png" for kind in ("aligned", "regions", "restored")} for number in (1, 2)
    }
    assert kept("--keep-faces", "--faces", "1,2") == faces[1] | faces[2]
    assert kept("--keep-faces", "--faces", 2) == faces[2]
    (tmp_path / "out/faces/group_2_regions.png").unlink()
    assert kept("--keep-faces", "--faces", 2) == faces[2]
    assert kept("--faces", 2) == set()


@pytest.mark.heavy
def test_options_that_are_changed_restore_again(run_restore, group, tmp_path):
    def passed_over(*options: object) -> int:
        _, out, _ = run_restore(group.parent, "-o", tmp_path / "out", *options)
        return int(re.search(r"(\d) passed over", out)[1])

    assert [passed_over("--faces", 1), passed_over("--faces", "1,1"), passed_over("--faces", 2)] == [0, 1, 0]
    assert [passed_over("--min-size", 9), passed_over("--min-size", 9), passed_over()] == [0, 1, 0]
    face = tmp_path / "in/group.png"
    images.write(face, photos.astronaut())
    assert [passed_over("--aligned"), passed_over("--aligned"), passed_over("--faces", "all")] == [0, 1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--faces", "0"], "argument --faces: '0': must be all, largest or numbers from 1, such as 1,3"),
        (["--faces", "1,,2"], "argument --faces: '1,,2'"),
        (["--faces", "²"], "argument --faces: '²'"),
        (["--min-size=-1"], "argument --min-size: '-1': must be a whole number"),
        (["--aligned", "--faces", "1"], "argument --aligned: not allowed with argument --faces"),
        (["--aligned", "--min-size", "9"], "argument --aligned: not allowed with argument --min-size"),
        (["--aligned", "--list"], "argument --aligned: not allowed with argument --list"),
        (["--aligned", "--background", "x.pth"], "argument --aligned: not allowed with argument --background"),
        (["--format", "jpeg"], "argument --format: jpeg, but the result is a .png file"),
        (["--device", "tpu"], "argument --device: invalid choice"),
    ],
)
def test_options_that_make_no_sense(run_restore, group, tmp_path, options, message):
    status, _, err = run_restore(group, "-o", tmp_path / "out.png", *options)
    assert status == 2 and message in err
    for arguments in ([group], [group.parent, "--list"]):
        status, _, err = run_restore(*arguments)
        assert status == 2 and "argument -o: is required" in err


@pytest.mark.heavy
def test_format_of_a_single_photograph(run_restore, group, tmp_path):
    """It names the file in an output folder, and agrees with the file that is named."""
    for out in (tmp_path / "out", tmp_path / "out/group.jpg"):
        assert run_restore(group, "-o", out, "--format", "jpeg")[0] == 0
    assert visible_files(tmp_path / "out") == ["group.jpg"]
    assert Image.open(tmp_path / "out/group.jpg").format == "JPEG"


@pytest.mark.heavy
def test_device(run_restore, group, tmp_path, monkeypatch):
    assert run_restore(group, "-o", tmp_path / "out.png", "--device", "cpu")[0] == 0
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, _, err = run_restore(group, "-o", tmp_path / "out.png", "--device", "cuda")
    assert status == 1 and "--device: cuda, but PyTorch finds no GPU: set it to auto or cpu" in err


@pytest.mark.heavy
def test_list_prints_and_draws_what_is_found(run_restore, tmp_path):
    """With the real detection, and without any network. The numbers are those of --faces."""
    photo, frames = photos.group()
    images.write(tmp_path / "group.png", photo)
    status, out, _ = run_restore(tmp_path / "group.png", "--list", model="missing")
    assert status == 0 and f"group.png: 3 faces, drawn in {tmp_path / 'group.faces.png'}" in out
    lines = re.findall(r"(?m)^  (\d): at (\d+), (\d+), frame of (\d+) pixels$", out)
    for frame, line in zip(frames, lines, strict=True):
        number, x, y, size = map(int, line)
        assert number == frames.index(frame) + 1 and abs(complex(x, y) - frame.center) < 0.05 * size
        assert size == pytest.approx(frame.size, rel=0.08)
    sheet = images.read(tmp_path / "group.faces.png")
    scale = sheet.shape[1] / photo.shape[1]
    for frame in frames:
        part = sheet[alignment.window(frame.scaled(scale), sheet.shape)]
        assert (part == listing.BOX_COLOR).all(2).mean() > 0.01
    assert visible_files(tmp_path) == ["group.faces.png", "group.png"]
    for name in ("group.faces_2.png", "group.faces.jpg", "other.faces.png"):
        images.write(tmp_path / name, photo[:8, :8])
    album_names = [path.name for path in album.list_album(tmp_path, tmp_path / "out")]
    assert album_names == ["group.faces.jpg", "group.png", "other.faces.png"]  # without the sheets


def test_list_of_an_album(run_restore, group, tmp_path):
    """Sheets have names of their own, so that they replace no result. Only chosen faces are listed."""
    Image.new("RGB", (60, 40), "olive").save(group.parent / "field.png")
    (group.parent / "broken.jpg").write_bytes(b"no picture")
    status, out, err = run_restore(group.parent, "-o", tmp_path / "out", "--list", "--faces", "2")
    assert status == 1 and "broken.jpg: not a readable image" in err and "field.png: no face found" in out
    assert "group.png: 1 of 3 faces, drawn in" in out and "  2: at" in out
    assert visible_files(tmp_path / "out") == ["group.faces.png"]
    assert run_restore(group.parent / "field.png", "--list")[0] == 3
    assert run_restore(group, "--list", "-o", tmp_path / "sheet.jpg")[0] == 0 and (tmp_path / "sheet.jpg").is_file()


def test_a_sheet_of_many_small_faces_fits():
    """Below the photograph as many rows as needed; numbers at the border stay inside."""
    frames = {number: alignment.Frame(complex(number * 8 - 8, -10), 20 + 0j) for number in range(1, 40)}
    sheet = listing.draw_sheet(photos.group()[0], frames)
    assert sheet.shape[1] == listing.MIN_SIDE and sheet.shape[0] > 347 + 7 * listing.CROP_SIZE


@pytest.mark.heavy
@pytest.mark.parametrize(("size", "scale"), [(SIZE, 1), (3 * SIZE, 1), (SIZE, 2)])
def test_an_aligned_face_is_restored_as_a_whole(run_restore, run_folder, tmp_path, monkeypatch, size, scale):
    """The result is the network's output, resized; nothing is detected."""
    monkeypatch.setattr(detection, "find_faces", None)
    face = alignment.crop(photos.astronaut(), photos.FRAME, size)
    images.write(tmp_path / "face.png", face)
    options = ["--aligned", "--scale", scale, "--keep-faces"]
    status, out, _ = run_restore(tmp_path / "face.png", "-o", tmp_path / "out.png", "--strength", 1, *options)
    assert status == 0 and f"1: at {size / 2:.0f}, {size / 2:.0f}, frame of {size} pixels, strength 1.00" in out
    aligned, restored = (images.read(tmp_path / f"faces/out_1_{name}.png") for name in ("aligned", "restored"))
    assert (restored == Restorer.from_pretrained(run_folder)(aligned).restored).all()
    result = images.read(tmp_path / "out.png")
    expected = Image.fromarray(restored).resize((scale * size, scale * size), Image.Resampling.BICUBIC)
    assert (result == np.asarray(expected)).all() and float(re.search(r"distance (\d\.\d+)", out)[1]) > 0
    assert run_restore(tmp_path / "face.png", "-o", tmp_path / "out.png", "--strength", 0, *options)[0] == 0
    unchanged = io.Photograph(face).upscaled(scale).pixels
    assert (images.read(tmp_path / "out.png") == unchanged).all()


def test_an_aligned_face_is_square(run_restore, group, tmp_path):
    status, _, err = run_restore(group, "-o", tmp_path / "out.png", "--aligned")
    assert status == 1 and "group.png: 600x260 pixels, but an aligned face is square" in err


def test_faces_from_python(run_folder, group):
    photo, frames = photos.group()
    restorer = Restorer.from_pretrained(run_folder)
    result = restorer.restore(photo, strength=1.0, faces=[3], min_size=10)
    assert ([face.number for face in result.faces], result.num_found) == ([3], 3)
    changed = (result.image != photo).any(2)
    assert changed.any() and not changed[~in_frames(photo.shape, frames[2:])].any()
    assert restorer.restore(photos.astronaut()).num_found == 0
    deep = np.uint16(257) * alignment.crop(photo, frames[0], SIZE)
    assert restorer.restore_aligned(deep, strength=1.0).image.dtype == np.uint16
    for faces in ("2", ["1"], [1.5]):
        with pytest.raises(UserError, match="faces: .*: pass all, largest or whole numbers"):
            Selection(faces).choose(frames)
