"""Registry of pretrained weights: which files there are, and where each comes from.

Only `fetch_weights` depends on this module, so a new download address reruns no training. Files are kept in one folder per purpose:
`perceptual` (backbones of the style loss), `published` (the authors' networks), `metrics` (networks that `evaluate` needs).
"""

import re
from dataclasses import dataclass

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

PACKAGED = (
    Weight(
        STLPIPS_VGG16,
        ("perceptual", "metrics"),
        _STLPIPS,
        "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
    ),
    Weight(STLPIPS_ALEXNET, ("metrics",), _STLPIPS, "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"),
    Weight(FACE_EMBEDDING, ("metrics",), _DLIB, SHA256[FACE_EMBEDDING]),
    Weight(FACE_LANDMARKS, ("metrics",), _DLIB, SHA256[FACE_LANDMARKS]),
)
DOWNLOADED = (
    Weight(VGG_BACKBONES["vgg19"], ("perceptual",), url=_PYTORCH),
    Weight(PUBLISHED_FPN, ("published",), url=_AUTHORS),
    Weight(PUBLISHED_GENERATOR, ("published",), url=_AUTHORS),
    Weight(VGG16, ("metrics",), url=_PYTORCH),
    Weight(INCEPTION, ("metrics",), url=_PYTORCH_FID),
)
