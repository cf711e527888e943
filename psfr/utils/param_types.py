"""Types of the parameters' values, with their limits and messages."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from psfr.utils.errors import CONTROL_CHARS, safe_repr


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        lower = 1 << (value.bit_length() - 1)
        raise ValueError(f"{value} is not a power of two: use {lower} or {2 * lower}")
    return value


def _ascending(pair: list) -> list:
    if pair[0] > pair[1]:
        raise ValueError(f"{pair} is not a range: write the smaller number first")
    return pair


def _no_control_chars(text: str) -> str:
    if CONTROL_CHARS.search(text):
        raise ValueError(f"{safe_repr(text)} contains control characters: remove them")
    return text


def _scheduler_address(text: str) -> str:
    if not re.fullmatch(r"(tcp|tls)://[\w.:\[\]-]+:\d+", text):
        raise ValueError(f"{safe_repr(text)} is not the address of a dask scheduler: write tcp://HOST:PORT or null")
    return text


def _model_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]+", text):
        raise ValueError(f"{safe_repr(text)} is not a model name: use only the characters a-z, 0-9, _ and -")
    return text


def _set_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", text):  # a first "-" would make it an option of the stages
        hint = "use only letters, digits, _ and -, and no - at the start"
        raise ValueError(f"{safe_repr(text)} is not a name of a test set: {hint}")
    return text


def _pyiqa_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9_+.-]+", text):
        raise ValueError(f"{safe_repr(text)} is not a name of a metric in pyiqa")
    if re.fullmatch(r"psnr|ssim|lpips|niqe", text):
        raise ValueError(f"{text} is computed without pyiqa: remove it")
    if re.match(r"fid|inception_score", text):
        raise ValueError(f"{text} compares sets of images: name a metric of single images")
    return text


Count = Annotated[int, Field(ge=1, le=10**9)]
SmallCount = Annotated[int, Field(ge=1, le=8)]
Channels = Annotated[int, Field(ge=1, le=2**13)]
PowerOfTwo = Annotated[int, Field(ge=1, le=1024), AfterValidator(_power_of_two)]
ImageSize = Annotated[int, Field(ge=32, le=1024), AfterValidator(_power_of_two)]
Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
LearningRate = Annotated[float, Field(gt=0, lt=1)]
Text = Annotated[str, Field(max_length=4096), AfterValidator(_no_control_chars)]
SchedulerAddress = Annotated[str, Field(max_length=256), AfterValidator(_scheduler_address)]
ModelName = Annotated[str, Field(max_length=64), AfterValidator(_model_name)]
SetName = Annotated[str, Field(max_length=64), AfterValidator(_set_name)]
PyiqaName = Annotated[str, Field(max_length=64), AfterValidator(_pyiqa_name)]

_PAIR = Field(min_length=2, max_length=2)
_ASCENDING = AfterValidator(_ascending)
PixelRange = Annotated[list[Annotated[int, Field(ge=1, le=512)]], _PAIR, _ASCENDING]
NoiseRange = Annotated[list[Annotated[float, Field(ge=0, le=255)]], _PAIR, _ASCENDING]
PercentRange = Annotated[list[Annotated[int, Field(ge=0, le=100)]], _PAIR, _ASCENDING]

_FOLDER_OPTIONS = re.compile(r"[^,:/]+(,(root_folder_id|team_drive|shared_with_me|drive_id)(=[\w.-]*)?)+:")


def check_no_secrets(key: str, location: str | None, is_remote: bool) -> None:
    """Reject a path, URL or rclone remote that may contain credentials: git, dvc.lock and logs would store them.

    Options in an rclone remote (`:s3,secret_access_key=...:bucket`) may hold passwords, or commands that rclone runs.
    Only options that select a folder are allowed.
    """
    is_url = re.match(r"[\w+.-]+://[^/]*@|[\w+.-]+://[^#]*\?", location or "")
    remote = re.sub("^(:archive:)+", "", location or "")  # the remote that holds the archive
    has_options = is_remote and re.match(r":?[^,:/]*,.*:", remote) and not _FOLDER_OPTIONS.match(remote)
    if is_url or has_options:
        raise ValueError(
            f"{key}: contains a user, a password, a key or options, which git and dvc.lock would store: "
            "create a remote with `rclone config`, which keeps them outside of the project, and give its name"
        )
