"""The model that restores a face: a run, a git revision of the project, or the published weights."""

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import yaml

from psfr.pretrained import loader, network_files, published
from psfr.utils.errors import UserError, truncate

if TYPE_CHECKING:
    from psfr.networks.fpn import FaceParsingNetwork
    from psfr.networks.generator import Generator

LOCK_FILE = "dvc.lock"
FPN_FILE, GENERATOR_FILE = "fpn.safetensors", "psfrgan/generator.safetensors"
DEFAULT_MODEL = "models"
PUBLISHED_MODEL = "published"  # the authors' networks in the user's cache
KEPT_FILE = "checkpoints.json"  # in the folder of a generator: which steps of its training are kept
PUBLISHED_HINT = "use the published model with `psfr-restore PHOTO -o OUT --model published`"


def load_networks(model: str, mirror: str | None = None) -> "tuple[FaceParsingNetwork, Generator]":
    """Load the parsing network and the generator that `model` names, see `restorer.Restorer.from_pretrained`.

    Args:
        model: a name or a path.
        mirror: as for `psfr.pretrained.published.fetch_published`.

    Raises:
        UserError: `model` names none, or its files are missing or damaged.
    """
    from psfr.networks import serialization  # imported here: it imports PyTorch, which the names of models do not need
    from psfr.networks.fpn import FaceParsingNetwork
    from psfr.networks.generator import Generator

    with _model_files(model, mirror) as (fpn_path, generator_path):
        if generator_path.suffix == ".pth":
            generator = serialization.from_published("generator", loader.load(generator_path))
            face_parser = serialization.from_published("fpn", loader.load(fpn_path))
            return cast(FaceParsingNetwork, face_parser), cast(Generator, generator)
        return serialization.load(fpn_path, FaceParsingNetwork), serialization.load(generator_path, Generator)


def model_fingerprint(model: str) -> str:
    """Return a text that is another one if the files that `load_networks` reads have been changed or written again."""
    digest = hashlib.sha256()
    with _model_files(model) as paths:
        for path in paths:
            digest.update(f"{loader.file_hash(path)} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def is_trained_on_portraits(model: str) -> bool:
    """Return whether a run's generator was trained on the synthetic portraits, as the run's dvc.lock says.

    Args:
        model: as for `load_networks`. Without a dvc.lock beside the folder of the models, the answer is False.
    """
    folder, step = _split_step(model)
    path = Path(model) if step is None else folder.parent
    if path.is_dir() and model != PUBLISHED_MODEL:
        lock = (path if (path / "models").is_dir() else _models_folder(path).resolve().parent) / LOCK_FILE
        text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    elif model == PUBLISHED_MODEL or path.suffix == ".pth":
        return False
    else:
        shown = subprocess.run(["git", "show", f"{model}:./{LOCK_FILE}"], capture_output=True, check=False)
        text = shown.stdout.decode(errors="replace")
    try:
        source = yaml.safe_load(text)["stages"]["download@ffhq"]["params"]["params.yaml"]["ffhq"]["source"]
    except (yaml.YAMLError, KeyError, TypeError):
        return False
    return source == "sample"


@contextmanager
def _model_files(model: str, mirror: str | None = None) -> Iterator[tuple[Path, Path]]:
    """Yield the files of the parsing network and of the generator."""
    path = Path(model)
    if model == PUBLISHED_MODEL:
        path = published.fetch_published(mirror)
    run, step = _split_step(model)
    if path.suffix == ".pth":
        yield path.with_name(network_files.PUBLISHED_FPN), path
    elif step is not None:
        yield run.parent / FPN_FILE, run / _kept_generator(run, step)
    elif path.is_dir() or model == DEFAULT_MODEL:
        folder = _models_folder(path)
        files = folder / FPN_FILE, folder / GENERATOR_FILE
        if not any(file.is_file() for file in files):
            raise UserError(f"{model}: no model there: train one with `dvc repro`, or {PUBLISHED_HINT}")
        yield files
    else:
        with tempfile.TemporaryDirectory() as folder:
            _copy_models(model, Path(folder))
            yield Path(folder, FPN_FILE), Path(folder, GENERATOR_FILE)


def _models_folder(path: Path) -> Path:
    """Return the folder of the models, which the folder of a run, this folder and that of its generator name."""
    if (path / "models").is_dir():
        return path / "models"
    return path.parent if _is_generator_folder(path) else path


def _split_step(model: str) -> tuple[Path, str | None]:
    """Split `FOLDER@STEP`, where the folder is that of a generator; of other models the step is None."""
    folder, _, step = model.rpartition("@")
    return (Path(folder), step) if folder and _is_generator_folder(Path(folder)) else (Path(model), None)


def _is_generator_folder(path: Path) -> bool:
    return (path / Path(GENERATOR_FILE).name).is_file()


def _kept_generator(folder: Path, step: str) -> str:
    """Return the file of the generator of a step, a number or "best"."""
    try:
        record = json.loads((folder / KEPT_FILE).read_text(encoding="utf-8"))
        files, best = dict(record["files"]), str(record["best"])
    except FileNotFoundError:
        raise UserError(f"{folder}@{step}: only the last generator is there: use it with --model {folder}") from None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{folder / KEPT_FILE}: damaged: train again with `dvc repro`") from None
    name = best if step == "best" else step
    if name not in files:
        kept = ", ".join(f"{name} (best)" if name == best else name for name in files)
        raise UserError(f"{folder}@{step}: no generator of this step is kept: choose one of {kept}")
    return files[name]


def _copy_models(revision: str, folder: Path) -> None:
    """Copy the models of a git revision from the DVC cache into a folder; they have no modification time."""
    from dvc.api import DVCFileSystem  # imported here: it takes a second, and only git revisions need it
    from dvc.exceptions import DvcException

    try:
        files = DVCFileSystem(rev=revision)
        for name in (FPN_FILE, GENERATOR_FILE):
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            files.get_file(f"models/{name}", str(target))
            os.utime(target, (0, 0))
    except (DvcException, OSError) as error:
        raise UserError(
            f"{revision}: not a folder of models, models/psfrgan@STEP, a .pth file, {PUBLISHED_MODEL} or a git "
            f"revision whose models DVC has ({truncate(error)}): "
            "check the name, or fetch the models with `dvc fetch --all-commits`"
        ) from None
