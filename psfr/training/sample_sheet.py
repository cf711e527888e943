"""Contact sheet of restored faces, drawn during training."""

import numpy as np
import torch
from torch.utils.data import default_collate

from psfr.compute.devices import autocast, get_device
from psfr.data import labels
from psfr.data.contact_sheet import contact_sheet
from psfr.data.datasets import PairedFaceDataset, to_image
from psfr.networks.generator import Generator
from psfr.params import ComputeParams
from psfr.training.gan import prepare_batch


@torch.inference_mode()
def sample_sheet(
    generator: Generator, dataset: PairedFaceDataset, num_samples: int, compute: ComputeParams
) -> np.ndarray:
    """Restore the first faces of a dataset.

    Args:
        generator: the generator, on the device that `compute` selects.
        dataset: faces of one size; of each, the first degraded variant is restored.
        num_samples: maximum number of faces.
        compute: device and precision.

    Returns:
        A sheet, uint8 RGB (H, W, 3), with a row for each face: degraded, parsing map, restored, high quality.
    """
    device = get_device(compute)
    rows = []
    for index in range(min(num_samples, len(dataset))):
        hq, lq, _, lq_seg = prepare_batch(default_collate([dataset[index, 0]]), device)
        with autocast(compute, device):
            restored = generator(lq, lq_seg)
        parsing_map = labels.PALETTE[lq_seg[0].cpu().numpy()]
        rows.append([to_image(lq[0]), parsing_map, to_image(restored[0]), to_image(hq[0])])
    return contact_sheet(rows)
