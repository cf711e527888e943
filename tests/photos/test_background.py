"""`--background`: super-resolution models that enlarge or clean a photograph in tiles, with faces blended onto it."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from psfr.data import images
from psfr.photos import background, detection, restoration
from psfr.photos.background import Background
from psfr.photos.io import Photograph
from psfr.photos.restorer import Restorer
from psfr.utils import compat
from psfr.utils.errors import UserError
from tests.helpers import photos
from tests.photos.test_restore import run_cli, run_folder, run_restore, visible_files  # noqa: F401 (fixtures)
from tests.photos.test_selection import group, in_frames  # noqa: F401 (fixture)

compat.patch_torchvision()
from spandrel.architectures.Compact import Compact  # noqa: E402
from spandrel.architectures.ESRGAN import ESRGAN  # noqa: E402


def compact(factor: int, channels: int = 3, num_convolutions: int = 3) -> Compact:
    """Return a small network of random weights that keeps the magnitude of what each convolution reads."""
    torch.manual_seed(0)
    network = Compact(
        num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=num_convolutions, upscale=factor
    ).requires_grad_(False)
    for layer in network.body:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    network.body[-1].weight *= 0.1
    return network


def save(network: torch.nn.Module, path: Path) -> Path:
    torch.save({"params_ema": network.state_dict()}, path)
    return path


def untiled(model: Background, pixels: np.ndarray, scale: int) -> np.ndarray:
    step, model.step = model.step, 10_000
    try:
        return model(pixels, scale)
    finally:
        model.step = step


@pytest.mark.heavy
@pytest.mark.parametrize(
    "network",
    [
        compact(1),
        compact(2, channels=1),
        compact(3, num_convolutions=16),
        compact(4),
        ESRGAN(in_nc=12, out_nc=3, num_filters=4, num_blocks=1, scale=4, shuffle_factor=2),  # windows of 4 pixels
    ],
    ids=["clean", "gray", "deep", "4", "unshuffle"],
)
def test_tiles_equal_the_whole(network, tmp_path):
    """Within a level, at any factor of the model and of the result, for a size that tiles do not divide."""
    model = Background.from_file(save(network, tmp_path / "net.pth"))
    model.step = 32
    pixels = photos.astronaut()[:161, :147]
    for scale in (1, 2):
        result, whole = model(pixels, scale), untiled(model, pixels, scale)
        assert result.shape == (161 * scale, 147 * scale, 3) and result.dtype == np.uint8
        assert np.abs(result.astype(int) - whole).max() <= 1 and (whole != whole[0, 0]).any()
    assert len(model._tiles(161)) > 2


def test_the_margin_follows_the_receptive_field(tmp_path):
    shallow, deep = (
        Background.from_file(save(compact(2, num_convolutions=count), tmp_path / "net.pth")) for count in (1, 24)
    )
    assert shallow.margin == background.MARGINS[0] < deep.margin


class Uneven:
    """A model whose tiles differ in brightness, which shows each seam; it records the sizes of its inputs."""

    scale, input_channels = 2, 3
    size_requirements = SimpleNamespace(multiple_of=1)

    def __init__(self):
        self.sizes: list[tuple[int, ...]] = []

    def to(self, *_):
        return self

    eval = to

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(image.shape[2:]))
        level = 0.25 + 0.5 * (len(self.sizes) % 2)
        return torch.full((1, 3, 2 * image.shape[2], 2 * image.shape[3]), level)


def test_there_are_no_seams_and_tiles_are_bounded(monkeypatch):
    """Even if tiles do not fit at all, the result changes from one to the next in small steps."""
    monkeypatch.setattr(Background, "_measure_margin", lambda _: 8)
    model = Uneven()
    pixels = np.full((700, 900, 3), 128, np.uint8)
    pixels[0, 0] = 0, 1, 2
    result = Background(model)(pixels, 2).astype(int)
    assert result.min() == 64 and result.max() == 191
    largest_step = 127 / (2 * background.RAMP)
    assert max(np.abs(np.diff(result, axis=axis)).max() for axis in (0, 1)) <= largest_step + 1
    assert max(map(max, model.sizes)) == background.MAX_STEP + 2 * 8 + background.RAMP and len(model.sizes) == 12


def test_depth_and_gray_are_kept(tmp_path):
    model = Background.from_file(save(compact(2), tmp_path / "net.pth"))
    deep = np.uint16(257) * photos.astronaut()[:70, :60] + np.uint16(100)
    assert np.abs(model(deep, 2) / 257 - model(photos.astronaut()[:70, :60], 2)).max() < 3
    gray = model(images.gray(photos.astronaut())[:70, :60], 1)
    assert (gray == gray[:, :, :1]).all()
    alpha = np.full((70, 60), 9, np.uint8)
    enlarged = Photograph(photos.astronaut()[:70, :60], alpha).upscaled(2, model)
    assert enlarged.pixels.shape == (140, 120, 3) and (enlarged.alpha == 9).all() and enlarged.alpha.shape == (140, 120)


@pytest.mark.heavy
@pytest.mark.parametrize(("scale", "factor"), [(2, 2), (1, 2)])
def test_faces_are_blended_onto_the_background(run_restore, run_folder, group, tmp_path, scale, factor):
    """Around the chosen faces, the result is what the model makes of the photograph."""
    file = save(compact(factor), tmp_path / "net.pth")
    photo, frames = photos.group()
    options = ["--background", file, "--scale", scale, "--faces", "1,2", "--strength", 1]
    status, out, _ = run_restore(group, "-o", tmp_path / "out.png", *options)
    assert status == 0 and "2 of 3 faces" in out
    result, enlarged = images.read(tmp_path / "out.png"), Background.from_file(file)(photo, scale)
    outside = ~in_frames(result.shape, [frame.scaled(scale) for frame in frames[:2]])
    assert (result[outside] == enlarged[outside]).all() and (result != enlarged).any()
    restorer = Restorer.from_pretrained(run_folder)
    python = restorer.restore(photo, scale, 1.0, faces=[1, 2], background=Background.from_file(file))
    assert (python.image == result).all()
    assert (restorer.restore(photo, scale, 0.0, background=Background.from_file(file)).image == enlarged).all()


@pytest.mark.heavy
def test_a_face_replaces_what_the_background_model_made_of_it(monkeypatch):
    """At full strength, the head is as without the background, whatever the model did to its luminance's detail."""
    monkeypatch.setattr(detection, "find_faces", lambda _: [photos.FRAME])
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 60, (256, 256)), (0, 0), 2)
    rough = np.rint(noise)[:, :, None].astype(int)

    def roughen(pixels: np.ndarray, scale: int) -> np.ndarray:
        return np.clip(pixels.astype(int) + rough, 0, 255).astype(np.uint8)

    arguments = (Photograph(photos.astronaut()), photos.flawed_restorer, 256, 1, 1.0)
    plain, onto = restoration.restore(*arguments), restoration.restore(*arguments, background=roughen)
    error = np.abs(onto.image.pixels.astype(int) - plain.image.pixels)
    assert error[90:150, 110:170].mean() < 0.3 * error[:, -40:].mean()


@pytest.mark.heavy
def test_photographs_without_a_face_and_an_album(run_restore, group, tmp_path):
    """They are enlarged, too. A changed file of the model restores an album again, a copy of it does not."""
    file = save(compact(1), tmp_path / "net.pth")
    Image.fromarray(photos.astronaut()[:40, :60]).save(group.parent / "field.png")

    def run(path: Path) -> str:
        return run_restore(group.parent, "-o", tmp_path / "out", "--background", path)[1]

    out = run(file)
    assert "field.png: no face found, written to" in out and "1 photographs restored, 1 without a face" in out
    expected = Background.from_file(file)(photos.astronaut()[:40, :60], 1)
    assert (images.read(tmp_path / "out/field.png") == expected).all()
    assert "2 passed over" in run(Path(file.rename(tmp_path / "renamed.pth")))
    assert "0 passed over" in run(save(compact(1, num_convolutions=2), tmp_path / "renamed.pth"))


class Code:
    """Pickled, it would run code."""

    def __reduce__(self):
        return print, ("code runs",)


def test_files_that_are_no_super_resolution_model(run_restore, group, tmp_path, capsys):
    def refused(path: Path, message: str) -> None:
        with pytest.raises(UserError, match=rf"{path.name}: {message}.*: name .* with --background"):
            Background.from_file(path)

    file = tmp_path / "net.pth"
    refused(file, "no such weights file")
    torch.save({"params": {"body.0.weight": Code()}}, file)
    refused(file, r"not a readable weights file \(it refers to \w+ print\)")
    assert "code runs" not in capsys.readouterr().out
    torch.save({"params": {"w": torch.ones(1)}, "epoch": 3}, file)
    refused(file, "no model that spandrel knows")
    torch.save({"params": {"w": 3}}, file)
    refused(file, "holds no state dict")
    save(compact(2), file)
    state = torch.load(file)["params_ema"]
    save_file(
        {name: value[:1] if "body.2" in name else value for name, value in state.items()},
        file.with_suffix(".safetensors"),
    )
    refused(file.with_suffix(".safetensors"), "no model that spandrel knows")
    torch.save({name: value * torch.nan for name, value in state.items()}, file)
    with pytest.raises(UserError, match=r"net\.pth: its output is not finite: name another file with --background"):
        Background.from_file(file)
    status, _, err = run_restore(group, "-o", tmp_path / "out.png", "--background", file)
    assert status == 1 and "its output is not finite" in err and visible_files(tmp_path / "in") == ["group.png"]
