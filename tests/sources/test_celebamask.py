"""CelebAMask-HQ as it is distributed: part masks are merged into parsing maps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from psfr import portraits, sources
from psfr.data import images, labels, resize
from psfr.sources import celebamask
from psfr.utils.errors import UserError
from tests.helpers.running import run_module
from tests.helpers.s3 import empty_dir, s3  # noqa: F401 - s3 is a fixture
from tests.helpers.sets import assert_fails, read_tree, write_params

# The authors' g_mask.py writes the parts as labels 1, 2, ... in this order, later ones over earlier ones.
AUTHORS = [
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear",
    "mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
]  # fmt: skip


def write_part(path: Path, mask: np.ndarray, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).convert(mode).save(path)


def distribute(folder: Path, faces: dict[int, np.ndarray], scale: int = 2) -> dict[str, str]:
    """Write parsing maps in the distributed layout, with images `scale` times as large; return the set's parameters."""
    for number, seg in faces.items():
        size = len(seg) * scale
        noise = np.random.default_rng(number).integers(0, 256, (size, size, 3), np.uint8)
        (folder / "CelebA-HQ-img").mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(folder / "CelebA-HQ-img" / f"{number}.jpg")
        for label in np.unique(seg[seg > 0]):
            name = f"{number // 2000}/{number:05}_{AUTHORS[label - 1]}.png"
            write_part(folder / "CelebAMask-HQ-mask-anno" / name, seg == label, "RGB" if label % 2 else "L")
    return {
        "source": "folder",
        "count": None,
        "images": str(folder / "CelebA-HQ-img"),
        "masks": str(folder / "CelebAMask-HQ-mask-anno"),
    }


def portrait_maps(numbers: list[int], size: int = 64) -> dict[int, np.ndarray]:
    return {number: portraits.draw(5, number, size)[1] for number in numbers}


def download(folder: Path, set_params: dict) -> dict[str, bytes]:
    """Download the set into an empty folder and return its files."""
    params = write_params(folder, celebamask=set_params)
    sources.download_set(empty_dir(folder / "raw"), "celebamask", params)
    return read_tree(folder / "raw")


def test_labels_of_parts():
    assert list(celebamask.PARTS) == AUTHORS and len(AUTHORS) == labels.NUM_CLASSES - 1
    assert [celebamask.part_label(Path(f"3/00007_{part}.png")) for part in AUTHORS] == list(range(1, 19))
    assert (
        celebamask.part_label(Path("00007_beard.png"))
        is celebamask.part_label(Path("skin.png"))
        is celebamask.part_label(Path("00007.png"))
        is None
    )


@pytest.mark.parametrize("source", ["folder", pytest.param("rclone", marks=pytest.mark.process)])
def test_distributed_layout(tmp_path, source, request):
    """Merging restores the maps that the parts were made from, from a folder and from an S3 server."""
    faces = portrait_maps([0, 7, 1999, 2000, 12345])
    distributed = tmp_path / "served" / "celebamask" if source == "rclone" else tmp_path / "CelebAMask-HQ"
    server = request.getfixturevalue("s3") if source == "rclone" else None
    set_params = distribute(distributed, faces)
    if server:
        set_params |= {
            "source": "rclone",
            "images": "s3:celebamask/CelebA-HQ-img",
            "masks": "s3:celebamask/CelebAMask-HQ-mask-anno",
        }
    raw = download(tmp_path / "set", set_params)
    assert sorted(raw) == sorted(
        [f"images/{number}.jpg" for number in faces] + [f"masks/{number}.png" for number in faces]
    )
    for number, seg in faces.items():
        assert (labels.read(tmp_path / "set" / "raw" / "masks" / f"{number}.png") == seg).all()
        assert raw[f"images/{number}.jpg"] == (distributed / "CelebA-HQ-img" / f"{number}.jpg").read_bytes()
    assert len(download(tmp_path / "set", set_params | {"count": 2})) == 4
    resize.resize_labeled_folder(tmp_path / "set" / "raw", tmp_path / "hr", 32, 0)
    for path in images.list_images(tmp_path / "hr" / "labels"):
        assert (labels.read(path) == resize.resize_labels(faces[int(path.stem)], 32)).all()


def test_later_parts_cover_earlier_ones(tmp_path):
    """Each part is a horizontal and a vertical bar, so that all pairs of parts overlap."""
    rng = np.random.default_rng(0)
    set_params = distribute(tmp_path, {3: np.full((20, 20), 1, np.uint8)})
    expected = np.ones((20, 20), np.uint8)
    for label in rng.permutation(np.arange(1, 19)):
        mask = np.zeros((20, 20), bool)
        mask[label] = mask[:, label] = True
        write_part(tmp_path / "CelebAMask-HQ-mask-anno" / "0" / f"00003_{AUTHORS[label - 1]}.png", mask | (label == 1))
    for y in range(20):
        for x in range(20):
            expected[y, x] = max([1] + [label for label in range(2, 19) if label in (x, y)])
    download(tmp_path / "set", set_params)
    assert (labels.read(tmp_path / "set" / "raw" / "masks" / "3.png") == expected).all()


def test_all_damaged_parts_are_named(tmp_path):
    set_params = distribute(tmp_path, portrait_maps([0, 1, 2, 3]))
    masks = tmp_path / "CelebAMask-HQ-mask-anno" / "0"
    (masks / "00000_skin.png").write_bytes(b"")
    write_part(masks / "00001_nose.png", np.ones((32, 32), bool))
    Image.new("RGB", (96, 128)).save(tmp_path / "CelebA-HQ-img" / "2.jpg")
    write_params(tmp_path / "set", celebamask=set_params)
    done = run_module(tmp_path / "set", "stages.download", "celebamask")
    assert_fails(
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
            "a.jpg is not named by a number",
        ),
        (
            lambda folder: (folder / "CelebA-HQ-img" / "0.jpg").rename(folder / "CelebA-HQ-img" / "00001.jpg"),
            "1.jpg has the same number as .*00001.jpg",
        ),
        (
            lambda folder: (folder / "CelebA-HQ-img" / "0.jpg").rename(folder / "CelebA-HQ-img" / "5.jpg"),
            "5.jpg has no parts",
        ),
        (
            lambda folder: write_part(folder / "CelebAMask-HQ-mask-anno" / "00000_beard.png", np.ones((4, 4))),
            "00000_beard.png is not named as a part of a face",
        ),
    ],
)
def test_names_that_do_not_match(tmp_path, change, words):
    set_params = distribute(tmp_path, portrait_maps([0, 1]))
    change(tmp_path)
    with pytest.raises(UserError, match=words):
        download(tmp_path / "set", set_params)


@pytest.mark.parametrize(
    ("size", "compatible"),
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
def test_compatible_sizes(size, compatible):
    assert labels.sizes_compatible(size, (30, 40)) == labels.sizes_compatible((30, 40), size) == compatible
