"""Validation of a generator on faces that are held out of its training set."""

import numpy as np
import torch
from torch.utils.data import default_collate

from psfr.compute.devices import autocast, deterministic_float32, get_device
from psfr.data import labels
from psfr.data.contact_sheet import contact_sheet
from psfr.data.datasets import PairedFaceDataset, normalize, to_image, to_tensor
from psfr.metrics import bootstrap, fidelity, identity, st_lpips
from psfr.networks.generator import Generator
from psfr.params import ComputeParams
from psfr.pretrained import loader
from psfr.training.gan_step import prepare_batch

WEIGHTS_DIR = loader.WEIGHTS_DIR / "metrics"
METRICS = ("psnr", "st_lpips", "identity")
BEST_BY = "st_lpips"  # the lowest; the pixel loss alone has the highest PSNR and a blurred face
NUM_SHOWN = 4  # faces on a sheet
NUM_RESAMPLES = 1000
SEED = 0


def split_names(names: list[str], fraction: float) -> tuple[list[str], list[str]]:
    """Split the names of a training set into those to train on and those to validate on, the last ones.

    Neighbors, which may show one person, then stay on one side. Rounded to whole images; at least one is trained on.
    """
    num_held_out = min(round(fraction * len(names)), len(names) - 1)
    end = len(names) - num_held_out
    return names[:end], names[end:]


class Validation:
    """Scores a generator by the PSNR, ST-LPIPS and identity distance of restored faces, as `evaluate` does.

    Of each face the first degraded variant is restored.

    Args:
        dataset: the faces.
        compute: device and precision of the generator.

    Raises:
        UserError: weights are missing or damaged.
    """

    def __init__(self, dataset: PairedFaceDataset, compute: ComputeParams):
        self.dataset, self.compute, self.device = dataset, compute, get_device(compute)
        self.st_lpips = st_lpips.load_network(WEIGHTS_DIR, "alex").to(self.device)
        self.face_models = identity.load_models(WEIGHTS_DIR)

    @torch.inference_mode()
    def __call__(self, generator: Generator) -> tuple[dict[str, float], np.ndarray]:
        """Restore the faces with a generator on the device, which is not changed.

        Returns:
            The value of each of `METRICS` over the faces, and the bounds of its 95 % bootstrap interval, such as
            psnr_low and psnr_high.
            A sheet of the first faces, uint8 RGB (H, W, 3), with a row for each: degraded, parsing map, restored, true.
        """
        rows, values = [], []
        for index in range(len(self.dataset)):
            hq, lq, hq_seg, lq_seg = default_collate([self.dataset[index, 0]])
            batch = prepare_batch((hq, lq, hq_seg, lq_seg), self.device)
            with autocast(self.compute, self.device):
                restored = to_image(generator(batch[1], batch[3]))
            values.append(self._values(restored[0], hq[0].numpy()))
            if index < NUM_SHOWN:
                rows.append([lq[0].numpy(), labels.PALETTE[lq_seg[0].numpy()], restored[0], hq[0].numpy()])
        return _summarize(np.array(values)), contact_sheet(rows)

    def _values(self, restored: np.ndarray, hq: np.ndarray) -> list[float]:
        """Return the metrics of a restored face, in the order of `METRICS`."""
        pair = [normalize(to_tensor(image)[None].to(self.device)) for image in (restored, hq)]
        with deterministic_float32():
            return [
                fidelity.psnr(*pair).item(),
                self.st_lpips(*pair).item(),
                identity.embedding_distances(hq, [restored], self.face_models)[0],
            ]


def _summarize(values: np.ndarray) -> dict[str, float]:
    """Return each metric over the faces and the bounds of its interval, given (faces, metrics)."""
    resamples = bootstrap.resample_indices(SEED, len(values), NUM_RESAMPLES)
    scores: dict[str, float] = {}
    for metric, column in zip(METRICS, values.T, strict=True):
        pool = fidelity.pooled_psnr if metric == "psnr" else np.mean
        interval = bootstrap.confidence_interval(resamples, lambda indices, c=column, p=pool: float(p(c[indices])))
        scores |= {metric: float(pool(column)), f"{metric}_low": interval[0], f"{metric}_high": interval[1]}
    return {name: float(f"{score:.6g}") for name, score in scores.items()}
