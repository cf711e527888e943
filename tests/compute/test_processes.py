"""Stages in two processes compute what they compute in one."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.helpers.running import ROOT, run_command, set_params, start_command, start_process, wait_for

pytestmark = pytest.mark.process

SHARED_WORK = [sys.executable, "-m", "tests.helpers.shared_work"]
FUNCTIONS = {  # of tests/helpers/shared_work.py, by the number of processes that run them, one after the other
    1: ["gan_steps", "fpn_gradients", "parse_with_delays"],
    2: ["gan_steps", "fpn_gradients", "parse_with_delays", "resumed_epoch_means"],
    3: ["collectives", "exchanged_tensors"],
}
TRAIN = [sys.executable, "-m", "stages.train"]

# A tenth of the default's. Adam's first steps have the size of the learning rate even for gradients that are rounding
# errors: with the default's rates, trainings that round differently differ by some percent after ten GAN steps.
LEARNING_RATES = {"lr_generator": "1e-5", "lr_discriminator": "4e-5"}

TIMEOUT = 300  # seconds after which a process that should have ended hangs


@pytest.fixture(scope="module")
def results(build_once):
    """Return a function that returns the result of one of `FUNCTIONS`."""

    def result(function: str, num_processes: int):
        def build(folder: Path) -> None:
            folder.mkdir()
            shutil.copy(ROOT / "params/tiny.yaml", folder / "params.yaml")
            # 1, 2 and 3 divide 6.
            set_params(folder, devices=num_processes, workers=0, batch_size=6, precision="fp32", **LEARNING_RATES)
            run_command([*SHARED_WORK, *FUNCTIONS[num_processes]], folder)

        return torch.load(build_once(f"processes-{num_processes}", build) / f"{function}.pt")

    return result


def assert_gradients_close(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    """Check that gradients are equal within 1e-5.

    Gradients that consist of rounding errors, such as that of a bias before a norm, may differ by 1e-6 of the largest.
    """
    largest = max(gradient.norm() for gradient in expected)
    for gradient, expected_gradient in zip(actual, expected, strict=True):
        tolerance = 1e-5 * expected_gradient.norm() + 1e-6 * largest
        assert (gradient - expected_gradient).norm() <= tolerance


def test_first_gan_gradients_match_one_process(results):
    one, two = results("gan_steps", 1), results("gan_steps", 2)
    assert_gradients_close(two["gradients"], one["gradients"])


def test_losses_of_six_gan_steps_match_one_process(results):
    one, two = (pd.DataFrame(results("gan_steps", num_processes)["losses"]) for num_processes in (1, 2))
    assert len(one) == 6 and one["ss"].min() > 1e-3
    for losses in (one, two):
        losses["generator"] = 100 * losses["ss"] + 10 * losses["pix"] + 10 * losses["fm"] + losses["gen"]
    assert two["generator"].tolist() == pytest.approx(one["generator"].tolist(), rel=1e-3)
    assert two.mean().tolist() == pytest.approx(one.mean().tolist(), rel=1e-3)


def test_parsing_network_gradients_and_statistics_match_one_process(results):
    one, two = results("fpn_gradients", 1), results("fpn_gradients", 2)
    assert_gradients_close(two["gradients"], one["gradients"])
    for name, expected in one["buffers"].items():
        assert torch.allclose(two["buffers"][name].float(), expected.float(), rtol=1e-5, atol=1e-6), name


def test_gather_in_order_restores_the_order_of_shards(results):
    squares, ranks, first = results("collectives", 3)
    assert squares == [item**2 for item in range(11)]
    assert ranks == [0, 1, 2] and first == 0


def test_tensors_are_exchanged_in_the_order_of_the_ranks(results):
    exchanged = results("exchanged_tensors", 3)
    assert exchanged["sockets"]
    for number, gathered in enumerate(exchanged["small"]):
        expected = torch.arange(number, number + 3.0)[:, None, None].expand(3, 2, 1 + number)
        assert torch.equal(gathered, expected)
    large = exchanged["large"]
    assert large.dtype == torch.float64 and torch.equal(large, torch.arange(3.0).double()[:, None].expand(3, 5000))


def test_epoch_means_of_a_training_resumed_in_the_middle_of_an_epoch(results):
    assert results("resumed_epoch_means", 2) == [[pytest.approx({"rank": 0.5, "double": 5.0})]] * 2


def test_late_processes_skip_no_image(results):
    one, two = results("parse_with_delays", 1), results("parse_with_delays", 2)
    assert len(one) == 24 and one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def losses(project: Path) -> dict[str, list[float]]:
    """Read the losses, scores and gradient norms of each step ("loss/ss", ...) from the metrics of the train stage."""
    folder = project / "metrics/train/plots/metrics"
    return {
        str(file.relative_to(folder).with_suffix("")): pd.read_csv(file, sep="\t")[file.stem].tolist()
        for file in sorted(folder.rglob("*.tsv"))
    }


def test_pipeline_in_two_processes_matches_one(project, tmp_path):
    set_params(project, precision="fp32", epochs=3, checkpoint_seconds=0, **LEARNING_RATES)
    single = shutil.copytree(project, tmp_path / "single", symlinks=True)
    run_command([*SHARED_WORK, "stages"], single)
    expected_losses = losses(single)
    expected = json.loads((single / "metrics/evaluation.json").read_text())
    expected_images = pd.read_csv(single / "metrics/per_image.csv")

    set_params(project, devices=2)
    run_command([*SHARED_WORK, "stages"], project)
    files = ("fpn/metrics.json", "train/metrics.json", "evaluation.json")
    fpn, train, evaluation = (json.loads((project / "metrics" / file).read_text())["compute"][0] for file in files)
    for recorded in (fpn, train, evaluation["infer"], evaluation["evaluate"]):
        assert (recorded["precision"], recorded["processes"]) == ("fp32", 2)
    assert losses(project).keys() == expected_losses.keys()
    # The parsing networks differ by rounding, so a few labels of their maps differ.
    for name, values in losses(project).items():
        assert values == pytest.approx(expected_losses[name], rel=0.1, abs=1e-3), name
    per_image = pd.read_csv(project / "metrics/per_image.csv")
    assert per_image[["name", "model"]].equals(expected_images[["name", "model"]]), "each image occurs once"
    evaluation = json.loads((project / "metrics/evaluation.json").read_text())
    for metric in ("psnr", "ssim", "st_lpips", "identity"):
        assert evaluation["degraded"][metric] == pytest.approx(expected["degraded"][metric], rel=1e-5), metric
        assert evaluation["ours"][metric] == pytest.approx(expected["ours"][metric], rel=0.05), metric


def assert_losses_close(actual: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    """Compare the losses of each epoch; rounding changes them by less than 1e-4 (one or two threads, SSE or AVX2)."""
    assert actual.keys() == expected.keys()
    for name, values in actual.items():
        assert values == pytest.approx(expected[name], rel=1e-3, abs=1e-3), name


def test_training_resumed_in_two_processes_matches_one(project, tmp_path):
    state_dir = project / "models/.train.unfinished"
    set_params(project, precision="fp32", epochs=4, validate_every=0, checkpoint_seconds=0, **LEARNING_RATES)
    shutil.rmtree(state_dir)
    run_command(TRAIN, project)
    expected = losses(project)
    # 8 steps, two per epoch; in the first two the pixel loss is alone, afterwards every second has a style loss.
    assert len(expected["loss/pix"]) == 8 and len(expected["loss/ss"]) == len(expected["grad/fm"]) == 3

    shutil.rmtree(state_dir)
    process = start_command(TRAIN, project, tmp_path / "log")
    wait_for(project, "models/.train.unfinished/*/step_00000003*", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 128 + signal.SIGTERM
    set_params(project, devices=2)
    assert "train: resuming after step" in run_command(TRAIN, project)
    assert_losses_close(losses(project), expected)


def children(pid: int) -> list[int]:
    """Return the process IDs of the processes that a launcher has started, in the order of their ranks."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
            if parent == str(pid):
                found.append(int(stat.parent.name))
        except OSError:  # the process has just ended
            continue
    return sorted(found)


@pytest.fixture
def training(request, project, tmp_path):
    """Start a training in two processes and wait until it has written a checkpoint.

    Its parameter is what starts it: `start_command` by default, which forks.
    """
    set_params(project, epochs=1000, devices=2, validate_every=0, checkpoint_seconds=0)
    shutil.rmtree(project / "models/.train.unfinished")
    process = getattr(request, "param", start_command)(TRAIN, project, tmp_path / "log")
    wait_for(project, "models/.train.unfinished/*/step_*.safetensors", process)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("rank", [0, 1])
def test_killed_process_stops_all_processes(training, tmp_path, rank):
    os.kill(children(training.pid)[rank], signal.SIGKILL)
    assert training.wait(TIMEOUT) == 1
    message = (tmp_path / "log").read_text().strip().splitlines()[-1]
    assert message.startswith(f"error: process {rank + 1} of 2 was killed by SIGKILL: ")


@pytest.mark.parametrize(
    ("training", "target"), [(start_command, "launcher"), (start_process, "process group")], indirect=["training"]
)
def test_signal_saves_the_state_and_stops_all_processes(training, project, tmp_path, target):
    if target == "launcher":
        signum = signal.SIGTERM
        training.send_signal(signum)
    else:  # as Ctrl-C does
        signum = signal.SIGINT
        os.killpg(training.pid, signum)
    assert training.wait(TIMEOUT) == 128 + signum
    lines = (tmp_path / "log").read_text().strip().splitlines()
    assert lines[-1].startswith("train: stopped at step ") and "Traceback" not in "".join(lines)
    step = int(lines[-1].split()[4])
    assert any(project.glob(f"models/.train.unfinished/*/step_{step:08}*"))


def test_batch_size_must_be_divisible_by_num_processes(project):
    set_params(project, devices=3)
    message = run_command(TRAIN, project, status=1).strip().splitlines()[-1]
    assert message.startswith("error: params.yaml: compute.devices: 3 processes cannot share batches of 4 images")
