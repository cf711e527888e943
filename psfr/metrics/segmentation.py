"""How well a region map agrees with the true one: pixel accuracy and intersection over union (IoU)."""

import numpy as np

from psfr.data import labels


def confusion(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Count the pixels of each (true label, predicted label); the matrices of several images add up.

    Args:
        predicted, true: integers 0..18 of one shape, arrays or CPU tensors.

    Returns:
        int64 (19, 19): the row is the true label, the column the predicted one.
    """
    predicted, true = np.asarray(predicted), np.asarray(true)
    if predicted.shape != true.shape:
        raise ValueError(f"region maps of shapes {predicted.shape} and {true.shape}")
    pairs = true.astype(np.int64).ravel() * labels.COUNT + predicted.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=labels.COUNT**2).reshape(labels.COUNT, labels.COUNT)


def summary(matrix: np.ndarray) -> dict:
    """What a confusion matrix says.

    Returns:
        "mean_iou": over the labels that occur in the true maps; "pixel_accuracy": share of pixels with the right label;
        "iou": of each label by its name, None for a label that does not occur in the true maps.
    """
    right = np.diag(matrix).astype(np.float64)
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    occurs = true > 0
    iou = right / np.maximum(true + predicted - right, 1)
    return {
        "mean_iou": float(iou[occurs].mean()) if occurs.any() else None,
        "pixel_accuracy": float(right.sum() / matrix.sum()) if occurs.any() else None,
        "iou": {
            name: float(value) if there else None for name, value, there in zip(labels.NAMES, iou, occurs, strict=True)
        },
    }
