"""Devices, precisions and numbers of processes and threads; a GPU is simulated by functions of torch.cuda."""

import io
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from joblib.externals.loky.backend import context
from torch.utils.data import Dataset

from psfr.compute import devices, parallel, processes
from psfr.compute.cores import num_cores
from psfr.data.datasets import make_dataloader
from psfr.params import ComputeParams, read_params
from psfr.utils.errors import UserError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def make_params(**values: object) -> ComputeParams:
    defaults = {"device": "auto", "precision": "auto", "batch_size": 1, "workers": None, "devices": None}
    return ComputeParams(**(defaults | {"checkpoint_seconds": 0.0, "scheduler": None} | values))


@pytest.fixture(autouse=True)
def settings():
    """Undo what the tests change; the warning is printed once for each test."""
    threads = torch.get_num_threads()
    devices._warn_if_driver_is_there.cache_clear()
    with devices.deterministic_float32():  # restores the precision
        torch.backends.cudnn.deterministic = False
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def gpu(monkeypatch):
    """Simulate eight H100; a call that would open a CUDA context fails."""

    def fail(*_):
        raise AssertionError("opens a CUDA context")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", fail)


@pytest.fixture
def driver(monkeypatch, tmp_path):
    """Simulate NVIDIA's driver without a GPU that PyTorch can use."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "NVIDIA_DRIVER", tmp_path)


@pytest.mark.parametrize(
    ("precision", "flag", "dtype"),
    [
        ("fp32", "ieee", torch.float32),
        ("tf32", "tf32", torch.float32),
        ("bf16", "ieee", torch.bfloat16),
        ("fp16", "ieee", torch.float16),
        ("auto", "ieee", torch.bfloat16),
    ],
)
def test_precision_sets_how_a_gpu_computes_float32(gpu, precision, flag, dtype):
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = (
        "ieee" if flag == "tf32" else "tf32"
    )
    compute = make_params(precision=precision)
    device = devices.get_device(compute)
    assert device == CUDA and devices.compute_dtype(compute, device) == dtype
    assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == flag


def test_fp32_is_ieee_float32_after_the_import_of_torch():
    devices.get_device(make_params(device="cpu", precision="fp32"))
    assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "ieee"
    mkldnn = torch.backends.mkldnn
    assert not {mkldnn.conv.fp32_precision, mkldnn.matmul.fp32_precision} & {"tf32", "bf16"}


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float16), ((6, 1), torch.float32)])
def test_auto_without_bf16_uses_the_tensor_cores(gpu, monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    compute = make_params()
    assert devices.compute_dtype(compute, devices.get_device(compute)) == dtype
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert devices.report_compute("train", compute)["precision"] == ("fp16" if dtype == torch.float16 else "fp32")
    monkeypatch.setattr(devices, "has_bf16", lambda _: False)
    assert devices.compute_dtype(compute, CPU) == torch.float32, "float16 is slow on CPUs"


def test_tf32_is_refused_without_its_hardware(gpu, monkeypatch):
    with pytest.raises(UserError, match=r"^compute.precision: tf32, but CPU \(.*\) does not have it"):
        devices.get_device(make_params(device="cpu", precision="tf32"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with pytest.raises(UserError, match="tf32, but NVIDIA H100 .* does not have it .*: set it to auto or fp32$"):
        devices.get_device(make_params(precision="tf32"))


def test_deterministic_float32_ends_with_its_block():
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    with pytest.raises(KeyError), devices.deterministic_float32():
        assert torch.backends.cudnn.conv.fp32_precision == torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cudnn.deterministic
        raise KeyError
    assert torch.backends.cudnn.conv.fp32_precision == "tf32" and not torch.backends.cudnn.deterministic


def test_report_names_device_precision_and_processes(gpu, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(processes, "get_world_size", lambda: 8)
    recorded = devices.report_compute("train", make_params())
    assert recorded == {"device": "NVIDIA H100 80GB HBM3 (cuda)", "precision": "bf16", "processes": 8}
    assert capsys.readouterr().err == "train: NVIDIA H100 80GB HBM3 (cuda), bf16, 8 processes\n"
    assert devices.report_compute("train", make_params(precision="tf32"))["precision"] == "tf32"
    capsys.readouterr()

    monkeypatch.setattr(processes, "get_world_size", lambda: 1)
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 7B13\n\nprocessor\t: 1\n")
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
    torch.set_num_threads(1)
    recorded = devices.report_compute("fpn", make_params(device="cpu", precision="fp32"))
    assert recorded == {"device": "CPU (AMD EPYC 7B13, 1 thread)", "precision": "fp32", "processes": 1}
    assert capsys.readouterr().err == "fpn: CPU (AMD EPYC 7B13, 1 thread), fp32, 1 process\n"


def test_only_the_first_process_prints(driver, monkeypatch, capsys):
    monkeypatch.setattr(processes, "get_rank", lambda: 1)
    devices.report_compute("train", make_params())
    assert capsys.readouterr().err == ""


def test_driver_without_a_usable_gpu_is_reported_once(driver, monkeypatch, capsys):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for _ in range(2):
        assert devices.get_device(make_params()) == CPU
    message = capsys.readouterr().err
    assert message.startswith("warning: an NVIDIA driver is installed, but PyTorch ")
    assert "CUDA 13.0" in message and "compute capability 7.5" in message and message.count("\n") == 1


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_nothing_is_reported_without_a_driver_or_by_choice(driver, monkeypatch, tmp_path, capsys, device):
    if device == "auto":
        monkeypatch.setattr(devices, "NVIDIA_DRIVER", tmp_path / "none")
        monkeypatch.setenv("PATH", str(tmp_path))
    devices.get_device(make_params(device=device))
    assert capsys.readouterr().err == ""


def choose_num_processes(compute, batch_size: int, num_images: int = 1000) -> int:
    params = read_params(Path(__file__).parents[2] / "params.yaml").model_copy(update={"compute": compute})
    assert params.image_size == 128
    return processes.choose_num_processes(params, processes.Work(num_images, batch_size))


@pytest.mark.parametrize(
    ("gpus", "batch_size", "expected"),
    [(8, 4, 4), (3, 4, 2), (6, 4, 4), (2, 4, 2), (8, 24, 8), (7, 4, 4), (5, 7, 1), (8, 0, 8), (1, 4, 1)],
)
def test_null_uses_the_most_gpus_that_divide_the_batch(gpu, monkeypatch, capsys, gpus, batch_size, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert choose_num_processes(make_params(), batch_size) == expected
    message = capsys.readouterr().err
    if expected == gpus:
        assert message == ""
    else:
        assert message.startswith("compute.devices: ") and message.count("\n") == 1
        assert f"{expected} of {gpus} GPUs" in message and f"{batch_size} images" in message


@pytest.mark.parametrize(
    ("cores", "batch_size", "num_images", "expected"),
    [
        (2, 4, 1000, 2),
        (3, 4, 1000, 2),
        (64, 4, 1000, 4),
        (4, 7, 1000, 1),
        (3, 0, 1000, 3),
        (64, 0, 1000, 8),  # more would each need a copy of the networks
        (2, 4, 20, 1),  # a few steps take less time than the start of processes
        (2, 0, 200, 1),
    ],
)
def test_null_uses_the_cores_of_a_cpu(monkeypatch, cores, batch_size, num_images, expected):
    monkeypatch.setattr(processes, "num_cores", lambda: cores)
    assert choose_num_processes(make_params(device="cpu"), batch_size, num_images) == expected


def test_explicit_number_of_processes_is_used(gpu):
    assert choose_num_processes(make_params(devices=2), 4) == 2
    assert choose_num_processes(make_params(device="cpu", devices=3), 0, 1) == 3
    with pytest.raises(UserError, match="compute.devices: 9, but PyTorch finds 8 GPUs: lower it"):
        choose_num_processes(make_params(devices=9), 9)


class WorkerSettings(Dataset):
    """Dataset whose samples are the number of OpenCV's threads, whether the process ignores Ctrl-C, and its id."""

    def __getitem__(self, _):
        return torch.tensor([cv2.getNumThreads(), signal.getsignal(signal.SIGINT) == signal.SIG_IGN, os.getpid()])


def test_loader_for_the_cpu_opens_no_cuda_context(gpu):
    loader = make_dataloader(WorkerSettings(), [[0, 1]], 0, CPU)
    assert not loader.pin_memory and len(list(loader)) == 1
    assert make_dataloader(WorkerSettings(), [[0]], 0, CUDA).pin_memory


def test_loader_starts_no_worker_for_a_single_batch():
    assert make_dataloader(WorkerSettings(), [[0, 1]], 2, CPU).num_workers == 0
    assert make_dataloader(WorkerSettings(), [[0], [1]], 2, CPU).num_workers == 2


@pytest.fixture(params=sorted({multiprocessing.get_start_method(), "spawn"}))
def start_method(request):
    """The system's default, which depends on the version of Python, and the only one that all systems have."""
    default = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield
    multiprocessing.set_start_method(default, force=True)


@pytest.mark.process
def test_workers_run_opencv_in_one_thread_and_ignore_ctrl_c(start_method):
    """Also if OpenCV has started threads before, which a forked worker does not have."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (15, 15), 5)
        assert cv2.getNumThreads() == 4
        loader = make_dataloader(WorkerSettings(), [[0, 1], [2]], 1, CPU)
        samples = torch.cat([batch for _ in range(2) for batch in loader])
        assert samples[:, :2].tolist() == [[1, 1]] * 6
        num_started = len(samples[:, 2].unique())
        assert num_started == (2 if multiprocessing.get_start_method() == "fork" else 1)
    finally:
        cv2.setNumThreads(threads)


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_no_call_that_only_linux_has(monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda _: pytest.fail("loads a C library"))
    monkeypatch.setattr(devices, "CPUINFO", Path("absent"))
    assert num_cores() >= 1
    assert devices.report_compute("train", make_params(device="cpu"))["device"].startswith("CPU (")


@pytest.fixture(params=["400000 100000\n", "350000 100000"], ids=["4 cores", "3.5 cores"])
def quota(request, monkeypatch):
    """Simulate a container with a quota of 4 cores on a machine of 64."""
    file = "/sys/fs/cgroup/cpu.max"
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: path == file or exists(path))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    monkeypatch.setattr(
        context,
        "open",
        lambda path: io.StringIO(request.param) if path == file else pytest.fail(f"reads {path}"),
        raising=False,
    )


def test_quota_of_a_container_limits_workers_and_threads(quota, monkeypatch):
    assert num_cores() == 4
    assert devices.num_workers(make_params()) == 4
    assert devices.num_workers(make_params(workers=9)) == 9
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert devices.num_workers(make_params()) == 2

    started = []
    monkeypatch.setattr(parallel, "START_AFTER", 0)
    monkeypatch.setattr(
        parallel, "Parallel", lambda count, **_: started.append(count) or (lambda calls: map(str, calls))
    )
    assert len(parallel.map(str, range(100), None, "text")) == 100
    assert started == [4]

    threads = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    devices.get_device(make_params(device="cpu"))
    assert threads == [4]


def test_quota_of_a_container_limits_the_threads_of_processes(quota, monkeypatch, tmp_path):
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(processes.distributed, "init_process_group", lambda *_: None)
    monkeypatch.setattr(processes.exchange, "connect", lambda: None)
    monkeypatch.setattr(processes, "read_params", lambda: type("Params", (), {"compute": make_params(device="cpu")}))
    for name, value in {"LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    processes._init_process_group("env://")
    assert threads == [2]


def test_threads_are_left_alone_without_a_quota(monkeypatch):
    monkeypatch.setattr(devices, "num_cores", torch.get_num_threads)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: pytest.fail("changes the number of threads"))
    devices.get_device(make_params(device="cpu"))
