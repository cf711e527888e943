"""Fill data/SET/raw with the images of the source that the parameters select."""

import argparse

from psfr import sources
from psfr.params import SETS, read_params, set_folder, stage_name
from psfr.utils.errors import run_main
from psfr.utils.resume import mention_last_result, restore_last_result, resumable_dir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", help=f"{', '.join(SETS)} or a name of testsets in params.yaml")
    name = parser.parse_args().set
    params = read_params()
    raw, stage = set_folder(name) / "raw", stage_name("download", name)
    key = name if name in SETS else f"testsets.{name}"
    ignored_deps = (f"{key}.count", f"{key}.skip")
    if params.image_set(name).source != "sample":
        if restore_last_result(raw, stage, ("image_size", "psfr/portraits", "versions.portraits")):
            return
        # Each file of the last run is compared with the source, so code and versions may differ.
        ignored_deps += ("image_size", "seed", "psfr", "stages", "versions")
    with resumable_dir(raw, stage, ignored_deps=ignored_deps) as folder, mention_last_result(raw, stage):
        sources.download_set(folder, name, params)


if __name__ == "__main__":
    run_main(main, "images", "portraits")
