"""Loading of weights: formats, damaged and hostile files."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from psfr.pretrained import loader, network_files
from psfr.utils.errors import UserError

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.count": torch.tensor(3)}


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_save_and_load_are_inverse(tmp_path, suffix):
    path = tmp_path / f"net.{suffix}"
    save_file(STATE, path) if suffix == "safetensors" else torch.save(STATE, path)
    state = loader.load(path)
    assert type(state) is dict and state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_old_format_and_tied_weights(tmp_path):
    """The format before PyTorch 1.6, and tensors that share their memory."""
    tied = torch.nn.Parameter(torch.rand(3, 4))
    for name, zip_format in [("old.pth", False), ("new.pth", True)]:
        state = OrderedDict(a=tied, b=tied, c=tied.detach()[1:].T, d=torch.ones(2, dtype=torch.bfloat16))
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=zip_format)
        assert all(torch.equal(value, state[key]) for key, value in loader.load(tmp_path / name).items())


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mine.safetensors", "name another file, or create it with `dvc repro`"),
        ("mine.pth", "name another file, or set weights.source to download"),
        (network_files.VGG_BACKBONES["vgg19"], "set weights.source to download"),
        (f"perceptual/{network_files.VGG_BACKBONES['vgg19']}", "set weights.source to download"),
        (f"perceptual/{network_files.VGG_BACKBONES['vgg16']}", "run `dvc repro fetch_weights`"),
        (f"published/{network_files.PUBLISHED_FPN}", "set weights.source to download"),
    ],
)
def test_missing_file_comes_with_a_hint(tmp_path, name, hint):
    with pytest.raises(UserError, match=rf"{name}: no such weights file: {hint}"):
        loader.load(tmp_path / name)


def test_a_pipe_is_not_a_weights_file(tmp_path):
    os.mkfifo(tmp_path / "net.pth")
    with pytest.raises(UserError, match="no such weights file"):
        loader.load(tmp_path / "net.pth")


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}, {1: torch.zeros(1)}, torch.zeros(2)])
def test_other_objects_are_refused(tmp_path, content):
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match="holds no state dict"):
        loader.load(path)


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(3, 3).to_sparse(),
        torch.quantize_per_tensor(torch.zeros(3), 1, 0, torch.qint8),
        torch.zeros(3, device="meta"),
    ],
    ids=["sparse", "quantized", "meta"],
)
def test_other_tensors_are_refused(tmp_path, value):
    torch.save({"a": torch.zeros(2), "b": value}, tmp_path / "net.pth")
    message = r"net\.pth: (holds no state dict of named, dense tensors|not a readable.*refers to)"
    with pytest.raises(UserError, match=message):
        loader.load(tmp_path / "net.pth")


@given(suffix=st.sampled_from(["safetensors", "pth"]), fraction=st.floats(0, 0.999))
@settings(deadline=None)  # reading a file takes any time on a busy machine
def test_truncated_files(tmp_path_factory, suffix, fraction):
    path = tmp_path_factory.mktemp("cut") / f"net.{suffix}"
    save_file(STATE, path) if suffix == "safetensors" else torch.save(STATE, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(UserError) as caught:
        loader.load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


# Hostile files


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


def zip_pickle(pickled: bytes, compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    """Return a file in the zip format of torch.save that holds a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in ({"data.pkl": pickled, "version": b"3\n", "byteorder": b"little"} | members).items():
            archive.writestr(f"archive/{name}", content)
    return buffer.getvalue()


PAIR_AND_DUPLICATE = b"\x86q\x00h\x00"  # makes a tuple of the two top elements of the stack and pushes it twice
HOSTILE_PICKLES = {
    # Each level holds the one below twice: hashing the key takes 2 ** 60 steps.
    "shared tuples": b"\x80\x02}K\x01K\x01" + PAIR_AND_DUPLICATE * 60 + b"\x86K\x01s.",
    # One byte per level: hashing the key overflows the stack of the process.
    "deep tuples": b"\x80\x02}K\x01" + b"\x85" * 2_000_000 + b"K\x01s.",
    "much memory": b"\x80\x02}X\x01\x00\x00\x00ac__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85Rs.",
    "a counter": b"\x80\x02}X\x01\x00\x00\x00accollections\nCounter\n)Rs.",
}


@pytest.mark.parametrize("kind", HOSTILE_PICKLES)
@pytest.mark.parametrize("zip_format", [True, False])
def test_pickles_that_exhaust_memory_or_time_are_refused(tmp_path, kind, zip_format):
    content = HOSTILE_PICKLES[kind]
    (tmp_path / "net.pth").write_bytes(zip_pickle(content) if zip_format else content)
    with pytest.raises(UserError, match="not a readable weights file .it (nests tuples|refers to)"):
        loader.load(tmp_path / "net.pth")


def test_zip_bomb_is_refused(tmp_path):
    content = zip_pickle(pickle.dumps({}, 2), zipfile.ZIP_DEFLATED, **{"data/0": bytes(50_000_000)})
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(UserError, match="unpacks to 500000.. bytes"):
        loader.load(tmp_path / "net.pth")


def test_zip_with_a_wrong_directory_offset(tmp_path):
    """The last bytes place the directory of the archive behind the end of the file."""
    content = bytearray(zip_pickle(pickle.dumps({}, 2)))
    content[-6:-2] = (10 * len(content)).to_bytes(4, "little")
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(UserError, match="not a readable weights file"):
        loader.load(tmp_path / "net.pth")
