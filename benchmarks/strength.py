"""Fit and measure `psfr.restore --strength auto`: how far faces are restored by how degraded they are.

python -m benchmarks.strength fit FOLDER [--count 300] [--size 128]
    fits the estimate of severity to aligned photographs of faces that are degraded here, and prints its weights
python -m benchmarks.strength calibrate [--model models] [--count 120] [--whole]
    measures strengths on training faces of a run that are degraded anew, and compares thresholds of severity
python -m benchmarks.strength measure [--model models] [--plot FILE] [--whole]
    measures strengths and auto on the test set of a run

Run the last two in the clone where `dvc repro` made the sets. They print Markdown.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from tqdm import tqdm

from benchmarks.ablation import METRICS, N_RESAMPLES, SEED, format_change
from psfr.compute import devices
from psfr.data import degradation, images, labels
from psfr.data.resize import resize_image
from psfr.metrics import bootstrap, fidelity, identity
from psfr.metrics.measure import evaluate
from psfr.metrics.testset import TestSet
from psfr.params import DegradeParams, read_params
from psfr.photos import blending, detection, restoration
from psfr.photos import strength as auto
from psfr.photos.restorer import COMPUTE, Restorer
from psfr.pretrained import loader
from psfr.utils import errors

TESTSET, TRAINING = Path("data/testset"), Path("data/ffhq/hr")
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
COLUMNS = ("psnr", "ssim", "st_lpips", "identity")
AUTO = "auto"
FACTORS = (1, 2, 4)  # of the size at which faces are degraded for the fit: the larger ones are then reduced
RIDGE = 1.0  # penalty on the standardized weights
FOLDS = 5  # of the cross-validation
MAX_ST_LPIPS = 0.75  # of the degraded images', which the thresholds must reach


@dataclass
class Curves:
    """Metrics of faces at each strength.

    Args:
        severities: estimates, (faces,).
        strengths: chosen by auto, (faces,).
        values: values[metric], (faces, strengths): at each of `STRENGTHS`, then at the chosen strength.
    """

    severities: np.ndarray
    strengths: np.ndarray
    values: dict[str, np.ndarray]

    def at(self, metric: str, strengths: np.ndarray) -> np.ndarray:
        """Interpolate a metric at a strength for each face, (faces,)."""
        rows = zip(strengths, self.values[metric], strict=True)
        return np.array([np.interp(strength, STRENGTHS, row[: len(STRENGTHS)]) for strength, row in rows])


def degrade_anew(image: np.ndarray, name: str, config: DegradeParams) -> np.ndarray:
    """Degrade a face, in color, in another way than any stage does, so that no network has seen the result."""
    return degradation.degrade(image, name, "strength", SEED, config.model_copy(update={"gray": 0.0}))[0]


def severity_pairs(paths: list[Path], size: int, config: DegradeParams) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Degrade faces and measure what the estimate is fitted to.

    Args:
        paths: aligned photographs, of at least `size` pixels.
        size: side of the faces that are measured. Each face is degraded at `FACTORS` times this size, as far as the
            photograph is large enough, and then reduced; the larger, the milder. It is also measured as it is.
        config: the degradation program.

    Returns:
        Features (pairs, features), identity distances (pairs,) and the index of the face (pairs,).
    """
    models = detection.identity_models()
    features, distances, faces = [], [], []
    for index, path in enumerate(tqdm(paths, "degrade", unit="face")):
        photograph = images.read(path)
        hq = resize_image(photograph, size)
        copies = [hq]
        for factor in FACTORS:
            if factor * size <= min(photograph.shape[:2]):
                lq = degrade_anew(resize_image(photograph, factor * size), f"{path.stem} {factor}", config)
                copies.append(resize_image(lq, size))
        features += [list(auto.severity_features(copy).values()) for copy in copies]
        distances += [0.0, *identity.embedding_distances(hq, copies[1:], models)]
        faces += [index] * len(copies)
    return np.array(features), np.array(distances), np.array(faces)


def ridge(features: np.ndarray, values: np.ndarray) -> tuple[float, np.ndarray]:
    """Return intercept and weights (features,) of a ridge regression on standardized features."""
    mean, scale = features.mean(0), features.std(0) + 1e-9
    standardized = (features - mean) / scale
    gram = standardized.T @ standardized + RIDGE * np.eye(len(scale))
    weights = np.linalg.solve(gram, standardized.T @ (values - values.mean())) / scale
    return float(values.mean() - mean @ weights), weights


def fit(paths: list[Path], size: int, config: DegradeParams) -> str:
    """Return the lines of `psfr/photos/strength.py` with the fitted weights, and the errors of a cross-validation."""
    features, distances, faces = severity_pairs(paths, size, config)
    predicted = np.zeros(len(distances))
    for fold in range(FOLDS):
        held_out = faces % FOLDS == fold
        intercept, weights = ridge(features[~held_out], distances[~held_out])
        predicted[held_out] = np.maximum(0, intercept + features[held_out] @ weights)
    degraded = distances > 0
    deviations = (predicted - distances)[degraded]
    explained = 1 - np.square(deviations).mean() / distances[degraded].var()
    intercept, weights = ridge(features, distances)
    lines = [f"INTERCEPT = {intercept:.4g}", "WEIGHTS = {"]
    lines += [f'    "{name}": {weight:.4g},' for name, weight in zip(auto.WEIGHTS, weights, strict=True)]
    lines += [
        "}",
        f"{degraded.sum()} degraded faces, held out: RMS error {np.sqrt(np.square(deviations).mean()):.3f}, "
        f"R2 {explained:.2f}; not degraded: mean {predicted[~degraded].mean():.3f}, "
        f"95 % below {np.quantile(predicted[~degraded], 0.95):.3f}",
    ]
    return "\n".join(lines)


def restore_set(folder: Path, restorer: Restorer, whole: bool) -> tuple[TestSet, np.ndarray]:
    """Restore the degraded faces `folder/lr` at each strength above 0 and at the one that auto chooses.

    Args:
        folder: true and degraded faces, hr/ and lr/; parsing and restored faces are written beside them.
        whole: whether to mix the whole images, as `infer` writes them; otherwise the residual of the head is blended,
            as `psfr.restore` does.

    Returns:
        The set, and the estimated severities (faces,).
    """
    severities = []
    for path in tqdm(images.list_images(folder / "lr"), "restore", unit="face"):
        lq = images.read(path)
        seg, restored, head_probability = restoration.restore_aligned(lq, restorer, twicing=False)
        labels.write(folder / "parse" / path.name, seg)
        severities.append(auto.estimate_severity(lq))
        delta = restored - lq.astype(np.float32)
        if not whole:
            head = blending.select_head(head_probability, severities[-1])
            delta = blending.residual(lq, restored, blending.blend_mask(head, np.zeros((0, 2))))
        named = {f"{strength:g}": strength for strength in STRENGTHS[1:]}
        named[AUTO] = auto.choose_strength(severities[-1])
        for name, strength in named.items():
            blended = np.rint(np.clip(lq + strength * delta, 0, 255)).astype(np.uint8)
            images.write(folder / "sr" / name / path.name, blended)
    return TestSet(folder, [*(f"{strength:g}" for strength in STRENGTHS[1:]), AUTO]), np.array(severities)


def measure(folder: Path, restorer: Restorer, whole: bool) -> Curves:
    """Restore a set of faces as `restore_set` does, and compute the metrics."""
    testset, severities = restore_set(folder, restorer, whole)
    device = devices.get_device(COMPUTE)
    evaluation = evaluate(testset, loader.WEIGHTS_DIR / "metrics", 8, device, 1)
    values = {
        metric: np.stack([evaluation.values[variant][metric] for variant in testset.variants], 1) for metric in COLUMNS
    }
    strengths = np.array([auto.choose_strength(severity) for severity in severities])
    return Curves(severities, strengths, values)


def format_curves(curves: Curves) -> str:
    """Return the metrics by strength, of all faces and by thirds of degradation, and the changes by auto."""
    degraded_identity = curves.values["identity"][:, 0]
    thirds = np.array_split(np.argsort(degraded_identity), 3)
    names = ["degraded", *(f"{strength:g}" for strength in STRENGTHS[1:]), AUTO]
    titles = [METRICS[metric] for metric in COLUMNS]
    lines = [f"| strength | {' | '.join(titles)} | identity by thirds | ST-LPIPS by thirds |", "| --- " * 7 + "|"]
    for i, name in enumerate(names):
        psnr = fidelity.pooled_psnr(curves.values["psnr"][:, i])
        cells = [f"{psnr:.2f}", *(f"{curves.values[metric][:, i].mean():.3f}" for metric in COLUMNS[1:])]
        for metric in ("identity", "st_lpips"):
            cells.append(", ".join(f"{curves.values[metric][third, i].mean():.3f}" for third in thirds))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    resamples = bootstrap.resample_indices(SEED, len(degraded_identity), N_RESAMPLES)
    changes = {metric: curves.values[metric][:, -1] - curves.values[metric][:, 0] for metric in COLUMNS[1:]}
    cells = [format_change(changes[metric], resamples) for metric in COLUMNS[1:]]
    by_thirds = ", ".join(f"{changes['identity'][third].mean():+.3f}" for third in thirds)
    lines.append(f"| {AUTO} minus degraded | | {' | '.join(cells)} | {by_thirds} | |")
    ratio = curves.values["st_lpips"][:, -1].mean() / curves.values["st_lpips"][:, 0].mean()
    chosen = ", ".join(f"{curves.strengths[third].mean():.2f}" for third in thirds)
    correlation = np.corrcoef(curves.severities, degraded_identity)[0, 1]
    lines += [
        "",
        f"ST-LPIPS of {AUTO}: {ratio:.3f} of the degraded images'. Mean strength by thirds: {chosen}. "
        f"Correlation of the estimated severity with the degraded images' identity distance: {correlation:.2f}.",
    ]
    return "\n".join(lines)


def compare_thresholds(curves: Curves, num_rows: int = 12) -> str:
    """Return the thresholds of severity with the lowest identity distance that reach `MAX_ST_LPIPS`, as Markdown.

    The metrics are interpolated between strengths. If no thresholds reach it, those nearest to it are shown.
    """
    identity_before, st_lpips_before = (curves.values[metric][:, 0] for metric in ("identity", "st_lpips"))
    rows = []
    for low in np.arange(0, 0.7, 0.05):
        for high in np.arange(low + 0.05, 1.05, 0.05):
            strengths = np.clip((curves.severities - low) / (high - low), 0, 1)
            changes = curves.at("identity", strengths) - identity_before
            ratio = curves.at("st_lpips", strengths).mean() / st_lpips_before.mean()
            rows.append((max(ratio, MAX_ST_LPIPS), changes.mean(), ratio, low, high, changes))
    rows.sort(key=lambda row: row[:2])
    resamples = bootstrap.resample_indices(SEED, len(identity_before), N_RESAMPLES)
    lines = ["| MIN_SEVERITY | MAX_SEVERITY | identity minus degraded | ST-LPIPS of degraded |", "| --- " * 4 + "|"]
    for _, _, ratio, low, high, changes in rows[:num_rows]:
        lines.append(f"| {low:.2f} | {high:.2f} | {format_change(changes, resamples)} | {ratio:.3f} |")
    return "\n".join(lines)


def draw_curves(curves: Curves, path: Path) -> None:
    """Plot identity distance against ST-LPIPS over strengths, of all faces and by thirds, with auto as a star."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(5, 4), layout="constrained")
    order = np.argsort(curves.values["identity"][:, 0])
    least, medium, most = np.array_split(order, 3)
    for title, faces in {"all": order, "least": least, "medium": medium, "most degraded": most}.items():
        x, y = (curves.values[metric][faces].mean(0) for metric in ("st_lpips", "identity"))
        (line,) = axis.plot(x[:-1], y[:-1], "o-", label=title)
        axis.plot(x[-1], y[-1], "*", color=line.get_color(), markersize=14)
        axis.annotate("degraded", (x[0], y[0]), fontsize=7, xytext=(3, 3), textcoords="offset points")
    axis.margins(x=0.2)  # room for the words
    axis.set(xlabel=METRICS["st_lpips"], ylabel=METRICS["identity"])
    axis.legend(title="strengths 0 to 1, star: auto", loc="lower right", fontsize=8, title_fontsize=8)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def write_training_pairs(folder: Path, count: int, config: DegradeParams) -> None:
    """Write training faces to `folder/hr` and copies that are degraded anew to `folder/lr`."""
    for path in images.list_images(TRAINING)[:count]:
        hq = images.read(path)
        images.write(folder / "hr" / f"{path.stem}.png", hq)
        images.write(folder / "lr" / f"{path.stem}.png", degrade_anew(hq, path.stem, config))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strength", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    fit_parser = commands.add_parser("fit")
    fit_parser.add_argument("folder", type=Path, help="aligned photographs of faces, none of them a test image")
    fit_parser.add_argument("--count", type=int, default=300, help="number of faces (default: 300)")
    fit_parser.add_argument("--size", type=int, default=128, help="side of the faces in pixels (default: 128)")
    for command in ("calibrate", "measure"):
        subparser = commands.add_parser(command)
        subparser.add_argument("--model", default="models", help="as in psfr.restore")
        subparser.add_argument("--whole", action="store_true", help="mix whole images instead of blending the head")
    commands.choices["calibrate"].add_argument("--count", type=int, default=120, help="training faces (default: 120)")
    commands.choices["measure"].add_argument("--plot", type=Path, help="PNG of identity distance against ST-LPIPS")
    options = parser.parse_args()
    if options.command == "fit":
        paths = images.list_images(options.folder)[: options.count]
        print(fit(paths, options.size, read_params().degrade))
        return
    restorer = Restorer.from_pretrained(options.model)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.command == "calibrate":
            write_training_pairs(folder, options.count, read_params().degrade)
        else:
            for name in ("hr", "lr"):
                (folder / name).symlink_to((TESTSET / name).resolve())
        curves = measure(folder, restorer, options.whole)
    print(format_curves(curves))
    if options.command == "calibrate":
        print(compare_thresholds(curves))
    elif options.plot:
        draw_curves(curves, options.plot)


if __name__ == "__main__":
    errors.run_main(main)
