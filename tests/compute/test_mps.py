"""The GPU of a Mac: `compute.device: mps` computes in float32, and gives it neither float64 nor work that it refuses.

Nothing here runs on a Mac: `tests.helpers.mps` stands for its GPU.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from psfr.compute import devices, processes
from psfr.data import images, labels
from psfr.metrics import fidelity, fixed_pattern
from psfr.networks.inference.fpn import FusedParsingNetwork
from psfr.networks.inference.generator import FusedGenerator
from psfr.networks.vgg import VggFeatures
from psfr.params import Params, read_params
from psfr.training import fpn, gan
from psfr.training.checkpoint import CheckpointManager
from psfr.training.schedule import make_schedule
from psfr.utils.errors import UserError
from tests.helpers.mps import MPS, mps_stand_in

TINY = read_params(Path(__file__).parents[2] / "params/tiny.yaml")


def make_params(**compute: object) -> Params:
    update = {"device": "mps", "precision": "auto", "devices": None, "workers": 0} | compute
    return TINY.model_copy(update={"compute": TINY.compute.model_copy(update=update)})


@pytest.fixture
def on_both(monkeypatch):
    """Return a function that calls another one with the parameters of the CPU, then with those of the stand-in."""
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: torch.get_rng_state())

    def call(function):
        expected = function(make_params(device="cpu", precision="fp32"))
        with mps_stand_in():
            return expected, function(make_params())

    return call


def test_mps_computes_in_float32(monkeypatch, capsys):
    monkeypatch.setattr(devices.torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(devices, "_keep_freed_memory", lambda: pytest.fail("is for the CPU"))
    for precision in ("auto", "fp32"):
        compute = make_params(precision=precision).compute
        assert devices.get_device(compute) == MPS and devices.compute_dtype(compute, MPS) == torch.float32
        assert not devices.autocast(compute, MPS)._enabled
    recorded = devices.report_compute("train", compute)
    assert recorded["precision"] == "fp32" and str(recorded["device"]).endswith(" (mps)")
    assert "(mps), fp32, 1 process" in capsys.readouterr().err
    for precision in ("bf16", "tf32"):
        with pytest.raises(UserError, match=f"^compute.precision: {precision}, but mps computes in float32 only: set"):
            devices.get_device(make_params(precision=precision).compute)


def test_mps_is_one_device_that_has_to_be_there():
    work = processes.Work(10**6, 4)
    assert processes.choose_num_processes(make_params(), work) == 1
    with pytest.raises(UserError, match="^compute.devices: 2, but mps is one device: set it to null or 1$"):
        processes.choose_num_processes(make_params(devices=2), work)
    if not torch.backends.mps.is_available():
        with pytest.raises(UserError, match="^compute.device: mps, but PyTorch finds no GPU of a Mac: set it to"):
            devices.get_device(make_params().compute)


def test_the_stand_in_refuses_what_the_gpu_of_a_mac_refuses():
    with mps_stand_in():
        x = torch.ones(2, device=MPS)
        assert x.device == (x + 1).device == MPS and x.cpu().double().device == torch.device("cpu")
        with pytest.raises(TypeError, match="doesn't support float64"):
            x.double()
        with pytest.raises(TypeError, match="can't convert mps"):
            x.numpy()


@pytest.mark.heavy
def test_gan_trains(on_both):
    def train(params: Params) -> dict[str, float]:
        torch.manual_seed(0)
        model = gan.build(params, VggFeatures("vgg16", 64, 1.0))
        size = params.image_size
        photos = torch.randint(0, 256, (2, 2, size, size, 3), dtype=torch.uint8)
        segs = torch.randint(0, 19, (2, 2, size, size), dtype=torch.uint8)
        device = devices.get_device(params.compute)
        batch, dtype = gan.prepare_batch((*photos, *segs), device), devices.compute_dtype(params.compute, device)
        loss_weights = make_schedule(params, 1).loss_weights
        for _ in range(2):
            losses = gan.train_step(model, batch, dtype, loss_weights, log_grad_norms=True)
        return {name: loss.item() for name, loss in losses.items()}

    expected, actual = on_both(train)
    assert actual == pytest.approx(expected)


@pytest.mark.heavy
def test_face_parsing_network_trains_restores_and_is_evaluated(on_both, tmp_path_factory):
    def run(params: Params) -> tuple[list, np.ndarray, torch.Tensor]:
        folder, names = tmp_path_factory.mktemp("faces"), [str(index) for index in range(4)]
        rng = np.random.default_rng(0)
        for name in names:
            images.write(folder / "images" / f"{name}.png", rng.integers(0, 256, (64, 64, 3), np.uint8))
            labels.write(folder / "labels" / f"{name}.png", rng.integers(0, 19, (64, 64)).astype(np.uint8))
        network, history = fpn.train(folder, names, params, CheckpointManager(folder, 0))
        matrix = fpn.evaluate(network, folder, names, params, degraded=True)
        x = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64).to(devices.get_device(params.compute))
        with torch.inference_mode():
            return history, matrix, FusedParsingNetwork(network, torch.float32).predict_seg(x).cpu()

    expected, actual = on_both(run)
    assert actual[0][-1] == pytest.approx(expected[0][-1])
    assert (actual[1] == expected[1]).all() and torch.equal(actual[2], expected[2])


@pytest.mark.heavy
def test_generator_restores_and_metrics_are_computed(on_both):
    def run(params: Params) -> list[float]:
        torch.manual_seed(0)
        device, size = devices.get_device(params.compute), params.image_size
        model = gan.build(params, VggFeatures("vgg16", 64, 1.0))
        lq, seg = torch.rand(1, 3, size, size).to(device), torch.randint(0, 19, (1, size, size)).to(device)
        with torch.inference_mode():
            restored = FusedGenerator(model.generator.eval(), torch.float32)(lq, seg)
            metrics = [metric(restored, lq) for metric in (fidelity.psnr, fidelity.ssim, fidelity.tint)]
            metrics += fixed_pattern.stripe_profiles(restored, lq)
        return [value.mean().item() for value in metrics]

    expected, actual = on_both(run)
    assert actual == pytest.approx(expected, rel=1e-4)
