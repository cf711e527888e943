"""Where the images of a set come from; each source fills a folder `raw` with them.

An unlabelled set is `raw/NAME.ext`, a labelled one `raw/images/NAME.ext` and `raw/masks/NAME.png`.
"""

from pathlib import Path

from psfr.params import Params
from psfr.sources import folder, remote, sample


def fill(raw: Path, name: str, params: Params) -> None:
    """Fill the empty folder `raw` with the images of the set `name`.

    Raises:
        InputError: the source lacks something or holds damaged files; all of them are named.
    """
    given = getattr(params, name)
    match given.source:
        case "sample":
            sample.fill(raw, name, given, params.image_size, params.seed, params.compute.pool)
        case "folder":
            folder.fill(raw, name, given, params.seed, params.compute.pool)
        case "rclone":
            remote.fill(raw, name, given, params.seed, params.compute.pool)
