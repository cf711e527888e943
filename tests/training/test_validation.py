"""Validation on held-out faces: the same metrics as those of the test set, and the generator is not changed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from psfr.data import images, labels
from psfr.data.datasets import PairedFaceDataset, normalize, to_tensor
from psfr.metrics import fidelity
from psfr.training import gan, validation
from psfr.training.validation import Validation, split_names
from tests.helpers import photos
from tests.training.test_gan import TINY, make_gan


@given(st.integers(1, 300), st.floats(0, 1, exclude_max=True))
def test_split_keeps_every_name_once(num_names, fraction):
    names = [f"{number:03}" for number in range(num_names)]
    train, held_out = split_names(names, fraction)
    assert train + held_out == names and train
    assert len(held_out) == min(round(fraction * num_names), num_names - 1)


@pytest.fixture
def dataset(tmp_path) -> PairedFaceDataset:
    """Three photographs of one face, each a little darker than the one before, and the same ones blurred."""
    size = TINY.image_size
    face = photos.astronaut()[:192, 48:240][::3, ::3]
    for i in range(3):
        image = np.ascontiguousarray(face - np.minimum(face, 5 * i))
        images.write(tmp_path / f"hr/{i}.png", image)
        images.write(tmp_path / f"lr/0/{i}.png", image[::4, ::4].repeat(4, 0).repeat(4, 1))
        for folder in ("parse/hr", "parse/lr/0"):
            labels.write(tmp_path / folder / f"{i}.png", np.full((size, size), i + 1, np.uint8))
    return PairedFaceDataset(tmp_path / "hr", tmp_path / "lr", tmp_path / "parse", set())


@pytest.fixture
def scored(dataset, monkeypatch):
    """A generator, its scores, the sheet, and the states of the generator and of torch's random numbers before."""
    monkeypatch.setattr(validation.st_lpips, "load_network", lambda *_: FakeDistance())
    monkeypatch.setattr(validation.identity, "load_models", lambda _: None)
    monkeypatch.setattr(
        validation.identity, "embedding_distances", lambda true, others, _: [abs(true.mean() - others[0].mean())]
    )
    generator = make_gan().generator
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    rng = torch.get_rng_state()
    scores, sheet = Validation(dataset, TINY.compute.model_copy(update={"precision": "fp32"}))(generator)
    return generator, scores, sheet, before, rng


class FakeDistance(torch.nn.Module):
    def forward(self, restored: torch.Tensor, hq: torch.Tensor) -> torch.Tensor:
        return (restored - hq).abs().mean().view(1, 1, 1, 1)


def test_scores_are_those_of_the_restored_images(dataset, scored):
    generator, scores, sheet, _, _ = scored
    psnr, distances = [], []
    for index in range(3):
        batch = gan.prepare_batch(torch.utils.data.default_collate([dataset[index, 0]]), torch.device("cpu"))
        with torch.no_grad():
            restored = generator(batch[1], batch[3]).clamp(-1, 1)
        restored = ((restored + 1) * 127.5).round() / 127.5 - 1
        psnr.append(fidelity.psnr(restored, batch[0]).item())
        distances.append((restored - batch[0]).abs().mean().item())
        shown = sheet[index * 64 : (index + 1) * 64]
        assert (normalize(to_tensor(shown[None, :, 128:192])) - restored).abs().max() < 1e-3, "restored"
        assert (shown[:, 192:] == images.read(Path(dataset.hr / f"{index}.png"))).all()
    assert scores["psnr"] == pytest.approx(fidelity.pooled_psnr(np.array(psnr)), rel=1e-5)
    assert scores["st_lpips"] == pytest.approx(np.mean(distances), rel=1e-5)
    assert scores["st_lpips_low"] == pytest.approx(min(distances), rel=1e-5)
    assert scores["st_lpips_high"] == pytest.approx(max(distances), rel=1e-5)
    assert scores["identity"] > 0


def test_validation_changes_nothing(scored):
    generator, _, _, before, rng = scored
    assert generator.training and torch.equal(rng, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
