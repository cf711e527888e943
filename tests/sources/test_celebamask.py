"""CelebAMask-HQ as it is distributed: parts become label maps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from psfr import portraits, sources
from psfr.data import images, labels, resize
from psfr.sources import celebamask
from psfr.utils.errors import UserError
from tests.helpers.s3 import emptied, s3  # noqa: F401
from tests.helpers.sets import given_params, refused, stage, tree

# The authors' g_mask.py writes these numbers, in this order, the later over the earlier.
AUTHORS = (
    "skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r neck_l neck cloth".split()
)


def write_part(path: Path, where: np.ndarray, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(where.astype(np.uint8) * 255).convert(mode).save(path)


def distribute(folder: Path, faces: dict[int, np.ndarray], scale: int = 2) -> dict[str, str]:
    """The distributed layout of label maps, with images `scale` times as large; what celebamask's parameters are."""
    for number, regions in faces.items():
        size = len(regions) * scale
        noise = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
        (folder / "CelebA-HQ-img").mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(folder / "CelebA-HQ-img" / f"{number}.jpg")
        for label in np.unique(regions[regions > 0]):
            name = f"{number // 2000}/{number:05}_{AUTHORS[label - 1]}.png"
            write_part(folder / "CelebAMask-HQ-mask-anno" / name, regions == label, "RGB" if label % 2 else "L")
    return {
        "source": "folder",
        "count": None,
        "images": str(folder / "CelebA-HQ-img"),
        "masks": str(folder / "CelebAMask-HQ-mask-anno"),
    }


def portraits_of(numbers: list[int], size: int = 64) -> dict[int, np.ndarray]:
    return {number: portraits.draw(5, number, size)[1] for number in numbers}


def filled(folder: Path, values: dict) -> dict[str, bytes]:
    given = given_params(folder, celebamask=values)
    sources.download_set(emptied(folder / "raw"), "celebamask", given)
    return tree(folder / "raw")


def test_parts_have_the_authors_numbers():
    assert list(celebamask.PARTS) == AUTHORS and len(AUTHORS) == labels.NUM_CLASSES - 1
    assert [celebamask.part_label(Path(f"3/00007_{part}.png")) for part in AUTHORS] == list(range(1, 19))
    assert (
        celebamask.part_label(Path("00007_beard.png"))
        is celebamask.part_label(Path("skin.png"))
        is celebamask.part_label(Path("00007.png"))
        is None
    )


@pytest.mark.parametrize("source", ["folder", "rclone"])
def test_label_maps_of_the_distributed_layout(tmp_path, source, request):
    """Maps that were taken apart come back pixel by pixel, from a folder and from an S3 server."""
    faces = portraits_of([0, 7, 1999, 2000, 12345])
    place = tmp_path / "served" / "celebamask" if source == "rclone" else tmp_path / "CelebAMask-HQ"
    server = request.getfixturevalue("s3") if source == "rclone" else None
    values = distribute(place, faces)
    if server:
        values |= {
            "source": "rclone",
            "images": "s3:celebamask/CelebA-HQ-img",
            "masks": "s3:celebamask/CelebAMask-HQ-mask-anno",
        }
    raw = filled(tmp_path / "set", values)
    assert sorted(raw) == sorted(
        [f"images/{number}.jpg" for number in faces] + [f"masks/{number}.png" for number in faces]
    )
    for number, regions in faces.items():
        assert (labels.read(tmp_path / "set" / "raw" / "masks" / f"{number}.png") == regions).all()
        assert raw[f"images/{number}.jpg"] == (place / "CelebA-HQ-img" / f"{number}.jpg").read_bytes()
    assert len(filled(tmp_path / "set", values | {"count": 2})) == 4
    resize.resize_labeled_folder(tmp_path / "set" / "raw", tmp_path / "hr", 32, 0)
    for path in images.list_images(tmp_path / "hr" / "labels"):
        assert (labels.read(path) == resize.resize_labels(faces[int(path.stem)], 32)).all()


def test_where_parts_overlap_the_later_one_is_seen(tmp_path):
    """Each part is a bar over the whole width and one over the whole height: every two of them cross."""
    rng = np.random.default_rng(0)
    values = distribute(tmp_path, {3: np.full((20, 20), 1, np.uint8)})
    expected = np.ones((20, 20), np.uint8)
    for label in rng.permutation(np.arange(1, 19)):
        where = np.zeros((20, 20), bool)
        where[label] = where[:, label] = True
        write_part(tmp_path / "CelebAMask-HQ-mask-anno" / "0" / f"00003_{AUTHORS[label - 1]}.png", where | (label == 1))
    for y in range(20):
        for x in range(20):
            expected[y, x] = max([1] + [label for label in range(2, 19) if label in (x, y)])
    filled(tmp_path / "set", values)
    assert (labels.read(tmp_path / "set" / "raw" / "masks" / "3.png") == expected).all()


def test_every_fault_of_parts_is_named(tmp_path):
    values = distribute(tmp_path, portraits_of([0, 1, 2, 3]))
    masks = tmp_path / "CelebAMask-HQ-mask-anno" / "0"
    (masks / "00000_skin.png").write_bytes(b"")
    write_part(masks / "00001_nose.png", np.ones((32, 32), bool))
    Image.new("RGB", (96, 128)).save(tmp_path / "CelebA-HQ-img" / "2.jpg")
    given_params(tmp_path / "set", celebamask=values)
    done = stage(tmp_path / "set", "stages.download", "celebamask")
    refused(
        done,
        "0/00000_skin.png: not a readable image",
        "00001_",
        "several sizes (32x32, 64x64)",
        "64x64 pixels, its image 2.jpg has 96x128",
    )
    assert "00003" not in done.stderr
    assert not list((tmp_path / "set").rglob("raw"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda folder: (folder / "CelebA-HQ-img" / "0.jpg").rename(folder / "CelebA-HQ-img" / "a.jpg"),
            "a.jpg has no number for a name",
        ),
        (
            lambda folder: (folder / "CelebA-HQ-img" / "0.jpg").rename(folder / "CelebA-HQ-img" / "00001.jpg"),
            "1.jpg has the number of .*00001.jpg",
        ),
        (
            lambda folder: (folder / "CelebA-HQ-img" / "0.jpg").rename(folder / "CelebA-HQ-img" / "5.jpg"),
            "5.jpg has no parts",
        ),
        (
            lambda folder: write_part(folder / "CelebAMask-HQ-mask-anno" / "00000_beard.png", np.ones((4, 4))),
            "00000_beard.png is named as no part of a face",
        ),
    ],
)
def test_names_that_do_not_belong_together(tmp_path, change, words):
    values = distribute(tmp_path, portraits_of([0, 1]))
    change(tmp_path)
    with pytest.raises(UserError, match=words):
        filled(tmp_path / "set", values)


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((30, 40), True),
        ((15, 20), True),
        ((60, 80), True),
        ((10, 20), False),
        ((31, 40), False),
        ((40, 30), False),
        ((20, 27), False),
        ((1, 1), False),
    ],
)
def test_a_map_is_of_its_images_size_or_contained_in_it(size, fits):
    assert labels.sizes_compatible(size, (30, 40)) == labels.sizes_compatible((30, 40), size) == fits
