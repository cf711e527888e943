"""Metrics of the optional package pyiqa, such as MUSIQ and DISTS. It is imported only if a metric of it is named."""

import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import NoReturn

import torch
from torch import Tensor

from psfr.metrics.unavailable import UnavailableError
from psfr.utils import compat
from psfr.utils.errors import UserError, truncate

# Without its dependencies: opencv-python-headless among them would replace the files of the pinned opencv-python.
INSTALL = "pip install --no-deps pyiqa==0.1.16 && pip install huggingface_hub"


class Metric:
    """A metric of pyiqa with its published weights. They must be in the cache of pyiqa: no file is downloaded.

    Args:
        name: as pyiqa calls it.

    Attributes:
        needs_true: whether it compares with a true image.
        note: the version of pyiqa, and the direction of better values.

    Raises:
        UserError: pyiqa has no metric of this name.
        UnavailableError: pyiqa, another package or the weights are missing.
    """

    def __init__(self, name: str, device: torch.device):
        if importlib.util.find_spec("pyiqa") is None:
            raise UnavailableError(f"pyiqa is not installed: {INSTALL}")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # for the metrics that load a language model
        compat.patch_torchvision()
        try:
            pyiqa = importlib.import_module("pyiqa")
            if name not in pyiqa.list_models():
                raise UserError(f"evaluate.pyiqa: pyiqa {pyiqa.__version__} has no metric {name}: remove it")
            with _no_downloads(), redirect_stdout(StringIO()):
                self._network = pyiqa.create_metric(name, device=device)
        except (ImportError, KeyError) as error:  # a KeyError if pyiqa has passed over a module without its packages
            raise UnavailableError(f"pyiqa lacks a package that it needs ({truncate(error)}): install it") from None
        except OSError as error:
            raise UnavailableError(f"its weights cannot be loaded ({truncate(error)})") from None
        self.needs_true = self._network.metric_mode == "FR"
        better = "lower" if self._network.lower_better else "higher"
        self.note = f"by pyiqa {pyiqa.__version__}, {better} is better"

    def __call__(self, restored: Tensor, true: Tensor | None) -> Tensor:
        """Return the value of each image, (B,).

        Args:
            restored: (B, 3, H, W) in [-1, 1].
            true: the same; None if the metric does not need it.
        """
        images = [restored] if true is None or not self.needs_true else [restored, true]
        return self._network(*(((image + 1) / 2).clamp(0, 1) for image in images)).reshape(-1)


@contextmanager
def _no_downloads() -> Iterator[None]:
    """Let downloads of weights raise `UnavailableError`."""
    download_util = importlib.import_module("pyiqa.utils").download_util
    original = torch.hub.download_url_to_file
    torch.hub.download_url_to_file = download_util.download_url_to_file = _refuse
    try:
        yield
    finally:
        torch.hub.download_url_to_file = download_util.download_url_to_file = original


def _refuse(url: str, target: str, *_, **__) -> NoReturn:
    path = os.path.relpath(target, torch.hub.get_dir())
    raise UnavailableError(f"its weights are not in the cache: download {url} to {path} in torch.hub.get_dir()")
