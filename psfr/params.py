"""Parameters of an experiment: typed, read from params.yaml and validated before any work starts."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from psfr.utils import strict_yaml
from psfr.utils.errors import MAX_LISTED, UserError, join_first, printable, run_main, safe_repr, truncate
from psfr.utils.files import atomic_write
from psfr.utils.param_errors import describe
from psfr.utils.param_groups import (
    REFERENCE_KEYS,
    ComputeParams,
    DegradeParams,
    DiscriminatorParams,
    EvaluateParams,
    FaceParserParams,
    GeneratorParams,
    ImageSetParams,
    LabeledSetParams,
    NamedTestsetParams,
    ParamGroup,
    PerceptualParams,
    TestsetParams,
    WeightsParams,
)
from psfr.utils.param_types import (
    Count,
    ImageSize,
    LearningRate,
    ModelName,
    NonNegative,
    Probability,
    SetName,
    Text,
)
from psfr.utils.project import project_root

SETS = ("ffhq", "celebahq", "celebamask")  # training set, test set, labeled set of the face parsing network
TESTSET = "testset"  # the test set that this project degrades; the others are named in `testsets`
# Keys of evaluation.json and folders of a test set; no model may have one of these names.
RESERVED_NAMES = {"degraded", "true", "intervals", "reasons", "notes", "compute", "testset", "images"}
PUBLISHED_SIZE = 512  # side in pixels of the images that the authors' networks were trained on
PUBLISHED = "published"  # value of `init` that stands for the authors' network
# Folder of the checkpoints that a training may start from, by group of parameters; its stage depends on it.
INIT_DIRS = {"fpn": "models/init/fpn", "generator": "models/init/gan", "discriminator": "models/init/gan"}
REFERENCE_DIR = "data/reference"  # of the files that users add for metrics; evaluate depends on it
# Folders of generators that stage infer depends on, so that DVC notices when one changes. The last one is the user's.
MODEL_DIRS = ("models/psfrgan", "data/weights/published", "models/external")


class Params(ParamGroup):
    """All of params.yaml. Top-level names are what people type after `dvc exp run -S`, so they do not change."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    image_size: ImageSize
    epochs: Count
    batch_size: Count
    lambda_ss: NonNegative
    lambda_pix: NonNegative
    lambda_fm: NonNegative
    lambda_gen: NonNegative
    lambda_pcp: NonNegative
    lambda_r1: NonNegative
    lr_generator: LearningRate
    lr_discriminator: LearningRate
    lr_decay: Probability  # fraction of the training, at its end, over which both learning rates fall linearly to 0
    pixel_warmup: Probability  # fraction of the training, at its start, with the pixel loss alone
    style_interval: Count  # the style loss is computed in every n-th step, with n times its weight
    ema: Annotated[float, Field(ge=0, lt=1)]  # decay of the moving average of the generator's weights; 0: no average
    flip: Probability  # of a training face being flipped horizontally, with the labels of left and right exchanged
    held_out: Annotated[float, Field(ge=0, lt=1)]  # fraction of the training set that validates instead
    log_every: Count  # steps over which the logged losses are averaged
    validate_every: Annotated[int, Field(ge=0)]  # steps between two validations; 0: none
    keep: Annotated[int, Field(ge=0)]  # generators of validated steps that are kept, the best one among them
    ffhq: ImageSetParams
    celebahq: ImageSetParams
    celebamask: LabeledSetParams
    degrade: DegradeParams
    weights: WeightsParams
    fpn: FaceParserParams
    generator: GeneratorParams
    discriminator: DiscriminatorParams
    perceptual: PerceptualParams
    compute: ComputeParams
    testset: TestsetParams
    testsets: dict[SetName, NamedTestsetParams]
    models: Annotated[dict[ModelName, Text], Field(min_length=1)]
    evaluate: EvaluateParams

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        sizes = {
            "generator.constant_size": self.generator.constant_size,
            "fpn.min_feature_size": self.fpn.min_feature_size,
        }
        for name, size in sizes.items():
            if size > self.image_size:
                raise ValueError(f"{name} {size} is greater than image_size {self.image_size}: lower it")
        for name, group in [("generator", self.generator), ("fpn", self.fpn)]:
            if group.min_channels > group.max_channels:
                raise ValueError(f"{name}.min_channels {group.min_channels} is greater than max_channels: lower it")
        scales, layers = self.discriminator.scales, self.discriminator.layers
        min_size = 3 * 2 ** (scales - 1 + layers)
        if self.image_size < min_size:
            raise ValueError(
                f"discriminator.scales {scales} and layers {layers} need images of at least {min_size} pixels, "
                f"image_size is {self.image_size}: lower one of them"
            )
        return self

    @model_validator(mode="after")
    def _check_models(self) -> Self:
        published = [name for name, path in self.models.items() if path.endswith(".pth")]
        if published and self.image_size != PUBLISHED_SIZE:
            raise ValueError(
                f"models.{published[0]}: a published generator restores {PUBLISHED_SIZE}-pixel images, "
                f"image_size is {self.image_size}: remove the model, or set image_size to {PUBLISHED_SIZE}"
            )
        reserved = RESERVED_NAMES & self.models.keys()
        if reserved:
            raise ValueError(f"models.{min(reserved)}: metrics/evaluation.json reserves this name: choose another")
        untracked = [
            f"models.{name}: {truncate(path)}" for name, path in self.models.items() if not _lies_in(path, MODEL_DIRS)
        ]
        if untracked:
            raise ValueError(
                f"{join_first(untracked, ', ')} is in no folder that infer depends on, so DVC would not notice when it "
                f"changes: copy it to {MODEL_DIRS[-1]}/"
            )
        return self

    @model_validator(mode="after")
    def _check_init(self) -> Self:
        for name, folder in INIT_DIRS.items():
            init = getattr(self, name).init
            if init is None:
                continue
            if name == "fpn" and self.fpn.source == "published":
                raise ValueError(
                    "fpn.init: fpn.source published trains no network: set fpn.init to null, or fpn.source to train"
                )
            if init == PUBLISHED:
                if name == "discriminator":
                    raise ValueError("discriminator.init: the authors published no discriminator: set it to null")
                if self.weights.source != "download":
                    raise ValueError(f"{name}.init: published weights are needed: set weights.source to download")
            elif not _lies_in(init, [folder]):
                raise ValueError(
                    f"{name}.init: {truncate(init)} is not in the folder on which its stage depends, so DVC would not "
                    f"notice when it changes: copy it to {folder}/"
                )
        return self

    @model_validator(mode="after")
    def _check_testsets(self) -> Self:
        reserved = {*SETS, TESTSET} & self.testsets.keys()
        if reserved:
            raise ValueError(f"testsets.{min(reserved)}: another set has this name: choose another")
        return self

    @model_validator(mode="after")
    def _check_reference_files(self) -> Self:
        for key in REFERENCE_KEYS:
            path = getattr(self.evaluate, key)
            if path is None:
                continue
            # DVC follows no link to a folder, so of a folder of images its files have to lie there.
            is_folder = key == "reference" and not path.endswith(".npz")
            if not _lies_in(os.path.join(path, "image") if is_folder else path, [REFERENCE_DIR]):
                raise ValueError(
                    f"evaluate.{key}: {truncate(path)} is not in the folder on which its stage depends, so DVC would "
                    f"not notice when it changes: copy it to {REFERENCE_DIR}/"
                )
        return self

    @model_validator(mode="after")
    def _check_devices(self) -> Self:
        # A set that is smaller than a batch is one batch.
        batches = {"batch_size": min(self.batch_size, self.ffhq.count or self.batch_size)}
        if self.fpn.source == "train":
            batches["fpn.batch_size"] = self.fpn.batch_size
        for name, batch_size in batches.items():
            if self.compute.devices and batch_size % self.compute.devices:
                raise ValueError(
                    f"compute.devices: {self.compute.devices} processes cannot share batches of {batch_size} images "
                    f"({name}) evenly: choose a divisor of it, or null, which takes one"
                )
        return self

    @model_validator(mode="after")
    def _check_losses(self) -> Self:
        if max(self.lambda_ss, self.lambda_pcp, self.lambda_pix, self.lambda_fm, self.lambda_gen) == 0:
            raise ValueError(
                "lambda_ss, lambda_pcp, lambda_pix, lambda_fm and lambda_gen are all 0, so the generator would learn "
                "nothing: give one of them a weight"
            )
        if self.pixel_warmup and not self.lambda_pix:
            raise ValueError("pixel_warmup needs the pixel loss: give lambda_pix a weight, or set pixel_warmup to 0")
        return self

    @model_validator(mode="after")
    def _check_test_images_are_unseen(self) -> Self:
        for name, other in [("ffhq", self.ffhq), ("celebamask", self.celebamask)]:
            if _overlap(self.celebahq, other):
                raise ValueError(
                    f"celebahq (the test set) and {name} contain the same images of {self.celebahq.images}: "
                    "choose count and skip of both so that one ends where the other begins"
                )
        return self

    def image_set(self, name: str) -> ImageSetParams | NamedTestsetParams:
        """Return the parameters of one of SETS or of a named test set.

        Raises:
            UserError: there is no set of this name.
        """
        sets: dict[str, ImageSetParams | NamedTestsetParams] = {key: getattr(self, key) for key in SETS}
        sets |= self.testsets
        if name not in sets:
            raise UserError(f"{safe_repr(name)}: no such set in params.yaml: choose one of {', '.join(sets)}")
        return sets[name]


def set_folder(name: str) -> Path:
    """Return the folder of one of SETS, of the test set or of a named test set."""
    return Path("data", name) if name in (*SETS, TESTSET) else Path("data/testsets", name)


def test_images_folder(name: str) -> Path:
    """Return the folder that holds lr/ and, if there are true images, hr/ of the test set or of a named test set."""
    return set_folder(name) if name == TESTSET else set_folder(name) / "images"


def stage_name(stage: str, set_name: str) -> str:
    """Return the name of the stage for a set: `infer` for the test set, `resize@ffhq`, `resize_testset@lfw`."""
    if set_name == TESTSET:
        return stage
    return f"{stage}@{set_name}" if set_name in SETS else f"{stage}_testset@{set_name}"


def _lies_in(path: str, folders: Iterable[str]) -> bool:
    """Return whether a path lies in one of the folders. The file itself may be a link: DVC hashes what it reads."""
    root = project_root()
    folder = os.path.realpath(root / os.path.dirname(path))
    tracked = [os.path.realpath(root / name) for name in folders]
    return any(os.path.commonpath([folder, other]) == other for other in tracked)


def _overlap(a: ImageSetParams, b: ImageSetParams) -> bool:
    """Return whether two sets may contain the same image of one folder or remote."""
    if a.source == "sample" or a.source != b.source:
        return False
    assert a.images and b.images  # `_check_source` requires them
    if a.source == "folder":
        root = project_root()
        same_folder = os.path.realpath(root / a.images) == os.path.realpath(root / b.images)
    else:
        same_folder = os.path.normpath(a.images) == os.path.normpath(b.images)
    # Index after the last image, in the order in which the seed shuffles the folder.
    end_a, end_b = (math.inf if params.count is None else params.skip + params.count for params in (a, b))
    return same_folder and end_a > b.skip and end_b > a.skip


def read_params(path: Path | str = "params.yaml") -> Params:
    """Read and validate a parameter file.

    Raises:
        UserError: the file is missing or not valid YAML, or it has unknown or missing keys, wrong types or invalid
            values. The message lists them.
    """
    return validate(strict_yaml.read(Path(path)), path)


def validate(content: object, path: Path | str) -> Params:
    """Validate the content of a parameter file; `path` is for the message.

    Raises:
        UserError: it has unknown or missing keys, wrong types or invalid values. The message lists them.
    """
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        errors = error.errors()
        problems = [describe(problem, Params) for problem in errors[:MAX_LISTED]]
        raise UserError(f"{path}: {join_first(problems, total=len(errors))}") from None


def json_schema() -> str:
    """Return the JSON schema of params.yaml, with which editors complete and check it."""
    from pydantic.json_schema import GenerateJsonSchema

    class WithoutTitles(GenerateJsonSchema):
        def field_title_should_be_set(self, schema: object) -> bool:
            return False  # the titles that pydantic makes are the keys again

    return json.dumps(Params.model_json_schema(schema_generator=WithoutTitles), indent=2) + "\n"


def main() -> None:
    """Merge parameter files and single values into params.yaml and print what changes (docs/params.md)."""
    import argparse

    from psfr.utils import presets

    parser = argparse.ArgumentParser("python -m psfr.params", description="Change params.yaml and validate it.")
    parser.add_argument("files", nargs="*", type=Path, metavar="PRESET", help="YAML file with the keys to change")
    values = "set a value after the presets; KEY is dotted, such as ffhq.count"
    parser.add_argument("-S", dest="assignments", action="append", default=[], metavar="KEY=VALUE", help=values)
    parser.add_argument(
        "--schema", action="store_true", help="print the JSON schema of params.yaml for editors, and change nothing"
    )
    arguments = parser.parse_args()
    if arguments.schema:
        print(json_schema(), end="")
        return

    path = Path("params.yaml")
    before = after = presets.read(path)
    for file in arguments.files:
        after = presets.merge_file(after, file, SETS, path.parent.glob("params/*.yaml"), _is_valid)
    for assignment in arguments.assignments:
        after = presets.merge(after, presets.parse_assignment(assignment))
    sources = ", ".join([*map(str, arguments.files), *(f"-S {assignment}" for assignment in arguments.assignments)])
    validate(strict_yaml.parse(after, path), f"{path} with {sources}" if sources else path)
    if after != before:
        with atomic_write(path) as temporary:
            temporary.write_bytes(after.encode())
    for line in presets.differences(before, after):
        print(printable(line))


def _is_valid(content: object) -> bool:
    try:
        Params.model_validate(content)
    except ValidationError:
        return False
    return True


if __name__ == "__main__":
    run_main(main)
