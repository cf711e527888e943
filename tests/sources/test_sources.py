"""From a source to data/SET/raw and hr: the sources that need no network, and the stages' scripts as they are called."""

import importlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from psfr import params, portraits, sources
from psfr.compute import parallel
from psfr.data import images, labels
from psfr.data.subset import choose_subset
from psfr.utils.errors import UserError
from psfr.utils.seeds import derive_seed
from tests.helpers.sets import SIZE, folder_set, given_params, own, refused, settings, stage, tree  # noqa: F401

# Choosing


@given(st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), unique=True, min_size=1, max_size=30), st.data())
def test_choice_is_independent_of_listing_and_disjoint_by_skip(names, data):
    first = data.draw(st.integers(1, len(names)))
    shuffled = data.draw(st.permutations(names))
    a = choose_subset(names, first, 0, 1, "ffhq", "here")
    assert a == choose_subset(shuffled, first, 0, 1, "ffhq", "here") == sorted(a)
    assert len(a) == first and set(a) <= set(names)
    if first < len(names):
        b = choose_subset(shuffled, None, first, 1, "celebahq", "here")
        assert sorted(a + b) == sorted(names)


def test_choice_changes_with_the_seed():
    names = [str(number) for number in range(100)]
    assert len({tuple(choose_subset(names, 10, 0, seed, "ffhq", "here")) for seed in range(5)}) == 5


@pytest.mark.parametrize(("count", "skip"), [(13, 0), (10, 3), (None, 12)])
def test_too_few_images(count, skip):
    with pytest.raises(UserError, match=r"here: 12 images, ffhq takes .*ffhq\.count"):
        choose_subset(map(str, range(12)), count, skip, 1, "ffhq", "here")


# Work over processes


def double(number: int) -> int:
    if number % 10 == 9:
        raise UserError(f"number {number}: is bad")
    if number < 0:
        raise ZeroDivisionError
    return 2 * number


@pytest.mark.parametrize("workers", [0, 1, 2, None])
def test_each_keeps_the_order_and_reads_generators(workers):
    assert parallel.map(double, (number for number in range(9)), workers, "double") == list(range(0, 18, 2))
    assert parallel.map(double, [], workers, "double") == []
    with pytest.raises(UserError) as caught:
        parallel.map(double, range(30), workers, "double")
    assert str(caught.value) == "number 9: is bad; number 19: is bad; number 29: is bad"
    with pytest.raises(ZeroDivisionError):
        parallel.map(double, [1, 2, -2], workers, "double")


# The project's own portraits


def test_sample_draws_the_portraits_of_its_own_series(tmp_path):
    given = given_params(tmp_path, ffhq={"count": 2}, celebamask={"count": 2, "skip": 1})
    for name in ("ffhq", "celebamask"):
        sources.download_set(tmp_path / name, name, given)
    assert set(tree(tmp_path / "ffhq")) == {"00000.png", "00001.png"}
    assert set(tree(tmp_path / "celebamask")) == {
        f"{kind}/0000{number}.png" for kind in ("images", "masks") for number in (1, 2)
    }
    image, regions = portraits.draw(derive_seed(given.seed, "portraits", "celebamask"), 1, SIZE)
    assert (images.read(tmp_path / "celebamask" / "images" / "00001.png") == image).all()
    assert (labels.read(tmp_path / "celebamask" / "masks" / "00001.png") == regions).all()
    assert (images.read(tmp_path / "ffhq" / "00001.png") != image).any()


# The user's own images


def test_folder_copies_bytes(tmp_path, own):
    given = given_params(tmp_path, ffhq=folder_set(own), celebamask=folder_set(own, masks=str(own / "masks"), count=5))
    for name in ("ffhq", "celebamask"):
        (tmp_path / name).mkdir()
        sources.download_set(tmp_path / name, name, given)
    originals = {Path(name).name: content for name, content in tree(own / "faces").items()}
    assert tree(tmp_path / "ffhq") == originals
    labelled = tree(tmp_path / "celebamask")
    assert len(labelled) == 10
    for name in [name for name in labelled if name.startswith("images/")]:
        mask = f"masks/{Path(name).stem}.png"
        assert labelled[name] == originals[Path(name).name] and labelled[mask] == (own / mask).read_bytes()


def test_three_sets_share_a_folder(tmp_path, own):
    given = given_params(
        tmp_path,
        ffhq=folder_set(own, count=6),
        celebahq=folder_set(own, count=2, skip=6),
        celebamask=folder_set(own, skip=8, masks=str(own / "masks")),
    )
    taken = []
    for name in params.SETS:
        (tmp_path / name).mkdir()
        sources.download_set(tmp_path / name, name, given)
        taken += [Path(file).stem for file in tree(tmp_path / name) if "masks" not in file]
    assert len(taken) == len(set(taken)) == 12


def test_every_fault_of_a_folder_is_named_at_once_and_nothing_written(tmp_path, own):
    faces, masks = own / "faces", own / "masks"
    (faces / "face 0#.png").write_text("no image at all")
    cut = (faces / "face 3#.png").read_bytes()
    (faces / "face 3#.png").write_bytes(cut[: len(cut) // 2])
    (faces / "face 1#.jpg").write_bytes(b"")
    labels.write(masks / "face 2#.png", np.zeros((30, 41), np.uint8))
    Image.fromarray(np.full((30, 40), 19, np.uint8)).save(masks / "face 4#.png")
    Image.new("RGB", (40, 30)).save(masks / "face 5#.png")
    given_params(tmp_path, celebamask=folder_set(own, masks=str(masks)))
    done = stage(tmp_path, "stages.download", "celebamask")
    refused(
        done,
        "faces/face 0#.png",
        "faces/face 3#.png",
        "faces/face 1#.jpg",
        "face 2#.png: 41x30",
        "face 4#.png: label 19",
        "face 5#.png",
    )
    assert not list(tmp_path.rglob("raw")) and not list(tmp_path.rglob("*.partial"))


def test_images_without_masks_and_masks_without_images_are_named(tmp_path, own):
    for name in ("faces/face 0#.png", "masks/face 1#.png", "masks/face 4#.png"):
        (own / name).unlink()
    given = given_params(tmp_path, celebamask=folder_set(own, masks=str(own / "masks")))
    with pytest.raises(UserError) as caught:
        sources.download_set(tmp_path / "raw", "celebamask", given)
    for words in ("face 1#.jpg has no mask", "face 4#.jpg has no mask", "face 0#.png has no image"):
        assert words in str(caught.value)


def test_mask_follows_the_upright_image(tmp_path):
    """A photograph stored lying has the mask of what one sees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "faces").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "faces" / "a.jpg", exif=exif)
    labels.write(tmp_path / "masks" / "a.png", np.zeros((40, 30), np.uint8))
    given = given_params(tmp_path, celebamask=folder_set(tmp_path, masks=str(tmp_path / "masks")))
    (tmp_path / "raw").mkdir()
    sources.download_set(tmp_path / "raw", "celebamask", given)
    assert len(tree(tmp_path / "raw")) == 2


# The scripts


@pytest.mark.parametrize("fault", ["params missing", "unknown key", "folder missing", "folder empty", "too few"])
def test_a_stage_ends_with_one_line(tmp_path, own, fault):
    values = settings(ffhq=folder_set(own))
    words = []
    match fault:
        case "unknown key":
            values["ffhq"]["kount"] = 3
            words = ["params.yaml", "ffhq.kount"]
        case "folder missing":
            values["ffhq"]["images"] = "no/such"
            words = ["no/such: no such folder"]
        case "folder empty":
            (tmp_path / "empty").mkdir()
            values["ffhq"]["images"] = "empty"
            words = ["empty: no images in it"]
        case "too few":
            values["ffhq"]["count"] = 13
            words = ["12 images", "ffhq.count"]
    if fault != "params missing":
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    refused(stage(tmp_path, "stages.download", "ffhq"), *words or ["params.yaml"])
    assert not list(tmp_path.rglob("raw")) and not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("name", "missing"), [("resize ffhq", "ffhq/raw"), ("degrade", "ffhq/hr"), ("make_testset", "celebahq/hr")]
)
def test_a_stage_without_its_input_ends_with_one_line(tmp_path, name, missing):
    given_params(tmp_path)
    script, *arguments = name.split()
    refused(stage(tmp_path, f"stages.{script}", *arguments), missing)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "params.yaml"]


def test_a_failing_stage_leaves_the_last_good_output(tmp_path, own):
    given_params(tmp_path, ffhq=folder_set(own))
    assert stage(tmp_path, "stages.download", "ffhq").returncode == 0
    before = tree(tmp_path / "data")
    (own / "faces" / "face 0#.png").write_bytes(b"")
    refused(stage(tmp_path, "stages.download", "ffhq"), "face 0#.png")
    assert tree(tmp_path / "data") == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of imageio, which imgaug calls in its old way
def test_the_data_stages_from_end_to_end(tmp_path, own, monkeypatch, capsys):
    """Twice, with another number of workers: the same files, byte for byte."""
    for folder, workers in [(tmp_path / "a", 0), (tmp_path / "b", 2)]:
        sets = {
            "ffhq": {"count": 3},
            "celebahq": folder_set(own),
            "testset": {"count": 5, "gray": 0.5},
            "compute": {"workers": workers},
        }
        given_params(folder, **sets)
        monkeypatch.chdir(folder)
        for name in ("download ffhq", "download celebahq", "resize ffhq", "resize celebahq", "degrade", "make_testset"):
            script, *arguments = name.split()
            monkeypatch.setattr(sys, "argv", [script, *arguments])
            importlib.import_module(f"stages.{script}").main()
            assert "image/s" in capsys.readouterr().err
    files = tree(tmp_path / "a" / "data")
    assert files == tree(tmp_path / "b" / "data")
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
