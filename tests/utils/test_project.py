"""Files of the user are found from the project's root, also in the copies in which DVC runs experiments."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfr import params
from psfr.pretrained import fetch, registry
from psfr.sources import fetching, folder
from psfr.utils import project
from psfr.utils.errors import UserError


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """The working directory, DVC's copy of the project in `tmp_path`."""
    path = tmp_path / ".dvc/tmp/exps/standalone/tmpx"
    path.mkdir(parents=True)
    monkeypatch.chdir(path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return path


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_what_is_not_in_the_copy_is_found_in_the_project(tmp_path, copy):
    touch(tmp_path / "photos/a.jpg")
    assert project.project_root() == tmp_path
    assert project.find("photos") == tmp_path / "photos"
    assert project.find("none") == Path("none") and project.find("/none") == Path("/none")
    touch(copy / "photos/a.jpg")
    assert project.find("photos") == Path("photos")


def test_a_folder_with_other_files_only_is_not_the_users(tmp_path, copy):
    touch(tmp_path / "photos/sub/a.JPG")
    touch(copy / "photos/README.md")
    assert folder._find("photos") == tmp_path / "photos"
    touch(copy / "photos/b.png")
    assert folder._find("photos") == Path("photos")


def test_outside_of_copies_nothing_else_is_searched(tmp_path, copy, monkeypatch):
    """The variable is that of another project if a stage starts DVC elsewhere."""
    touch(tmp_path / "photos/a.jpg")
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    assert project.project_root() == other and project.find("photos") == Path("photos")
    monkeypatch.chdir(copy)
    monkeypatch.delenv("DVC_ROOT")
    assert project.find("photos") == Path("photos")


def test_the_folder_of_the_copies_may_be_a_link(tmp_path, monkeypatch):
    root, disk = tmp_path / "project", tmp_path / "disk"
    touch(root / "photos/a.jpg")
    (disk / "exps/x").mkdir(parents=True)
    (root / ".dvc").mkdir()
    (root / ".dvc/tmp").symlink_to(disk)
    monkeypatch.chdir(disk / "exps/x")
    monkeypatch.setenv("DVC_ROOT", str(root))
    assert project.find("photos") == root / "photos"


@pytest.mark.parametrize(
    ("remote", "found"),
    [
        ("photos", "ROOT/photos"),
        (":local:photos/", ":local:ROOT/photos"),
        (":archive:photos/a.zip/inner", ":archive:ROOT/photos/a.zip/inner"),
        ("none/", "none/"),
        ("lab:photos", "lab:photos"),
        ("/none", "/none"),
    ],
)
def test_local_remotes(tmp_path, copy, remote, found):
    touch(tmp_path / "photos/a.zip")
    touch(copy / "photos/.gitignore")
    assert fetching.find_remote(remote) == found.replace("ROOT", str(tmp_path))


def test_mirror_of_weights(tmp_path, copy):
    weight = registry.DOWNLOADABLE[0]
    touch(tmp_path / "mirror" / weight.name)
    assert fetch._address(weight, "mirror/") == str(tmp_path / "mirror" / weight.name)
    assert fetch._address(weight, "none") == f"none/{weight.name}"
    assert fetch._address(weight, "https://host.invalid/w/") == f"https://host.invalid/w/{weight.name}"


def test_a_reference_set_is_provided_in_the_copy(tmp_path, copy):
    for name in ("ffhq.npz", "faces/a.png", "faces/sub/b.png", "README.md", "c.png"):
        touch(tmp_path / "data/reference" / name).write_text(name)
    touch(copy / "data/reference/README.md")
    project.provide([Path("data/reference/ffhq.npz"), Path("data/reference/faces")])
    for name in ("ffhq.npz", "faces/a.png", "faces/sub/b.png"):
        assert (copy / "data/reference" / name).read_text() == name
    assert not (copy / "data/reference/c.png").exists()
    project.provide([Path("data/reference")])
    assert (copy / "data/reference/c.png").read_text() == "c.png"
    assert not (copy / "data/reference/README.md").read_text(), "git's files are those of the copy"
    with pytest.raises(UserError, match="data/reference/none: no such file: copy it there"):
        project.provide([Path("data/reference/none")])


def test_generators_are_those_of_the_copy(tmp_path, copy):
    """A generator that the copy has trained must not be taken from the project, whatever the spelling."""
    for name in ("models/psfrgan/generator.safetensors", "models/external/x.safetensors"):
        for spelling in (name, str(tmp_path / name), f"{tmp_path}/models/../{name}"):
            assert params._lies_in(spelling, params.MODEL_DIRS)
            assert project.workspace_path(spelling) == Path(name)
    assert not params._lies_in("photos/x.safetensors", params.MODEL_DIRS)


STEPS = st.lists(st.sampled_from(["./", "/", "gray/../", "../photos/"]), max_size=4).map("".join)


@given(STEPS, st.booleans(), STEPS, st.booleans(), st.booleans())
def test_spellings_of_one_folder(tmp_path_factory, first, first_is_absolute, second, second_is_absolute, in_copy):
    """Every spelling finds the folder, and two of them are known to be one folder, in the project and in a copy."""
    root = tmp_path_factory.mktemp("project")
    touch(root / "photos/gray/a.jpg")
    workspace = root / ".dvc/tmp/exps/x" if in_copy else root
    workspace.mkdir(parents=True, exist_ok=True)
    sets = []
    for steps, is_absolute in ((first, first_is_absolute), (second, second_is_absolute)):
        spelling = f"{root if is_absolute else '.'}/photos/{steps}gray"
        sets.append(params.ImageSetParams(source="folder", count=1, skip=0, images=spelling))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        patch.setenv("DVC_ROOT", str(root))
        for image_set in sets:
            assert folder._find(image_set.images).samefile(root / "photos/gray")
        assert params._overlap(*sets)
