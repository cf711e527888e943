"""Groups of the parameters of an experiment, each checked by itself; `psfr.params` puts them together."""

import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from psfr.utils.param_types import (
    Channels,
    Count,
    LearningRate,
    NoiseRange,
    NonNegative,
    PercentRange,
    PixelRange,
    PowerOfTwo,
    Probability,
    PyiqaName,
    SchedulerAddress,
    SmallCount,
    Text,
    check_no_secrets,
)


class ParamGroup(BaseModel):
    """Group of parameters without defaults: each key must be in the file, so that DVC records what a run used."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ImageSetParams(ParamGroup):
    """Source of a set of images."""

    source: Literal["sample", "folder", "rclone"]
    count: Count | None  # sample: number of portraits to render; otherwise number of images to select, None for all
    skip: Annotated[int, Field(ge=0, le=10**9)]  # images to skip first, so that sets can share a folder
    images: Text | None  # folder: path; rclone: remote

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if self.source == "sample" and self.count is None:
            raise ValueError("source sample needs count: set it to the number of portraits to render")
        if self.source != "sample" and not self.images:
            raise ValueError(f"source {self.source} needs images: set it to the path of the folder or to the remote")
        check_no_secrets("images", self.images, self.source == "rclone")
        return self


class LabeledSetParams(ImageSetParams):
    """Source of a set of images with a parsing map each."""

    # folder, rclone: where the label PNGs are, named as their images, or the parts of CelebAMask-HQ, NUMBER_PART.png
    masks: Text | None

    @model_validator(mode="after")
    def _check_masks(self) -> Self:
        if self.source != "sample" and not self.masks:
            raise ValueError(f"source {self.source} of a labeled set needs masks: set it to the path of the label PNGs")
        check_no_secrets("masks", self.masks, self.source == "rclone")
        return self


class NamedTestsetParams(ParamGroup):
    """Source of a test set that is not degraded by this project: a published one, or photographs of the user."""

    source: Literal["folder", "rclone"]
    lr: Text  # folder: path; rclone: remote of the low-quality images
    hr: Text | None  # that of the true images, named as the low-quality ones; None if there are none
    count: Count | None  # number of images to select, None for all
    skip: Annotated[int, Field(ge=0, le=10**9)]

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        for key in ("lr", "hr"):
            location = getattr(self, key)
            if location == "":
                raise ValueError(f"{key}: empty: set it to the path of the folder or to the remote")
            check_no_secrets(key, location, self.source == "rclone")
        return self


class DegradeParams(ParamGroup):
    """Degradation program of the reimplementation; lengths in pixels of a 512-pixel image, scaled to image_size."""

    variants: Count  # degraded copies of each training image
    gray: Probability
    blur: Probability
    blur_kernel: PixelRange  # of Gaussian (as sigma), average and median blur
    motion_kernel: PixelRange
    downsample: PixelRange  # side of the downsampled image; the upper bound is exclusive
    noise: Probability
    noise_scale: NoiseRange  # standard deviation in gray levels, 0 to 255
    jpeg: Probability
    jpeg_compression: PercentRange


class FaceParserParams(ParamGroup):
    """Face parsing network and, for `source: train`, its training."""

    source: Literal["train", "published"]
    init: Text | None  # what the training starts from: "published", a checkpoint in models/init/fpn, None for random
    base_channels: Channels
    min_channels: Channels
    max_channels: Channels
    min_feature_size: PowerOfTwo
    body_blocks: Annotated[int, Field(ge=1, le=64)]
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]  # batch normalization needs two images
    learning_rate: LearningRate
    degraded: Probability  # fraction of degraded training inputs; grows from 0 to this value in the first half
    balance: Annotated[float, Field(ge=0, le=1)]  # class weights are (fraction of the pixels)^-balance; 0: equal
    lambda_image: NonNegative  # weight of the L1 loss of the restored image; the cross entropy has weight 1
    held_out: Annotated[float, Field(gt=0, lt=1)]  # fraction of the labeled faces used for validation


class GeneratorParams(ParamGroup):
    """Generator; `Generator` describes the sizes."""

    init: Text | None  # what the training starts from: "published", a checkpoint in models/init/gan, None for random
    constant_size: PowerOfTwo
    constant_scale: NonNegative  # standard deviation of the constant input's initialization; 1 in the published code
    constant_lr_multiplier: NonNegative  # learning rate of the constant input is this times lr_generator; 0: fixed
    replicate_padding: bool  # whether convolutions repeat the pixels at the border, instead of adding zeros
    antialias: bool  # bilinear upsampling and a condition that is averaged; else nearest and bicubic, as published
    min_channels: Channels
    max_channels: Channels


class DiscriminatorParams(ParamGroup):
    """Multi-scale discriminator; `Discriminator` describes the sizes."""

    init: Text | None  # what the training starts from: a checkpoint in models/init/gan, None for random
    scales: SmallCount
    layers: SmallCount
    base_channels: Channels
    max_shift: Annotated[int, Field(ge=0, le=64)]  # in pixels, of the images that it sees


class PerceptualParams(ParamGroup):
    """Network whose features the semantic-aware style loss compares."""

    network: Literal["vgg16", "vgg19"]
    min_size: Count  # smaller images are upsampled to this side
    scale: Annotated[float, Field(gt=0, le=10)]  # factor of the features; the loss grows with its fourth power
    normalize: bool  # whether each pixel's features are first divided by their root mean square over the channels


class WeightsParams(ParamGroup):
    """Source of the pretrained weights: pip packages only, or also the published files."""

    source: Literal["packages", "download"]
    mirror: Text | None  # folder or http(s) URL with the published files, None for the publishers' own hosts

    @model_validator(mode="after")
    def _check_mirror(self) -> Self:
        mirror = self.mirror or ""
        if "://" in mirror and not re.fullmatch(r"https?://[^/@?#]+(/[^@?#]*)?", mirror, re.IGNORECASE):
            raise ValueError(
                "mirror: not a plain http(s) URL; git and dvc.lock would store a user, a password or a key in it: "
                "download the files with another tool, and set weights.mirror to their folder"
            )
        return self


class ComputeParams(ParamGroup):
    """Hardware and processes. Of these keys, only `device` and `precision` may change a result."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"]
    batch_size: Count  # of parse, infer and evaluate
    workers: Annotated[int, Field(ge=0)] | None  # data-loading processes, None for one per core
    # Processes that share a stage's networks; None: one per GPU, or per core if that is faster, all sharing a batch.
    devices: Count | None
    checkpoint_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # interval between training checkpoints
    # Address of a dask scheduler whose workers share the image processing; None for this machine only.
    scheduler: SchedulerAddress | None

    @property
    def executor(self) -> int | str | None:
        """What processes images: the address of the dask scheduler, or the number of processes of this machine."""
        return self.scheduler or self.workers


class TestsetParams(ParamGroup):
    """Test set: images of celebahq, selected with the seed."""

    count: Count | None  # None for all
    gray: Probability  # 0 in the reimplementation: its test images keep their color


REFERENCE_KEYS = ("reference", "lmd_weights", "deg_weights")  # of `evaluate`: files that users add for metrics


class EvaluateParams(ParamGroup):
    """Evaluation of the test set."""

    resamples: Annotated[int, Field(ge=100)]  # of the bootstrap
    # Rows of the contact sheet, from the best to the worst face. The middle row of an odd number is the median.
    shown: Count
    reference: Text | None  # set of fid_reference, a folder of images or an .npz file in data/reference; None for none
    pyiqa: list[PyiqaName]  # further metrics, by their names in pyiqa
    lmd_weights: Text | None  # of lmd, AWing-FAN's file in data/reference; None for none
    deg_weights: Text | None  # of deg, ArcFace's file in data/reference; None for none

    @model_validator(mode="after")
    def _check_pyiqa(self) -> Self:
        if repeated := [name for name in self.pyiqa if self.pyiqa.count(name) > 1]:
            raise ValueError(f"pyiqa: {repeated[0]} is named twice: remove one")
        return self
