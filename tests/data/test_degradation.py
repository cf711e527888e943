"""The degradation program, compared with the imgaug code of the reimplementation."""

from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from psfr.compute import parallel
from psfr.data import degradation, degradation_table, images
from psfr.data.degradation import apply, degrade, restoration_target, sample_degradation
from psfr.data.degradation_table import Degradation
from psfr.params import DegradeParams
from psfr.utils import compat
from psfr.utils.errors import UserError
from psfr.utils.seeds import rng_for

compat.patch_imgaug()

import imgaug  # noqa: E402
from imgaug import augmenters  # noqa: E402

# imgaug 0.4.0 uses a deprecated interface of imageio.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

REFERENCE = DegradeParams(
    variants=2, gray=0.3, blur=0.5, blur_kernel=[3, 15], motion_kernel=[5, 25], downsample=[32, 256],
    noise=0.2, noise_scale=[0.0, 25.5], jpeg=0.7, jpeg_compression=[10, 65],
)  # fmt: skip
NO_DEGRADATION = Degradation(False, None, None, None, None, 64, "area", None, None, None, None)


def reference_program(image: np.ndarray, downsample: tuple[int, int]) -> np.ndarray:
    """Degrade an image with the code of the reimplementation; NumPy samples the size, imgaug all else."""
    size = np.random.randint(*downsample)  # noqa: NPY002 - as in the code of the reimplementation
    blurs = [
        augmenters.GaussianBlur((3, 15)),
        augmenters.AverageBlur((3, 15)),
        augmenters.MedianBlur((3, 15)),
        augmenters.MotionBlur((5, 25)),
    ]
    steps = [
        augmenters.Sometimes(0.5, augmenters.OneOf(blurs)),
        augmenters.Resize(size, interpolation=imgaug.ALL),
        augmenters.Sometimes(0.2, augmenters.AdditiveGaussianNoise(loc=0, scale=(0.0, 25.5), per_channel=0.5)),
        augmenters.Sometimes(0.7, augmenters.JpegCompression(compression=(10, 65))),
        augmenters.Resize(len(image)),
    ]
    image = augmenters.Sometimes(0.3, augmenters.Grayscale(alpha=1.0))(image=image)
    return augmenters.Sequential(steps)(image=image)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Smooth color shapes with edges and texture, 128x128."""
    rng = np.random.default_rng(5)
    image = cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (128, 128), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (60, 70), 30, (220, 150, 120), -1)
    cv2.rectangle(image, (20, 20), (110, 34), (40, 30, 90), 3)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


@pytest.mark.heavy
def test_results_are_distributed_as_those_of_the_reimplementation(picture):
    """Compare PSNR, color and sharpness of 400 images each by the Kolmogorov-Smirnov test, with fixed seeds.

    The lengths are those for 512 pixels on a picture of 128, so that the effect of every step is large.
    """
    imgaug.seed(3)
    np.random.seed(3)  # noqa: NPY002 - for reference_program
    reference = [reference_program(picture, (8, 64)) for _ in range(400)]
    config = REFERENCE.model_copy(update={"downsample": [8, 64]})
    ours = [apply(sample_degradation(rng_for(1, number), config, 512), picture) for number in range(400)]
    for measure in (
        lambda image: psnr(image, picture),
        lambda image: image.astype(float).std(2).mean(),
        lambda image: cv2.Laplacian(image[:, :, 1], cv2.CV_64F).std(),
    ):
        a, b = [measure(image) for image in reference], [measure(image) for image in ours]
        assert stats.ks_2samp(a, b).pvalue > 0.01
        assert abs(np.mean(a) - np.mean(b)) < 0.15 * np.std(a)


@pytest.mark.heavy
def test_samples_at_512_are_those_of_the_reimplementation():
    samples = pd.DataFrame([asdict(sample_degradation(rng_for(2, number), REFERENCE, 512)) for number in range(8000)])

    def check_fraction(column: pd.Series, expected: float) -> None:
        assert abs(column.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(column))

    check_fraction(samples.gray, 0.3)
    check_fraction(samples.blur.notna(), 0.5)
    check_fraction(samples.noise_scale.notna(), 0.2)
    check_fraction(samples.jpeg_compression.notna(), 0.7)
    check_fraction(samples.noise_per_channel.dropna().astype(bool), 0.5)
    for blur in degradation.BLURS:
        check_fraction(samples.blur.dropna() == blur, 0.25)
    for interpolation in ("nearest", "linear", "area", "cubic"):
        check_fraction(samples.interpolation == interpolation, 0.25)
    assert stats.kstest(samples["size"] + 0.5, stats.uniform(32, 224).cdf).pvalue > 0.01
    assert set(samples["size"]) == set(range(32, 256))
    assert set(samples.jpeg_compression.dropna()) == set(range(10, 65))
    assert stats.kstest(samples.noise_scale.dropna(), stats.uniform(0, 25.5).cdf).pvalue > 0.01
    sizes = samples.groupby("blur").blur_size
    assert stats.kstest(sizes.get_group("gaussian"), stats.uniform(3, 12).cdf).pvalue > 0.01
    assert set(sizes.get_group("average")) == set(range(3, 16))
    assert set(sizes.get_group("median")) == set(range(3, 16, 2))
    assert set(sizes.get_group("motion")) == set(range(5, 26, 2))
    motion = samples[samples.blur == "motion"]
    assert stats.kstest(motion.motion_angle, stats.uniform(0, 360).cdf).pvalue > 0.01
    assert stats.kstest(motion.motion_direction, stats.uniform(-1, 2).cdf).pvalue > 0.01
    assert samples[samples.blur != "motion"][["motion_angle", "motion_direction"]].isna().all().all()


@given(st.integers(0, 10**6), st.sampled_from([32, 64, 128, 256, 512, 1024]))
@settings(max_examples=300)
def test_lengths_scale_with_the_image_size(number, image_size):
    sampled = sample_degradation(rng_for(3, number), REFERENCE, image_size)
    scale = image_size / 512
    assert int(32 * scale) <= sampled.size < 256 * scale
    if sampled.blur == "gaussian":
        assert max(0.3, 3 * scale) <= sampled.blur_size <= 15 * scale
    if sampled.blur in ("average", "median"):
        assert max(2, 3 * scale - 0.5) <= sampled.blur_size <= max(3, 15 * scale + 1.5)
    if sampled.blur == "motion":
        assert max(3, 5 * scale - 0.5) <= sampled.blur_size <= max(3, 25 * scale + 1.5)
    if sampled.blur in ("median", "motion"):
        assert sampled.blur_size % 2 == 1


@pytest.mark.parametrize("image_size", [32, 64, 128])
def test_a_recorded_blur_blurs(picture, image_size):
    """Small images have kernels of few pixels; none may be so small that the image stays as it is."""
    image = np.ascontiguousarray(picture[:image_size, :image_size])
    samples = [sample_degradation(rng_for(4, number), REFERENCE, image_size) for number in range(200)]
    for sampled in samples:
        if sampled.blur is not None:
            only_blur = replace(
                sampled, gray=False, size=image_size, interpolation="area", noise_scale=None, jpeg_compression=None
            )
            assert (apply(only_blur, image) != image).any(), sampled


@pytest.mark.parametrize(
    ("blur", "expected"),
    [
        ({"blur": "gaussian", "blur_size": 3.3}, lambda image: augmenters.blur_gaussian_(image.copy(), 3.3)),
        ({"blur": "average", "blur_size": 6.0}, lambda image: cv2.blur(image, (6, 6))),
        ({"blur": "median", "blur_size": 7.0}, lambda image: cv2.medianBlur(image, 7)),
        (
            {"blur": "motion", "blur_size": 9.0, "motion_angle": 33.25, "motion_direction": -0.4},
            lambda image: augmenters.MotionBlur(9, angle=33.25, direction=-0.4)(image=image),
        ),
        ({"gray": True}, lambda image: augmenters.Grayscale(1.0)(image=image)),
        ({}, lambda image: image),
    ],
)
@pytest.mark.parametrize("interpolation", ["nearest", "linear", "area", "cubic"])
def test_pixels_of_fixed_parameters(picture, blur, expected, interpolation):
    small = imgaug.imresize_single_image(expected(picture), (33, 33), interpolation)
    small = augmenters.compress_jpeg(small, 40)
    sampled = replace(NO_DEGRADATION, size=33, interpolation=interpolation, jpeg_compression=40, **blur)
    assert (apply(sampled, picture) == imgaug.imresize_single_image(small, (128, 128), "cubic")).all()


@pytest.mark.parametrize("per_channel", [False, True])
def test_noise_has_the_recorded_scale(per_channel):
    flat = np.full((128, 128, 3), 128, np.uint8)
    degradation = replace(NO_DEGRADATION, size=128, noise_scale=12.0, noise_per_channel=per_channel, noise_seed=9)
    noise = apply(degradation, flat).astype(float) - 128
    assert abs(noise.std() - 12) < 0.2 and abs(noise.mean()) < 0.2
    assert (noise[:, :, 0] == noise[:, :, 1]).all() != per_channel


def test_result_depends_on_seed_name_and_variant_only(picture):
    before = picture.copy()
    first = degrade(picture, "a", 0, 1, REFERENCE)
    np.random.seed(0)  # noqa: NPY002 - the global state must have no influence
    imgaug.seed(0)
    degrade(picture, "b", 0, 1, REFERENCE)
    again = degrade(picture, "a", 0, 1, REFERENCE)
    assert first[2] == again[2] and (first[0] == again[0]).all() and (first[1] == again[1]).all()
    others = [degrade(picture, *key, REFERENCE)[2] for key in [("a", 1, 1), ("b", 0, 1), ("a", 0, 2), ("a", "test", 1)]]
    assert len({first[2], *others}) == 5
    assert (picture == before).all()


def test_grayscale_target(picture):
    for gray in (0.0, 1.0):
        degraded, target, sampled = degrade(picture, "a", 0, 1, REFERENCE.model_copy(update={"gray": gray}))
        assert sampled.gray == bool(gray)
        assert (target == (images.gray(picture) if gray else picture)).all()
        assert degraded.shape == target.shape == picture.shape and degraded.dtype == target.dtype == np.uint8
    assert (restoration_target(replace(NO_DEGRADATION, gray=True), picture) == images.gray(picture)).all()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.process
def test_results_are_independent_of_workers_and_other_images(tmp_path, picture, monkeypatch):
    monkeypatch.setattr(parallel, "START_AFTER", 0)  # else seven images start no workers
    for number in range(7):
        images.write(tmp_path / "hr" / f"{number:02}.png", np.roll(picture, number * 9, axis=1))
    paths = images.list_images(tmp_path / "hr")
    for workers in (0, 2):
        out = tmp_path / f"out{workers}"
        degradation_table.write_table(
            degradation.write_variants(paths, out / "lr", REFERENCE, len(picture), 1, workers), out / "table.csv"
        )
    assert files(tmp_path / "out0") == files(tmp_path / "out2")
    assert len(list(degradation.write_variants(paths[3:4], tmp_path / "alone", REFERENCE, len(picture), 1, 0))) == 2
    alone = files(tmp_path / "alone")
    assert set(alone) == {"0/03.png", "1/03.png"}
    assert all((tmp_path / "out0" / "lr" / name).read_bytes() == content for name, content in alone.items())


def test_the_table_reproduces_the_images(tmp_path, picture):
    """Each row of the table, applied again, gives the pixels on disk."""
    images.write(tmp_path / "hr" / "007.png", picture)
    many = REFERENCE.model_copy(update={"variants": 25})
    degradation_table.write_table(
        degradation.write_variants([tmp_path / "hr" / "007.png"], tmp_path / "lr", many, len(picture), 1, 0),
        tmp_path / "table.csv",
    )
    table = degradation_table.read_table(tmp_path / "table.csv")
    assert (
        list(table.columns[:3]) == ["name", "variant", "gray"]
        and set(table.name) == {"007"}
        and list(table.variant) == list(range(25))
    )
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        name, variant = row.pop("name"), row.pop("variant")
        row = {
            key: int(value) if key in ("noise_seed", "jpeg_compression") and value is not None else value
            for key, value in row.items()
        }
        assert (apply(Degradation(**row), picture) == images.read(tmp_path / "lr" / str(variant) / f"{name}.png")).all()


def test_pairs_of_the_test_set(tmp_path, picture):
    images.write(tmp_path / "in" / "a.png", picture)
    config = REFERENCE.model_copy(update={"gray": 1.0})
    (row,) = degradation.write_pairs([tmp_path / "in" / "a.png"], tmp_path / "hr", tmp_path / "lr", config, 1, 0)
    assert row["name"] == "a" and row["gray"]
    assert (images.read(tmp_path / "hr" / "a.png") == images.gray(picture)).all()
    assert images.read(tmp_path / "lr" / "a.png").shape == picture.shape


def test_names_survive_the_table(tmp_path):
    names = ["NA", "null", "nan", "", "001", "1e5", "True", 'quo"te, and comma', "é", "=1+1"]
    rows = [{"name": name, "variant": 0, **asdict(NO_DEGRADATION)} for name in names]
    degradation_table.write_table(rows, tmp_path / "table.csv")
    assert list(degradation_table.read_table(tmp_path / "table.csv").name) == names


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "\0" * 1000,
        lambda text: "name,gray\na,1\n",
        lambda text: text.replace("gray", "other"),
        lambda text: text.replace(",1,", ",maybe,"),
        lambda text: text.replace("a,0,", "a,x,"),
        lambda text: text + "b,1,2,3" + ",4" * 50,
        lambda text: text + '"',
        lambda text: "\udcff" + text,
    ],
)
def test_error_of_a_damaged_table_is_one_line(tmp_path, damage):
    path = tmp_path / "table.csv"
    degradation_table.write_table([{"name": "a", "variant": 0, **asdict(replace(NO_DEGRADATION, gray=True))}], path)
    path.write_bytes(damage(path.read_text()).encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="table.csv: not a readable table") as caught:
        degradation_table.read_table(path)
    assert str(caught.value).isprintable()


def test_missing_table(tmp_path):
    with pytest.raises(UserError, match="no such table"):
        degradation_table.read_table(tmp_path / "table.csv")
