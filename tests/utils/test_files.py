"""Atomic files and folders, and duplicate names."""

from pathlib import Path

import pytest

from psfr.utils.files import atomic_dir, atomic_write, find_duplicates, mirror_to_cache, scratch_dir


def test_atomic_write_replaces_the_file_only_on_success(tmp_path):
    path = tmp_path / "sub" / "x.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(ValueError, match="cut off"), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise ValueError("cut off")
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["x.txt"]


def test_atomic_dir_replaces_the_folder_only_on_success(tmp_path):
    path = tmp_path / "folder"
    with atomic_dir(path) as folder:
        (folder / "old").touch()
    with pytest.raises(ValueError, match="cut off"), atomic_dir(path) as folder:
        (folder / "half").touch()
        raise ValueError("cut off")
    assert [file.name for file in path.iterdir()] == ["old"]
    with atomic_dir(path) as folder:
        (folder / "new").touch()
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


def test_scratch_dir_stays_only_after_an_exception(tmp_path):
    path = tmp_path / "scratch"
    with pytest.raises(ValueError, match="cut off"), scratch_dir(path) as folder:
        (folder / "file").touch()
        raise ValueError("cut off")
    assert (path / "file").exists()
    with scratch_dir(path) as folder:
        assert (folder / "file").exists()
    assert not path.exists()


def test_mirror_to_cache_keeps_just_the_named_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.json", "b.json"):
        Path(name).write_text(name)
        mirror_to_cache("train", Path(name))
    assert [(file.name, file.read_text()) for file in Path("metrics/cached/train").iterdir()] == [("b.json", "b.json")]


def test_find_duplicates_pairs_each_item_with_the_first_of_its_key():
    paths = [Path(name) for name in ("a.png", "b.png", "sub/a.jpg", "c.png", "a.bmp")]
    pairs = find_duplicates(paths, lambda path: path.stem)
    assert pairs == [(Path("sub/a.jpg"), Path("a.png")), (Path("a.bmp"), Path("a.png"))]
    assert find_duplicates(paths, str) == []
    assert find_duplicates([], str) == []
    assert find_duplicates(iter("aba"), lambda letter: None) == [("b", "a"), ("a", "a")]
