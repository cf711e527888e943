"""Two processes do what one does."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.helpers.running import ROOT, changed, ran, started, wait_for

SHARED = [sys.executable, str(ROOT / "tests/helpers/shared_work.py")]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What a function of tests/helpers/shared_work.py gives in so many processes."""
    kept = {}

    def result(function: str, processes: int):
        if (function, processes) not in kept:
            folder = tmp_path_factory.mktemp(function)
            (folder / "params.yaml").write_text((ROOT / "params/tiny.yaml").read_text())
            changed(folder, devices=processes, precision="fp32")
            os.symlink(ROOT / "psfr", folder / "psfr")
            ran(["env", f"PYTHONPATH={ROOT}", *SHARED, function], folder)
            kept[function, processes] = torch.load(folder / "result.pt")
        return kept[function, processes]

    return result


def assert_alike(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    """Equal within 1e-5. Gradients that are nothing but rounding, as of a bias before a norm, are held to 1e-6 of the largest one."""
    largest = max(gradient.norm() for gradient in wanted)
    for first, second in zip(found, wanted, strict=True):
        assert (first - second).norm() <= 1e-5 * second.norm() + 1e-6 * largest


def test_the_first_gradients_of_the_gan_are_those_of_one_process(results):
    one, two = results("gan_steps", 1), results("gan_steps", 2)
    assert_alike(two["gradients"], one["gradients"])


def test_the_losses_of_twenty_steps_are_those_of_one_process(results):
    one, two = (pd.DataFrame(results("gan_steps", processes)["losses"]) for processes in (1, 2))
    assert len(one) == 20 and one["ss"].min() > 1e-3
    for losses in (one, two):
        losses["generator's"] = 100 * losses["ss"] + 10 * losses["pix"] + 10 * losses["fm"] + losses["gen"]
    assert two["generator's"].tolist() == pytest.approx(one["generator's"].tolist(), rel=0.01)
    # Adam's first steps have the size of the learning rate wherever rounding points: scores part late, their means hardly.
    assert two.mean().tolist() == pytest.approx(one.mean().tolist(), rel=0.01)


def test_the_gradients_and_statistics_of_the_parsing_network_are_those_of_one_process(results):
    one, two = results("fpn_gradients", 1), results("fpn_gradients", 2)
    assert_alike(two["gradients"], one["gradients"])
    assert all(
        torch.allclose(two["buffers"][name].float(), value.float(), rtol=1e-5, atol=1e-6)
        for name, value in one["buffers"].items()
    )


def test_what_is_shared_comes_together_in_order(results):
    squares, ranks, first = results("collecting", 3)
    assert squares == [item**2 for item in range(11)]
    assert ranks == [0, 1, 2] and first == 0


def test_processes_that_come_late_leave_no_image_out(results):
    one, two = results("parsing", 1), results("parsing", 2)
    assert len(one) == 24 and one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def losses(project: Path) -> dict[str, list[float]]:
    files = sorted((project / "metrics/train/plots/metrics").rglob("*.tsv"))
    return {file.stem: pd.read_csv(file, sep="\t")[file.stem].tolist() for file in files}


def test_a_run_of_two_processes_ends_as_one_of_one(project):
    changed(project, precision="fp32", epochs=3, checkpoint_seconds=0)
    ran(["dvc", "repro"], project)
    one, evaluation = losses(project), json.loads((project / "metrics/evaluation.json").read_text())
    images = pd.read_csv(project / "metrics/per_image.csv")

    changed(project, devices=2)
    ran(["dvc", "repro", "--force", "--single-item", "fpn", "parse", "train", "infer", "evaluate"], project)
    assert losses(project).keys() == one.keys()
    for name, values in losses(project).items():
        assert values == pytest.approx(one[name], rel=0.02, abs=1e-3), name
    again = pd.read_csv(project / "metrics/per_image.csv")
    assert again[["name", "model"]].equals(images[["name", "model"]]), "every image once"
    found = json.loads((project / "metrics/evaluation.json").read_text())
    for metric in ("psnr", "ssim", "st_lpips", "identity"):
        assert found["degraded"][metric] == pytest.approx(evaluation["degraded"][metric], rel=1e-5), metric
        assert found["ours"][metric] == pytest.approx(evaluation["ours"][metric], rel=0.02), metric


def test_twenty_steps_are_those_of_one_process_also_where_two_go_on(project, tmp_path):
    train, state = [sys.executable, "-m", "stages.train"], project / "models/.train.unfinished"
    changed(project, precision="fp32", epochs=10, checkpoint_seconds=0)
    shutil.rmtree(state)
    ran(train, project)
    one = losses(project)
    assert all(len(values) == 10 for values in one.values()), "two steps an epoch"

    changed(project, devices=2)
    shutil.rmtree(state)
    ran(train, project)
    for name, values in losses(project).items():
        assert values == pytest.approx(one[name], rel=0.01), name

    changed(project, devices=1)
    shutil.rmtree(state)
    process = started(train, project, tmp_path / "log")
    wait_for(project, "models/.train.unfinished/*/step_00000007*", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    changed(project, devices=2)
    assert "train: goes on after step" in ran(train, project)
    for name, values in losses(project).items():
        assert values == pytest.approx(one[name], rel=0.01), name


def children(pid: int) -> list[int]:
    """The working processes that a process has started, in their order."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if (
                stat.read_text().rpartition(")")[2].split()[1] == str(pid)
                and b"spawn_main" in (stat.parent / "cmdline").read_bytes()
            ):
                found.append(int(stat.parent.name))
        except OSError:  # it has just ended
            continue
    return sorted(found)


@pytest.fixture
def training(project, tmp_path):
    """A training in two processes, some steps on its way."""
    changed(project, epochs=1000, devices=2, checkpoint_seconds=0)
    shutil.rmtree(project / "models/.train.unfinished")
    process = started([sys.executable, "-m", "stages.train"], project, tmp_path / "log")
    wait_for(project, "models/.train.unfinished/*/step_*", process)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("place", [0, 1])
def test_a_process_that_dies_ends_the_run(training, tmp_path, place):
    began = time.monotonic()
    os.kill(children(training.pid)[place], signal.SIGKILL)
    assert training.wait(60) == 1
    assert time.monotonic() - began < 60
    said = (tmp_path / "log").read_text().strip().splitlines()[-1]
    assert said == f"error: process {place + 1} of 2 was ended by SIGKILL: run again, it goes on from what is kept"


@pytest.mark.parametrize("whom", ["the launcher", "all, as Ctrl-C does"])
def test_a_signal_keeps_the_state_and_ends_all(training, project, tmp_path, whom):
    if whom == "the launcher":
        training.send_signal(signal.SIGTERM)
        number = signal.SIGTERM
    else:
        os.killpg(training.pid, number := signal.SIGINT)
    assert training.wait(60) == 128 + number
    lines = (tmp_path / "log").read_text().strip().splitlines()
    assert lines[-1].startswith("train: stopped at step ") and "Traceback" not in "".join(lines)
    step = int(lines[-1].split()[4])
    assert any(project.glob(f"models/.train.unfinished/*/step_{step:08}*"))


def test_more_processes_than_a_batch_can_be_shared_by_are_refused(project):
    changed(project, devices=3)
    output = ran([sys.executable, "-m", "stages.train"], project, status=1)
    assert (
        output.strip().splitlines()[-1]
        == "error: compute.devices: 3 processes cannot share batches of 4 images evenly: choose a divisor of it"
    )
