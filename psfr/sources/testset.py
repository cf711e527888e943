"""Named test sets: low-quality images and, for published pairs, the true images of the same names."""

from pathlib import Path

from psfr.compute.parallel import Executor
from psfr.data import images
from psfr.params import ImageSetParams, NamedTestsetParams


def download(raw: Path, name: str, params: NamedTestsetParams, seed: int, executor: Executor) -> None:
    """Validate the chosen low-quality images and their true images and copy them to `raw/lr` and `raw/hr`.

    True images to which no chosen low-quality image belongs are left out.

    Raises:
        UserError: If a folder or remote is missing or holds too few images, if low-quality images have no true image,
            or if images are damaged.
    """
    if params.source == "folder":
        from psfr.sources.folder import copy_set as get_set
    else:
        from psfr.sources.remote import fetch_set as get_set
    key = f"testsets.{name}"
    lq = ImageSetParams(source=params.source, count=params.count, skip=params.skip, images=params.lr)
    get_set(raw / "lr", key, lq, seed, executor)
    if params.hr is not None:
        stems = [path.stem for path in images.list_images(raw / "lr")]
        hq = ImageSetParams(source=params.source, count=None, skip=0, images=params.hr)
        get_set(raw / "hr", key, hq, seed, executor, only=stems)
