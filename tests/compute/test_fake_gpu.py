"""The whole path of a GPU on fake tensors: devices, dtypes, and what waits for the GPU in a step."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.running import ROOT, run_process

pytestmark = [pytest.mark.slow, pytest.mark.process]

SOURCE = ROOT / "tests/helpers/fake_gpu.cpp"
PRECISIONS = ["fp32", "bf16", "fp16"]


PROBE = """
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
with FakeTensorMode():
    torch.ones(2, device="cuda", requires_grad=True).square().sum().backward()
"""


def build_library(path: Path) -> None:
    """Compile what PyTorch's CPU build lacks for fake tensors on device "cuda"."""
    compiler = shutil.which("g++")
    if not compiler or not sys.platform.startswith("linux"):
        pytest.skip("PyTorch without CUDA needs g++ on Linux for fake tensors on device cuda")
    torch_dir = Path(torch.__file__).parent
    lib = torch_dir / "lib"
    options = ["-std=c++20", "-shared", "-fPIC", f"-I{torch_dir / 'include'}", f"-L{lib}", f"-Wl,-rpath,{lib}"]
    subprocess.run([compiler, *options, SOURCE, "-o", path, "-ltorch_cpu", "-lc10"], check=True)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict]:
    """Run all cases in a process of their own, because they replace functions of torch."""
    folder = tmp_path_factory.mktemp("fake_gpu")
    arguments = [folder / "result.json"]
    if not torch.version.cuda:
        build_library(folder / "fake_gpu.so")
        arguments.append(folder / "fake_gpu.so")
    elif subprocess.run([sys.executable, "-c", PROBE], check=False).returncode:
        pytest.skip("this PyTorch has no autograd for fake tensors on device cuda without a GPU")
    run_process([sys.executable, "-m", "tests.helpers.fake_gpu", *map(str, arguments)], ROOT)
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", ["train_gan", "train_fpn", "infer"])
def test_tensors_have_the_right_device_and_dtype(results, case, precision):
    assert_no_error(results[f"{case} {precision}"])


def assert_no_error(result: dict) -> None:
    assert result["error"] is None, result["error"]


def test_metrics_have_the_right_device_and_dtype(results):
    assert_no_error(results["evaluate fp32"])


def test_errors_and_waits_on_purpose_are_found(results):
    assert_no_error(results["plant_errors fp32"])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_steps_do_not_wait_for_the_gpu(results, precision):
    """Except for float16 where gradient norms are logged: once an epoch, whether the step was skipped is read."""
    assert results[f"train_fpn {precision}"]["waits"] == []
    waits = results[f"train_gan {precision}"]["waits"]
    if precision != "fp16":
        assert waits == []
    else:
        assert len(waits) == 2 and all("log_grad_norms" in line for _, line in waits)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_inference_waits_for_its_results_only(results, precision):
    """Two batches: images and parsing maps of `restore`, then the parsing maps of `parse`."""
    lines = [line for _, line in results[f"infer {precision}"]["waits"]]
    assert len(lines) == 6 and all(".cpu()" in line for line in lines)
