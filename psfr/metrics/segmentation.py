"""Agreement of a predicted parsing map with the true one: pixel accuracy and intersection over union (IoU)."""

import numpy as np

from psfr.data import labels


def confusion_matrix(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Count the pixels of each (true label, predicted label). The matrices of several images can be added.

    Args:
        predicted, true: labels 0..18, arrays or CPU tensors of one shape.

    Returns:
        int64 (19, 19): rows are true labels, columns predicted labels.

    Raises:
        ValueError: the shapes differ.
    """
    predicted, true = np.asarray(predicted), np.asarray(true)
    if predicted.shape != true.shape:
        raise ValueError(f"parsing maps of different shapes: {predicted.shape} and {true.shape}")
    pairs = true.astype(np.int64).ravel() * labels.NUM_CLASSES + predicted.astype(np.int64).ravel()
    return np.bincount(pairs, minlength=labels.NUM_CLASSES**2).reshape(labels.NUM_CLASSES, labels.NUM_CLASSES)


def compute_scores(matrix: np.ndarray) -> dict:
    """Compute the scores of a confusion matrix.

    Returns:
        "mean_iou": mean over the labels that occur in the true maps.
        "pixel_accuracy": share of correctly labeled pixels.
        "iou": IoU of each label by name, None for labels that do not occur in the true maps.
    """
    correct = np.diag(matrix).astype(np.float64)
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    occurs = true > 0
    iou = correct / np.maximum(true + predicted - correct, 1)
    return {
        "mean_iou": float(iou[occurs].mean()) if occurs.any() else None,
        "pixel_accuracy": float(correct.sum() / matrix.sum()) if occurs.any() else None,
        "iou": {
            name: float(value) if present else None
            for name, value, present in zip(labels.NAMES, iou, occurs, strict=True)
        },
    }
