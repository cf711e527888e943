"""Sets from sources that need no network, and the data stages run as scripts."""

import importlib
import io
import os
import sys
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from psfr import portraits, sources
from psfr.compute import parallel
from psfr.data import images, labels, names
from psfr.data.subset import choose_subset
from psfr.params import SETS
from psfr.utils.errors import UserError
from psfr.utils.seeds import derive_seed
from tests.helpers.running import run_module
from tests.helpers.sets import (  # noqa: F401
    SIZE,
    assert_fails,
    folder_set,
    read_tree,
    small_params,
    user_images,
    write_params,
)

# Subsets


@given(st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), unique=True, min_size=1, max_size=30), st.data())
def test_subsets_are_independent_of_order_and_disjoint_by_skip(names, data):
    first = data.draw(st.integers(1, len(names)))
    shuffled = data.draw(st.permutations(names))
    a = choose_subset(names, first, 0, 1, "ffhq", "here")
    assert a == choose_subset(shuffled, first, 0, 1, "ffhq", "here") == sorted(a)
    assert len(a) == first and set(a) <= set(names)
    if first < len(names):
        b = choose_subset(shuffled, None, first, 1, "celebahq", "here")
        assert sorted(a + b) == sorted(names)


def test_subsets_change_with_the_seed():
    names = [str(number) for number in range(100)]
    assert len({tuple(choose_subset(names, 10, 0, seed, "ffhq", "here")) for seed in range(5)}) == 5


@pytest.mark.parametrize(("count", "skip"), [(13, 0), (10, 3), (None, 12)])
def test_too_few_images(count, skip):
    with pytest.raises(UserError, match=r"here: 12 images, ffhq takes .*ffhq\.count"):
        choose_subset(map(str, range(12)), count, skip, 1, "ffhq", "here")


# Parallel execution


def double(number: int) -> int:
    if number % 10 == 9:
        raise UserError(f"number {number}: is bad")
    if number < 0:
        raise ZeroDivisionError
    return 2 * number


@pytest.mark.parametrize("start_after", [0, 60])
@pytest.mark.parametrize(
    "workers", [0, 1, pytest.param(2, marks=pytest.mark.process), pytest.param(None, marks=pytest.mark.process)]
)
def test_map_keeps_the_order_and_accepts_generators(workers, start_after, monkeypatch):
    monkeypatch.setattr(parallel, "START_AFTER", start_after)
    assert parallel.map(double, (number for number in range(9)), workers, "double") == list(range(0, 18, 2))
    assert parallel.map(double, [], workers, "double") == []
    with pytest.raises(UserError) as caught:
        parallel.map(double, range(30), workers, "double")
    assert str(caught.value) == "number 9: is bad; number 19: is bad; number 29: is bad"
    with pytest.raises(ZeroDivisionError):
        parallel.map(double, [1, 2, -2], workers, "double")


def process_id(_: int) -> int:
    return os.getpid()


@pytest.mark.process
def test_other_processes_start_after_the_first_seconds_of_work(monkeypatch):
    assert set(parallel.map(process_id, range(9), 2, "short")) == {os.getpid()}
    monkeypatch.setattr(parallel, "START_AFTER", 0)
    first, *others = parallel.map(process_id, range(9), 2, "long")
    assert first == os.getpid() and os.getpid() not in others


# Synthetic portraits


def test_sample_renders_a_series_for_each_set(tmp_path):
    params = write_params(tmp_path, ffhq={"count": 2}, celebamask={"count": 2, "skip": 1})
    for name in ("ffhq", "celebamask"):
        sources.download_set(tmp_path / name, name, params)
    assert set(read_tree(tmp_path / "ffhq")) == {"00000.png", "00001.png"}
    assert set(read_tree(tmp_path / "celebamask")) == {
        f"{kind}/0000{number}.png" for kind in ("images", "masks") for number in (1, 2)
    }
    image, seg = portraits.draw(derive_seed(params.seed, "portraits", "celebamask"), 1, SIZE)
    assert (images.read(tmp_path / "celebamask" / "images" / "00001.png") == image).all()
    assert (labels.read(tmp_path / "celebamask" / "masks" / "00001.png") == seg).all()
    assert (images.read(tmp_path / "ffhq" / "00001.png") != image).any()


# Folders of a user's images


def test_folder_copies_bytes(tmp_path, user_images):
    params = write_params(
        tmp_path,
        ffhq=folder_set(user_images),
        celebamask=folder_set(user_images, masks=str(user_images / "masks"), count=5),
    )
    for name in ("ffhq", "celebamask"):
        (tmp_path / name).mkdir()
        sources.download_set(tmp_path / name, name, params)
    originals = {Path(name).name: content for name, content in read_tree(user_images / "faces").items()}
    assert read_tree(tmp_path / "ffhq") == originals
    labeled = read_tree(tmp_path / "celebamask")
    assert len(labeled) == 10
    for name in [name for name in labeled if name.startswith("images/")]:
        mask = f"masks/{Path(name).stem}.png"
        assert labeled[name] == originals[Path(name).name] and labeled[mask] == (user_images / mask).read_bytes()


@pytest.mark.parametrize("link", [os.link, os.symlink], ids=["hard links", "symbolic links"])
def test_folder_does_not_write_through_links_to_the_cache(tmp_path, user_images, link):
    """Files of the last run are links to the DVC cache if `cache.type` says so."""
    params = write_params(tmp_path, ffhq=folder_set(user_images))
    raw, cache = tmp_path / "raw", tmp_path / "cache"
    sources.download_set(cache, "ffhq", params)
    before = read_tree(cache)
    raw.mkdir()
    for name in before:
        link(cache / name, raw / name)
    edited, kept = "face 0#.png", "face 1#.jpg"
    inode = (raw / kept).lstat().st_ino
    images.write(user_images / "faces" / edited, np.zeros((30, 40, 3), np.uint8))
    sources.download_set(raw, "ffhq", params)
    assert read_tree(cache) == before
    assert read_tree(raw) == before | {edited: (user_images / "faces" / edited).read_bytes()}
    assert (raw / kept).lstat().st_ino == inode, "the same file is not copied again"


def test_three_sets_can_share_a_folder(tmp_path, user_images):
    params = write_params(
        tmp_path,
        ffhq=folder_set(user_images, count=6),
        celebahq=folder_set(user_images, count=2, skip=6),
        celebamask=folder_set(user_images, skip=8, masks=str(user_images / "masks")),
    )
    names = []
    for name in SETS:
        (tmp_path / name).mkdir()
        sources.download_set(tmp_path / name, name, params)
        names += [Path(file).stem for file in read_tree(tmp_path / name) if "masks" not in file]
    assert len(names) == len(set(names)) == 12


def test_a_folder_by_person_is_named_by_paths(tmp_path, capsys):
    """Names that would repeat are the paths, also those of the masks; counts and masks are matched as ever."""
    files = {}
    for person in ("Tom Thumb", "Bob Ray"):
        for number in range(1, 3):
            path = tmp_path / "user" / "faces" / person / f"{number:04}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (10 * number, len(person), 0)).save(path)
            labels.write(tmp_path / "user/masks" / person / f"{number:04}.PNG", np.full((30, 40), number, np.uint8))
            files[f"{person}_{number:04}"] = path.read_bytes()
    masks = str(tmp_path / "user/masks")
    params = write_params(
        tmp_path, ffhq=folder_set(tmp_path / "user"), celebamask=folder_set(tmp_path / "user", masks=masks)
    )
    for name in ("ffhq", "celebamask"):
        sources.download_set(tmp_path / name, name, params)
    assert read_tree(tmp_path / "ffhq") == {f"{name}.jpg": content for name, content in files.items()}
    assert {f"images/{name}.jpg" for name in files} | {f"masks/{name}.png" for name in files} == set(
        read_tree(tmp_path / "celebamask")
    )
    assert labels.read(tmp_path / "celebamask/masks/Bob Ray_0002.png").max() == 2
    assert "faces: 2 file names repeat, so images are named by their paths" in capsys.readouterr().err


FOLDER_NAMES = st.lists(st.text("ab_", min_size=1, max_size=3), max_size=2)


@given(st.lists(st.tuples(FOLDER_NAMES, st.text("ab_.", min_size=1, max_size=3)), min_size=1, unique_by=str))
def test_names_are_unique_or_refused(files):
    """Names are those of the files if they are unique, paths otherwise; no two files ever get one name."""
    paths = [PurePosixPath(*folders, f"{stem}.jpg") for folders, stem in files]
    try:
        found = names.name_files(paths, names.need_paths(paths, "here"), "here")
    except UserError as error:
        joined = ["_".join(path.parts) for path in paths]
        assert len(set(joined)) < len(joined) and "has the same name as" in str(error)
        return
    assert sorted(found.values()) == sorted(paths)
    if len({path.stem for path in paths}) == len(paths):
        assert all(name == path.stem for name, path in found.items())


def test_all_damaged_files_are_named_and_nothing_is_written(tmp_path, user_images):
    faces, masks = user_images / "faces", user_images / "masks"
    (faces / "face 0#.png").write_text("no image at all")
    cut = (faces / "face 3#.png").read_bytes()
    (faces / "face 3#.png").write_bytes(cut[: len(cut) // 2])
    (faces / "face 1#.jpg").write_bytes(b"")
    labels.write(masks / "face 2#.png", np.zeros((30, 41), np.uint8))
    Image.fromarray(np.full((30, 40), 19, np.uint8)).save(masks / "face 4#.png")
    Image.new("RGB", (40, 30)).save(masks / "face 5#.png")
    write_params(tmp_path, celebamask=folder_set(user_images, masks=str(masks)))
    done = run_module(tmp_path, "stages.download", "celebamask")
    assert_fails(
        done,
        "faces/face 0#.png",
        "faces/face 3#.png",
        "faces/face 1#.jpg",
        "face 2#.png: 41x30",
        "face 4#.png: label 19",
        "face 5#.png",
    )
    assert not list(tmp_path.rglob("raw")) and not list(tmp_path.rglob("*.partial"))


def test_images_without_masks_and_masks_without_images_are_named(tmp_path, user_images):
    for name in ("faces/face 0#.png", "masks/face 1#.png", "masks/face 4#.png"):
        (user_images / name).unlink()
    params = write_params(tmp_path, celebamask=folder_set(user_images, masks=str(user_images / "masks")))
    with pytest.raises(UserError) as caught:
        sources.download_set(tmp_path / "raw", "celebamask", params)
    for words in ("face 1#.jpg has no mask", "face 4#.jpg has no mask", "face 0#.png has no image"):
        assert words in str(caught.value)


def test_mask_of_a_rotated_image(tmp_path):
    """The mask has the orientation of the image after EXIF rotation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "faces").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "faces" / "a.jpg", exif=exif)
    labels.write(tmp_path / "masks" / "a.png", np.zeros((40, 30), np.uint8))
    params = write_params(tmp_path, celebamask=folder_set(tmp_path, masks=str(tmp_path / "masks")))
    (tmp_path / "raw").mkdir()
    sources.download_set(tmp_path / "raw", "celebamask", params)
    assert len(read_tree(tmp_path / "raw")) == 2


# Stages


@pytest.mark.parametrize(
    "fault", ["params missing", "unknown key", "folder missing", "folder is a file", "folder empty", "too few"]
)
def test_errors_of_a_stage_are_one_line(tmp_path, user_images, fault):
    params = small_params(ffhq=folder_set(user_images))
    words = []
    match fault:
        case "unknown key":
            params["ffhq"]["kount"] = 3
            words = ["params.yaml", "ffhq.kount"]
        case "folder missing":
            params["ffhq"]["images"] = "no/such"
            words = ["no/such: no such folder"]
        case "folder is a file":
            params["ffhq"]["images"] = "params.yaml"
            words = ["params.yaml: not a folder: name a folder"]
        case "folder empty":
            (tmp_path / "empty").mkdir()
            params["ffhq"]["images"] = "empty"
            words = ["empty: no images in it"]
        case "too few":
            params["ffhq"]["count"] = 13
            words = ["12 images", "ffhq.count"]
    if fault != "params missing":
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    assert_fails(run_module(tmp_path, "stages.download", "ffhq"), *words or ["params.yaml"])
    assert not list(tmp_path.rglob("raw")) and not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("name", "missing"), [("resize ffhq", "ffhq/raw"), ("degrade", "ffhq/hr"), ("make_testset", "celebahq/hr")]
)
def test_missing_inputs_of_a_stage_are_one_line(tmp_path, name, missing):
    write_params(tmp_path)
    script, *arguments = name.split()
    assert_fails(run_module(tmp_path, f"stages.{script}", *arguments), missing)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "params.yaml"]


def test_a_failing_stage_keeps_its_last_output(tmp_path, user_images):
    write_params(tmp_path, ffhq=folder_set(user_images))
    assert run_module(tmp_path, "stages.download", "ffhq").returncode == 0
    before = read_tree(tmp_path / "data")
    (user_images / "faces" / "face 0#.png").write_bytes(b"")
    assert_fails(run_module(tmp_path, "stages.download", "ffhq"), "face 0#.png")
    assert read_tree(tmp_path / "data") == before


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of imageio, whose deprecated interface imgaug uses
def test_data_stages_end_to_end(tmp_path, user_images, monkeypatch, capsys):
    """Runs with different numbers of workers write the same files, byte for byte."""
    for folder, workers in [(tmp_path / "a", 0), (tmp_path / "b", 2)]:
        sets = {
            "ffhq": {"count": 3},
            "celebahq": folder_set(user_images),
            "celebamask": {"count": 2},
            "testset": {"count": 5, "gray": 0.5},
            "compute": {"workers": workers},
        }
        write_params(folder, **sets)
        monkeypatch.chdir(folder)
        downloads = [f"download {name}" for name in ("ffhq", "celebahq", "celebamask")]
        for name in (*downloads, "resize ffhq", "resize celebahq", "degrade", "make_testset"):
            script, *arguments = name.split()
            monkeypatch.setattr(sys, "argv", [script, *arguments])
            importlib.import_module(f"stages.{script}").main()
            assert "image/s" in capsys.readouterr().err
    files = read_tree(tmp_path / "a" / "data")
    assert files == read_tree(tmp_path / "b" / "data")
    folders = [str(Path(name).parent) for name in files]
    expected = {
        "ffhq/raw": 3,
        "ffhq/hr": 3,
        "ffhq/lr/0": 3,
        "ffhq/lr/1": 3,
        "celebahq/hr": 12,
        "testset/hr": 5,
        "testset/lr": 5,
    }
    assert {name: folders.count(name) for name in expected} == expected
    assert {"ffhq/degradations.csv", "testset/degradations.csv"} <= files.keys()
    for name, content in files.items():
        if name.endswith(".png") and "raw" not in name:
            assert np.asarray(Image.open(io.BytesIO(content))).shape == (SIZE, SIZE, 3)
