"""Sources of image sets; each fills a folder `raw`.

An unlabeled set is `raw/NAME.ext`, a labeled set is `raw/images/NAME.ext` and `raw/masks/NAME.png`, a named test set is
`raw/lr/NAME.ext` and, if it has true images, `raw/hr/NAME.ext`.
"""

from pathlib import Path

from psfr.params import NamedTestsetParams, Params


def download_set(raw: Path, name: str, params: Params) -> None:
    """Fill the folder `raw` with the images of the set `name`, from the source that its parameters name.

    Raises:
        UserError: If the source lacks images or holds damaged files; the message names all of them.
    """
    # Each source is imported where it is used: rclone's and the portraits' need packages that the others do not.
    set_params = params.image_set(name)
    if isinstance(set_params, NamedTestsetParams):
        from psfr.sources import testset

        testset.download(raw, name, set_params, params.seed, params.compute.executor)
        return
    match set_params.source:
        case "sample":
            from psfr.sources import sample

            sample.render_set(raw, name, set_params, params.image_size, params.seed, params.compute.executor)
        case "folder":
            from psfr.sources import folder

            folder.copy_set(raw, name, set_params, params.seed, params.compute.executor)
        case "rclone":
            from psfr.sources import remote

            remote.fetch_set(raw, name, set_params, params.seed, params.compute.executor)
