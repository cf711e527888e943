"""Registry of pretrained weights: the files, and where each is published.

Only the stage `fetch_weights` depends on this module, so a new download address reruns no training.
"""

from dataclasses import dataclass

from psfr.pretrained.loader import hash_in_name
from psfr.pretrained.metric_files import (
    FACE_EMBEDDING,
    FACE_LANDMARKS,
    INCEPTION,
    SHA256,
    STLPIPS_ALEXNET,
    STLPIPS_VGG16,
    VGG16,
)
from psfr.pretrained.network_files import PUBLISHED_FPN, PUBLISHED_GENERATOR, VGG_BACKBONES


@dataclass(frozen=True)
class WeightFile:
    """A file of pretrained weights, its purposes (`loader.PURPOSES`), and the package or the address that has it."""

    name: str
    purposes: tuple[str, ...]
    package: str = ""  # the Python package that contains it, and its folder there
    sha256: str = ""  # known for files of packages only
    url: str = ""  # the publisher's folder

    @property
    def hash_prefix(self) -> str:
        """The known part of the SHA-256: all of it, the part in the file name, or an empty string."""
        return self.sha256 or hash_in_name(self.name)


_STLPIPS = "stlpips_pytorch/weights/vST0.0"
_DLIB = "face_recognition_models/models"
_PYTORCH = "https://download.pytorch.org/models"
_AUTHORS = "https://github.com/chaofengc/PSFRGAN/releases/download/v0.1.0"
_PYTORCH_FID = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights"

# Contained in packages of requirements.txt.
BUNDLED = (
    WeightFile(
        STLPIPS_VGG16,
        ("perceptual", "metrics"),
        _STLPIPS,
        "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
    ),
    WeightFile(
        STLPIPS_ALEXNET, ("metrics",), _STLPIPS, "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"
    ),
    WeightFile(FACE_EMBEDDING, ("metrics",), _DLIB, SHA256[FACE_EMBEDDING]),
    WeightFile(FACE_LANDMARKS, ("metrics",), _DLIB, SHA256[FACE_LANDMARKS]),
)
# Downloaded if weights.source is `download`.
DOWNLOADABLE = (
    WeightFile(VGG_BACKBONES["vgg19"], ("perceptual",), url=_PYTORCH),
    WeightFile(PUBLISHED_FPN, ("published",), url=_AUTHORS),
    WeightFile(PUBLISHED_GENERATOR, ("published",), url=_AUTHORS),
    WeightFile(VGG16, ("metrics",), url=_PYTORCH),
    WeightFile(INCEPTION, ("metrics",), url=_PYTORCH_FID),
)
