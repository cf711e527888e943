"""Kernel Inception distance (Binkowski et al., 2018), with torch-fidelity's kernel and estimator."""

from collections.abc import Callable

import numpy as np
import torch

SUBSET_SIZE, NUM_SUBSETS = 1000, 100  # torch-fidelity's defaults


def distance_between(first: np.ndarray, second: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return a function of indices: the distance between the two sets of features at these indices.

    It is the unbiased estimate of the squared maximum mean discrepancy with the kernel (x y / dimensions + 1)^3. Of
    more than 1,000 images it is the mean over 100 subsets of this size, drawn with torch-fidelity's own seed, so time
    and memory are bounded.

    Args:
        first, second: features (images, dimensions), as many of both.
    """
    from torch_fidelity.metric_kid import kernel_poly, kid_features_to_metric, mmd2  # slow to import

    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(first) > SUBSET_SIZE:
        options = {"kid_subsets": NUM_SUBSETS, "kid_subset_size": SUBSET_SIZE, "verbose": False}

        def subset_mean(indices: np.ndarray) -> float:
            x, y = (torch.from_numpy(features[indices]) for features in (first, second))
            return kid_features_to_metric(x, y, **options)["kernel_inception_distance_mean"]

        return subset_mean

    # All subsets of all images are the same, so one is enough.
    kernels = [kernel_poly(x, y) for x, y in ((first, first), (first, second), (second, second))]
    return lambda indices: float(mmd2(*(kernel[np.ix_(indices, indices)] for kernel in kernels)))
