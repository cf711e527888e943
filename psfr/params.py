"""The experiment's parameters: read from params.yaml and checked before any work."""

import math
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from psfr.utils import strict_yaml
from psfr.utils.errors import CONTROL, InputError, quoted, shortened

MOST_PROBLEMS = 40  # that a message names
PUBLISHED_SIZE = 512  # of the images that the authors' networks were trained on

Count = Annotated[int, Field(ge=1, le=10**9)]
Channels = Annotated[int, Field(ge=1, le=2**13)]
Few = Annotated[int, Field(ge=1, le=8)]
Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, lt=1)]


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError(f"{value} is no power of two")
    return value


def _ordered(pair: list) -> list:
    if pair[0] > pair[1]:
        raise ValueError(f"{pair} is no range: the smaller number comes first")
    return pair


def _without_control(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("a name has no control characters")
    return text


_FOLDER_OPTIONS = re.compile(r"[^,:/]+(,(root_folder_id|team_drive|shared_with_me|drive_id)(=[\w.-]*)?)+:")


def _without_secrets(key: str, place: str | None, remote: bool) -> None:
    """A path, an address or an rclone remote is kept by git, dvc.lock and the logs: it must not hold what opens a door.

    Options in the name of a remote (`:s3,secret_access_key=...:bucket`) hold passwords, and commands that rclone would run; those that
    name a folder are taken.
    """
    address = re.match(r"[\w+.-]+://[^/]*@|[\w+.-]+://[^#]*\?", place or "")
    name = re.sub("^(:archive:)+", "", place or "")  # of the remote that the archive lies on
    options = remote and re.match(r":?[^,:/]*,.*:", name) and not _FOLDER_OPTIONS.match(name)
    if address or options:
        mend = "make a remote of it with `rclone config`, which keeps them in a file of your own, and give its name"
        raise ValueError(
            f"{key}: user, password, key or options stand in it, and git and dvc.lock would keep them: {mend}"
        )


def _range(kind: type, least: float, most: float):
    number = Annotated[kind, Field(ge=least, le=most)]
    return Annotated[list[number], Field(min_length=2, max_length=2), AfterValidator(_ordered)]


Text = Annotated[str, Field(max_length=4096), AfterValidator(_without_control)]
PowerOfTwo = Annotated[int, Field(ge=1, le=1024), AfterValidator(_power_of_two)]
Pixels = _range(int, 1, 512)


# The sets of images: for training, for testing, and with labels.
SETS = ("ffhq", "celebahq", "celebamask")


class Group(BaseModel):
    """Every key is written in the file, none has a hidden default: what a run used is what DVC recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ImageSet(Group):
    """Where the images of a set come from."""

    source: Literal["sample", "folder", "rclone"]
    count: Count | None  # sample: portraits to draw; folder and rclone: images to choose with the seed, null for all
    skip: Annotated[
        int, Field(ge=0, le=10**9)
    ]  # so many are passed over first: sets that share a folder take different parts of it
    images: Text | None  # folder: its path; rclone: the remote's

    @model_validator(mode="after")
    def _source_has_what_it_needs(self):
        if self.source == "sample" and self.count is None:
            raise ValueError("source sample needs a count of portraits to draw")
        if self.source != "sample" and not self.images:
            raise ValueError(
                f"source {self.source} needs images, the path of the {self.source if self.source == 'folder' else 'remote'}"
            )
        _without_secrets("images", self.images, self.source == "rclone")
        return self


class LabelledSet(ImageSet):
    """A set of images with a region map each."""

    masks: (
        Text | None
    )  # folder and rclone: where the label PNGs are, named as their images, or CelebAMask-HQ's parts, NUMBER_PART.png

    @model_validator(mode="after")
    def _masks_are_named(self):
        if self.source != "sample" and not self.masks:
            raise ValueError(f"source {self.source} of a labelled set needs masks, the path of the label PNGs")
        _without_secrets("masks", self.masks, self.source == "rclone")
        return self


class Degrade(Group):
    """The degradation program of the article; lengths are in pixels of a 512-pixel image and scale with image_size."""

    variants: Count  # degraded copies of each training image
    gray: Probability
    blur: Probability
    blur_kernel: Pixels  # Gaussian (sigma), average and median
    motion_kernel: Pixels
    downsample: Pixels  # the small size drawn, the upper bound left out
    noise: Probability
    noise_scale: _range(float, 0, 255)  # standard deviation in levels
    jpeg: Probability
    jpeg_compression: _range(int, 0, 100)


class Fpn(Group):
    """Face parsing network, and how it is trained when its source is train."""

    source: Literal["train", "published"]
    base_channels: Channels
    min_channels: Channels
    max_channels: Channels
    min_feature_size: PowerOfTwo
    body_blocks: Annotated[int, Field(ge=1, le=64)]
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]  # batch norm needs two
    learning_rate: Rate
    degraded: Probability  # share of the training inputs that are degraded; it grows from 0 to this over the first half
    balance: Annotated[
        float, Field(ge=0, le=1)
    ]  # a label weighs its share of the pixels to minus this power; 0: all alike
    lambda_image: Weight  # of the L1 loss on the restored image, beside 1 for the cross entropy
    held_out: Annotated[float, Field(gt=0, lt=1)]  # share of the labelled faces kept for the metrics


class Generator(Group):
    constant_size: PowerOfTwo
    constant_scale: Weight  # of the constant's random start; 1 in the published code
    min_channels: Channels
    max_channels: Channels


class Discriminator(Group):
    scales: Few
    layers: Few
    base_channels: Channels


class Perceptual(Group):
    """The network whose features the style loss compares."""

    network: Literal["vgg16", "vgg19"]
    min_size: Count  # narrower images are enlarged to it first
    scale: Annotated[float, Field(gt=0, le=10)]  # of the features; the loss grows with its fourth power


class Weights(Group):
    """Where pretrained weights come from: packages (of the requirements), or download (those, and the published ones)."""

    source: Literal["packages", "download"]
    mirror: (
        Text | None
    )  # a folder, or an http(s) address, that holds the published files, null for the publishers' own hosts

    @model_validator(mode="after")
    def _mirror_is_open(self):
        if "://" in (self.mirror or "") and not re.fullmatch(
            r"https?://[^/@?#]+(/[^@?#]*)?", self.mirror, re.IGNORECASE
        ):
            mend = "fetch the files with a tool of your own, and set weights.mirror to their folder"
            raise ValueError(
                f"mirror: no plain http(s) address; a user, a password or a key in it would be kept by git and dvc.lock: {mend}"
            )
        return self


class Compute(Group):
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16"]
    batch_size: Count  # images at once in parse, infer and evaluate
    workers: Annotated[int, Field(ge=0)] | None  # processes that prepare data, null for one a core
    devices: (
        Count | None
    )  # processes that share a stage's networks, one a GPU or a part of the cores; null for every GPU
    checkpoint_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]  # of training that a crash costs at most
    scheduler: (
        Annotated[str, Field(pattern=r"^(tcp|tls)://[\w.:\[\]-]+:\d+$", max_length=256)] | None
    )  # of dask, whose workers share the work on images; null for this machine alone

    @property
    def pool(self) -> int | str | None:
        """Who works on many images: the workers of the scheduler, or so many processes of this machine."""
        return self.scheduler or self.workers


class Testset(Group):
    count: Count | None  # images drawn of celebahq with the seed, null for all
    gray: Probability  # the article's test images stay in colour


class Evaluate(Group):
    resamples: Annotated[int, Field(ge=100)]  # of the bootstrap
    shown: (
        Count  # faces in the picture of results, from the best to the worst; of an odd number, the median in the middle
    )


class Params(Group):
    """All of params.yaml; DESIGN of the names: people type them after `dvc exp run -S`."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    image_size: Annotated[PowerOfTwo, Field(ge=32)]
    epochs: Count
    batch_size: Count
    lambda_ss: Weight
    lambda_pix: Weight
    lambda_fm: Weight
    lambda_gen: Weight
    lr_generator: Rate
    lr_discriminator: Rate
    lr_decay: Probability  # share of the training, at its end, over which both rates fall to 0
    ffhq: ImageSet
    celebahq: ImageSet
    celebamask: LabelledSet
    degrade: Degrade
    weights: Weights
    fpn: Fpn
    generator: Generator
    discriminator: Discriminator
    perceptual: Perceptual
    compute: Compute
    testset: Testset
    models: Annotated[dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]+$", max_length=64)], Text], Field(min_length=1)]
    evaluate: Evaluate

    @model_validator(mode="after")
    def _sizes_fit(self):
        for name, size in [
            ("generator.constant_size", self.generator.constant_size),
            ("fpn.min_feature_size", self.fpn.min_feature_size),
        ]:
            if size > self.image_size:
                raise ValueError(f"{name} {size} is over image_size {self.image_size}")
        for name, group in [("generator", self.generator), ("fpn", self.fpn)]:
            if group.min_channels > group.max_channels:
                raise ValueError(
                    f"{name}.min_channels {group.min_channels} is over {name}.max_channels {group.max_channels}"
                )
        halvings = self.discriminator.scales - 1 + self.discriminator.layers
        if self.image_size < 3 * 2**halvings:
            raise ValueError(
                f"discriminator.scales {self.discriminator.scales} and layers {self.discriminator.layers} need images of at least {3 * 2**halvings} pixels, image_size is {self.image_size}"
            )
        if self.image_size != PUBLISHED_SIZE and (
            published := [name for name, path in self.models.items() if path.endswith(".pth")]
        ):
            raise ValueError(
                f"models.{published[0]}: a published generator restores {PUBLISHED_SIZE}-pixel images, image_size is {self.image_size}"
            )
        if taken := {"degraded", "true", "intervals", "reasons", "notes"} & self.models.keys():
            raise ValueError(
                f"models.{min(taken)}: metrics/evaluation.json has another use for the name, choose another"
            )
        if max(self.lambda_ss, self.lambda_pix, self.lambda_fm, self.lambda_gen) == 0:
            raise ValueError(
                "lambda_ss, lambda_pix, lambda_fm and lambda_gen are all 0: the generator would learn nothing, give one a weight"
            )
        return self

    @model_validator(mode="after")
    def _test_images_are_not_trained_on(self):
        test = self.celebahq
        for name, other in [("ffhq", self.ffhq), ("celebamask", self.celebamask)]:
            shared = test.source == other.source != "sample" and os.path.normpath(test.images) == os.path.normpath(
                other.images
            )
            if shared and _end(test) > other.skip and _end(other) > test.skip:
                raise ValueError(
                    f"celebahq (the test set) and {name} take the same images of {test.images}: choose their count and skip so that one ends where the other begins"
                )
        return self


def _end(given: ImageSet) -> float:
    """The place after the last image that a set takes, in the order that the seed gives to its folder."""
    return math.inf if given.count is None else given.skip + given.count


def read(path: Path | str = "params.yaml") -> Params:
    """Read and check a parameter file.

    Raises:
        InputError: the file is missing or no YAML, or it has unknown keys, missing keys, wrong types or impossible values; all of them are named.
    """
    values = strict_yaml.read(Path(path))
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = [
            f"{'.'.join(shortened(part, 80) for part in e['loc'])}: {_said(e)}".removeprefix(": ")
            for e in error.errors()
        ]
        more = f"; {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        raise InputError(f"{path}: {'; '.join(problems[:MOST_PROBLEMS])}{more}") from None


def _said(error: dict) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "unknown key, remove it or mend its name"
        case "missing":
            return "missing key, take it from params/*.yaml"
        case _:
            message = error["msg"].removeprefix("Value error, ")
            value = error["input"]
            return (
                message
                if isinstance(value, dict | BaseModel)
                else f"{message[0].lower()}{message[1:]}, not {quoted(value)}"
            )
