"""Validation of parameter files: what is accepted, what is rejected, and the messages."""

import copy
import os
import re
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from psfr import params
from psfr.utils import strict_yaml
from psfr.utils.errors import UserError

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]
DEFAULT = yaml.load(FILES[0].read_text(), strict_yaml.StrictLoader)


def keys(values: dict, prefix: str = "") -> set[str]:
    """Return all keys with dots between groups; the keys of `models` are free."""
    found = set()
    for key, value in values.items():
        found.add(prefix + key)
        if isinstance(value, dict) and key != "models":
            found |= keys(value, f"{prefix}{key}.")
    return found


def default_with(dotted: str, value: object) -> dict:
    """Return the default parameters with one value replaced; `...` removes the key."""
    return default_with_all({dotted: value})


def default_with_all(changes: dict[str, object]) -> dict:
    """Return the default parameters with several values replaced."""
    values = copy.deepcopy(DEFAULT)
    for dotted, value in changes.items():
        *groups, key = dotted.split(".")
        group = values
        for name in groups:
            group = group[name]
        if value is ...:
            del group[key]
        else:
            group[key] = value
    return values


def rejection(tmp_path: Path, values: object) -> str:
    """Return the message with which parameters, or the text of a file, are rejected."""
    path = tmp_path / "params.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    with pytest.raises(UserError) as caught:
        params.read_params(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_valid_and_has_the_same_keys(path):
    params.read_params(path)
    assert keys(yaml.load(path.read_text(), strict_yaml.StrictLoader)) == keys(DEFAULT)


def test_numbers_with_an_exponent_are_numbers():
    assert "lr_discriminator: 4e-4" in FILES[0].read_text()
    assert params.read_params(FILES[0]).lr_discriminator == 4e-4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1), ("seed", 1.5), ("seed", "one"), ("seed", True), ("image_size", 100), ("image_size", 16),
        ("image_size", 0), ("epochs", 0), ("batch_size", 2.5), ("lambda_ss", -1), ("lambda_pix", float("inf")),
        ("discriminator.max_shift", -1),
        ("lambda_fm", float("nan")), ("lambda_gen", None), ("lr_generator", 0), ("lr_discriminator", 2),
        ("lr_decay", 1.1), ("pixel_warmup", 1.1), ("style_interval", 0), ("ema", 1), ("perceptual.normalize", 1),
        ("ffhq.source", "torrent"), ("ffhq.count", 0), ("ffhq.skip", -1), ("ffhq.images", 3), ("degrade.gray", 1.1),
        ("degrade.blur", -0.1), ("degrade.blur_kernel", [15, 3]), ("degrade.blur_kernel", [3]),
        ("degrade.blur_kernel", 3), ("degrade.downsample", [0, 256]), ("degrade.noise_scale", [0, 300]),
        ("degrade.jpeg_compression", [10, 101]), ("degrade.variants", 0), ("fpn.source", "trained"),
        ("fpn.held_out", 1), ("fpn.held_out", 0), ("fpn.batch_size", 1), ("compute.workers", -1),
        ("compute.precision", "fp8"), ("models", {}), ("evaluate.resamples", 1), ("weights.source", None),
        ("degrade", None), ("generator", []),
    ],
)  # fmt: skip
def test_invalid_values_are_reported_with_their_key(tmp_path, key, value):
    assert key in rejection(tmp_path, default_with(key, value))


@pytest.mark.heavy
@given(st.sampled_from(sorted(keys(DEFAULT))))
def test_a_missing_key_is_reported(tmp_path_factory, key):
    message = rejection(tmp_path_factory.mktemp("params"), default_with(key, ...))
    assert f"{key}: missing key" in message


@pytest.mark.heavy
@given(st.sampled_from(["", "ffhq.", "degrade.", "fpn.", "compute."]), st.from_regex(r"[a-z_]{3,12}", fullmatch=True))
def test_an_unknown_key_is_reported(tmp_path_factory, group, key):
    if group + key in keys(DEFAULT):
        return
    message = rejection(tmp_path_factory.mktemp("params"), default_with(group + key, 1))
    assert f"{group}{key}: unknown key" in message


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lambda_s", "lambda_s: unknown key: did you mean lambda_ss?"),
        ("fpn.epoch", "fpn.epoch: unknown key: did you mean epochs?"),
        ("fpn.xyz", "fpn.xyz: unknown key: remove it"),
    ],
)
def test_the_message_on_an_unknown_key_suggests_a_similar_one(tmp_path, key, message):
    assert rejection(tmp_path, default_with(key, 1)).endswith(message)


@pytest.mark.parametrize("key", ["degrade", "models"])
def test_a_value_in_place_of_a_group_is_reported(tmp_path, key):
    assert rejection(tmp_path, default_with(key, None)).endswith(f"{key}: must be a group of keys, not None")


def test_a_warmup_without_pixel_loss_is_refused(tmp_path):
    values = default_with("lambda_pix", 0)
    assert values["pixel_warmup"] > 0
    assert "pixel_warmup needs the pixel loss" in rejection(tmp_path, values)


def test_all_problems_are_reported_at_once(tmp_path):
    values = default_with("epochs", 0)
    values |= {"lambda_s": 1, "seed": "x"}
    del values["fpn"]["epochs"]
    message = rejection(tmp_path, values)
    assert all(f"{key}: " in message for key in ("epochs", "lambda_s", "seed", "fpn.epochs"))


@pytest.mark.parametrize(
    "text", ["", "just words", "- a list", "a: [1", "seed: 1\nseed: 2", "\x00", "? [1]\n: 2", "{}: 1", "1: 2", "null"]
)
def test_other_yaml_is_rejected_in_one_line(tmp_path, text):
    assert str(tmp_path / "params.yaml") in rejection(tmp_path, text)


TEXT = FILES[0].read_text()
LEVELS = "abcdefgh"
# Aliases of lists of aliases, and of mappings merged from aliases: 9^7 values.
ALIASES = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise(LEVELS))
MERGES = "".join(f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in pairwise(LEVELS))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [1, 1, 1]\n" + ALIASES + "seed: *h", "is an alias"),
        ("a: &a {x: 1}\n" + MERGES, "is an alias"),
        ("a: &a [*a]", "is an alias"),
        ("a: " + "[" * 5000, "not valid YAML .*recursion"),
        (TEXT.replace("seed: 1", "seed: " + "9" * 5000), "not valid YAML .*4300 digits"),
        (TEXT.replace("seed: 1", "seed: 0x" + "f" * 20_000), "seed: .*thousands of digits"),
        (TEXT.replace("seed: 1", "seed: 2001-13-45"), "not valid YAML .*month"),
        (TEXT.replace("seed: 1", "seed: 2001-12-31"), "seed: .*datetime.date"),
        (TEXT.replace("seed: 1", "seed: !!timestamp x"), "not valid YAML"),
        (TEXT.replace("seed: 1", "seed: !!bool x"), "not valid YAML"),
        (TEXT.replace("seed: 1", "seed: !!int ''"), "not valid YAML"),
        (TEXT.replace("seed: 1", "seed: !!python/object/apply:os.mkdir [harm]"), "not valid YAML .*constructor"),
        (TEXT.replace("seed: 1", "seed: " + "x" * 50_000), "seed: .*not 'xxx"),
        (TEXT.replace("epochs: ", "epochs: " + "[" * 100 + "]" * 100 + " #", 1), r"epochs: .*not \[\[\["),
        (TEXT + '"two\\nlines": 1\n"esc\\e[31m": 1', r"two lines: unknown key.*; esc\?\[31m: unknown key"),
        (TEXT + f'? "{"k" * 50_000}"\n: 1\n', "kkk...: unknown key"),
        (TEXT + "".join(f"k{i}: 1\n" for i in range(1000)), " and 980 more$"),
        (TEXT + "1: 2\n2001-01-01: 3\n~: 4\n", "keys should be strings"),
        (TEXT + "#" * 200_000, "more than 100000 bytes"),
        (TEXT + "---\na: 1", "not valid YAML .*single document"),
        (TEXT.replace("images: null", 'images: "a\\0b"', 1), "ffhq.images: .*contains control characters"),
        (TEXT.replace("images: null", 'images: "a\\ud800b"', 1), "ffhq.images: "),
        (TEXT.replace("  ours:", "  ../ours:"), "models.*is not a model name"),
        (TEXT.replace("  ours:", "  " + "o" * 300 + ":"), "models.*64"),
        (TEXT.replace("count: 256", "count: 1" + "0" * 30), "ffhq.count: .*less than"),
    ],
)  # fmt: skip
def test_malicious_files_are_rejected_in_one_short_line(tmp_path, text, words):
    message = rejection(tmp_path, text)
    assert re.search(words, message) and len(message) < 5000 and message.isprintable()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_other_encodings_are_rejected(tmp_path, encoding):
    (tmp_path / "params.yaml").write_bytes((TEXT + "# \xe9").encode(encoding))
    with pytest.raises(UserError, match="not valid YAML .*utf-8"):
        params.read_params(tmp_path / "params.yaml")


def test_other_than_regular_files_are_rejected(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for name in ("pipe.yaml", "."):
        with pytest.raises(UserError, match="not a regular file"):
            params.read_params(tmp_path / name)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("images", ":s3,provider=AWS,access_key_id=ME,secret_access_key=SECRET:bucket/faces"),
        ("images", "drive,token='{SECRET}':faces"),
        ("images", ':sftp,ssh="touch SECRET/x":'),
        ("masks", ":http,url='https://me:SECRET@host.invalid':"),
        ("images", ":archive::s3,secret_access_key=SECRET:faces.zip"),
        ("images", ":archive::archive::s3,secret_access_key=SECRET:faces.zip"),
        ("images", "drive,root_folder_id=abc,token=SECRET:"),
        ("images", "drive,root_folder_id='a',pass=SECRET:"),
        ("images", "https://me:SECRET@host.invalid/faces"),
        ("images", "https://host.invalid/faces?sig=SECRET"),
    ],
)
def test_secrets_in_a_remote_are_rejected_and_not_printed(tmp_path, key, value):
    values = default_with(
        "celebamask",
        DEFAULT["celebamask"] | {"source": "rclone", "images": "drive:faces", "masks": "drive:masks", key: value},
    )
    message = rejection(tmp_path, values)
    assert f"celebamask: {key}: " in message and "rclone config" in message and "SECRET" not in message


@pytest.mark.parametrize(
    "value",
    [
        "https://me:SECRET@host.invalid/w",
        "https://SECRET@host.invalid",
        "https://host.invalid/w?token=SECRET",
        "ftp://host/SECRET",
        "file:///SECRET",
    ],
)
def test_secrets_in_the_mirror_are_rejected_and_not_printed(tmp_path, value):
    message = rejection(tmp_path, default_with("weights.mirror", value))
    assert "weights: mirror: not a plain http(s) URL" in message and "SECRET" not in message
    assert "SECRET" not in rejection(
        tmp_path,
        default_with("weights.mirror", [value.replace("SECRET", "token=SECRET")]) | {"seed": "https://me:SECRET@host"},
    )


@pytest.mark.parametrize(
    "remote",
    [
        "drive:",
        "drive,root_folder_id=1tZ_-x,shared_with_me:faces",
        "my drive:a,b:c",
        "/data/a,b:c",
        "faces, all",
        ":memory:x",
        "C:/faces",
        ":archive:drive,root_folder_id=1x:a.zip",
        ":archive:drive:a.zip",
    ],
)
def test_other_remotes_are_accepted(tmp_path, remote):
    values = default_with("ffhq", DEFAULT["ffhq"] | {"source": "rclone", "images": remote})
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump(values | {"weights": {"source": "packages", "mirror": "https://host.invalid:8080/a/b/"}})
    )
    assert params.read_params(tmp_path / "params.yaml").ffhq.images == remote


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        params.read_params(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_size": 20}, "yaml: image_size: input should be greater than or equal to 32, not 20$"),
        ({"image_size": 96}, "yaml: image_size: 96 is not a power of two: use 64 or 128$"),
        ({"image_size": 100}, "yaml: image_size: 100 is not a power of two: use 64 or 128$"),
        (
            {"degrade.noise_scale": [9, 3]},
            "yaml: degrade.noise_scale: .* is not a range: write the smaller number first$",
        ),
        ({"degrade.noise_scale": [9]}, "yaml: degrade.noise_scale: list should have at least 2 items [^,]*, not 1$"),
        ({"compute.scheduler": "host"}, "yaml: compute.scheduler: 'host' is not the address .*: write tcp://HOST:PORT"),
        ({"models": {"A b": "x"}}, "yaml: models.A b: 'A b' is not a model name: "),
        ({"ffhq.count": None}, "ffhq: source sample needs count"),
        ({"ffhq.source": "folder"}, "ffhq: source folder needs images"),
        ({"celebamask.source": "folder", "celebamask.images": "faces"}, "celebamask: .*needs masks"),
        ({"generator.constant_size": 256}, "generator.constant_size 256 is greater than image_size"),
        ({"fpn.min_channels": 4096}, "fpn.min_channels 4096 is greater than"),
        ({"discriminator.scales": 8}, "need images of at least"),
        ({"models": {"degraded": "x"}}, "models.degraded"),
        ({"models": {"compute": "x"}}, "models.compute"),
        ({"compute.devices": 3}, r"yaml: compute.devices: 3 processes cannot share batches of 4 images \(batch_size\)"),
        ({"compute.devices": 8}, "compute.devices: 8 processes cannot share batches of 4"),
        (
            {"compute.devices": 2, "fpn.batch_size": 3},
            r"compute.devices: 2 processes cannot share batches of 3 images \(fpn.batch_size\)",
        ),
        ({"compute.devices": 4, "ffhq.count": 3}, "compute.devices: 4 processes cannot share batches of 3"),
        (dict.fromkeys(("lambda_ss", "lambda_pcp", "lambda_pix", "lambda_fm", "lambda_gen"), 0), "all 0"),
    ],
)
def test_inconsistent_values_are_rejected(tmp_path, changes, words):
    assert re.search(words, rejection(tmp_path, default_with_all(changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"compute.devices": 4},
        {"compute.devices": 2, "fpn.batch_size": 3, "fpn.source": "published"},
        {"compute.devices": 3, "ffhq.count": 3, "fpn.batch_size": 3},  # the set is smaller than a batch
    ],
)
def test_numbers_of_processes_that_divide_the_batches_are_accepted(tmp_path, changes):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(default_with_all(changes)))
    params.read_params(tmp_path / "params.yaml")


@pytest.mark.heavy
@given(
    st.one_of(st.none(), st.integers(1, 9)),
    st.integers(0, 12),
    st.one_of(st.none(), st.integers(1, 9)),
    st.integers(0, 12),
    st.booleans(),
)
def test_training_on_test_images_is_rejected(tmp_path_factory, train_count, train_skip, test_count, test_skip, same):
    """Two sets of one folder are rejected if, and only if, an image of the test set is in the training set."""
    values = copy.deepcopy(DEFAULT)
    values["ffhq"] |= {"source": "folder", "images": "faces/", "count": train_count, "skip": train_skip}
    values["celebahq"] |= {
        "source": "folder",
        "images": "faces" if same else "others",
        "count": test_count,
        "skip": test_skip,
    }
    train = set(range(train_skip, train_skip + train_count if train_count else 1000))
    test = set(range(test_skip, test_skip + test_count if test_count else 1000))
    path = tmp_path_factory.mktemp("params")
    if same and train & test:
        assert "celebahq (the test set) and ffhq contain the same images" in rejection(path, values)
    else:
        (path / "params.yaml").write_text(yaml.safe_dump(values))
        params.read_params(path / "params.yaml")


def test_sets_of_one_folder_under_two_names_are_compared(tmp_path, monkeypatch):
    (tmp_path / "faces").mkdir()
    (tmp_path / "link").symlink_to("faces")
    monkeypatch.chdir(tmp_path)
    values = copy.deepcopy(DEFAULT)
    values["celebahq"] |= {"source": "folder", "images": "faces"}
    for images in ("link", "./faces/../link", str(tmp_path / "faces")):
        values["ffhq"] |= {"source": "folder", "images": images}
        assert "celebahq (the test set) and ffhq contain the same images" in rejection(tmp_path, values)


def test_start_of_a_training_is_checked(tmp_path, monkeypatch):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert params.INIT_DIRS["fpn"] in stages["fpn"]["deps"] and params.INIT_DIRS["generator"] in stages["train"]["deps"]
    monkeypatch.chdir(tmp_path)

    def with_init(kind: str, init: str, **values: object) -> dict:
        changed = copy.deepcopy(DEFAULT) | values
        changed[kind] = changed[kind] | {"init": init}
        return changed

    download = DEFAULT["weights"] | {"source": "download"}
    for changed in (
        with_init("generator", "models/init/gan/x.safetensors"),
        with_init("discriminator", "./models/init/gan/sub/x.safetensors"),
        with_init("fpn", "published", weights=download),
        with_init("generator", "published", weights=download),
    ):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed))
        params.read_params(tmp_path / "params.yaml")
    for changed, problem in (
        (with_init("generator", "published"), "generator.init: .* set weights.source to download"),
        (with_init("discriminator", "published"), "published no discriminator"),
        (with_init("generator", "models/psfrgan/generator.safetensors"), "copy it to models/init/gan/"),
        (with_init("fpn", "models/init/gan/x.safetensors"), "copy it to models/init/fpn/"),
        (with_init("fpn", "models/init/fpn/x", fpn=DEFAULT["fpn"] | {"source": "published"}), "trains no network"),
    ):
        assert re.search(problem, rejection(tmp_path, changed)), problem


def test_models_must_be_in_folders_that_infer_depends_on(tmp_path, monkeypatch):
    dvc_yaml = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    assert set(params.MODEL_DIRS) <= set(dvc_yaml["stages"]["infer"]["deps"])
    project = tmp_path / "project"
    (project / "models/external").mkdir(parents=True)
    (tmp_path / "checkpoints").mkdir()
    (project / "models/external/folder").symlink_to(tmp_path / "checkpoints")
    (project / "models/external/file.safetensors").symlink_to(tmp_path / "checkpoints/x.safetensors")
    monkeypatch.chdir(project)
    values = copy.deepcopy(DEFAULT)
    for path in (
        "models/psfrgan/generator.safetensors",
        "./models//external/sub/x.safetensors",
        "checkpoints/../models/external/x.safetensors",
        "models/external/file.safetensors",  # DVC hashes the content of a link to a file
        str(project / "models/external/x.safetensors"),
    ):
        values["models"] = {"mine": path}
        (project / "params.yaml").write_text(yaml.safe_dump(values))
        assert params.read_params().models == {"mine": path}
    for path in (
        "x.safetensors",
        "../checkpoints/x.safetensors",
        "models/external2/x.safetensors",
        "models/external/../../x.safetensors",
        "models/external/folder/x.safetensors",  # DVC does not follow links to folders
        str(tmp_path / "checkpoints/x.safetensors"),
    ):
        values["models"] = {"mine": path}
        message = rejection(project, values)
        assert f"models.mine: {path} is in no folder that infer depends on, so DVC would not notice" in message
        assert message.endswith("copy it to models/external/")


def test_files_of_metrics_must_be_in_the_folder_that_evaluate_depends_on(tmp_path, monkeypatch):
    dvc_yaml = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert params.REFERENCE_DIR in dvc_yaml["evaluate"]["deps"]
    assert params.REFERENCE_DIR in dvc_yaml["evaluate_testset"]["do"]["deps"]
    (tmp_path / "data/reference/faces").mkdir(parents=True)
    (tmp_path / "faces").mkdir()
    (tmp_path / "data/reference/link").symlink_to(tmp_path / "faces")
    monkeypatch.chdir(tmp_path)
    values = copy.deepcopy(DEFAULT)
    for path in ("data/reference/ffhq512.npz", "data/reference/faces"):
        values["evaluate"]["reference"] = path
        Path("params.yaml").write_text(yaml.safe_dump(values))
        assert params.read_params().evaluate.reference == path
    for path in ("statistics/ffhq512.npz", "faces", "data/reference/link"):  # DVC does not follow links to folders
        values["evaluate"]["reference"] = path
        assert rejection(tmp_path, values).endswith("when it changes: copy it to data/reference/")
    values["evaluate"] |= {"reference": None, "deg_weights": "data/reference/a.pth", "lmd_weights": "a.pth"}
    assert "evaluate.lmd_weights: a.pth is not in the folder on which its stage" in rejection(tmp_path, values)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["niqe"], "niqe is computed without pyiqa: remove it"),
        (["fid_dinov2"], "fid_dinov2 compares sets of images"),
        (["a b"], "'a b' is not a name of a metric in pyiqa"),
        (["musiq", "dists", "musiq"], "musiq is named twice: remove one"),
    ],
)
def test_names_of_pyiqa_are_checked(tmp_path, names, problem):
    values = copy.deepcopy(DEFAULT)
    values["evaluate"]["pyiqa"] = names
    assert problem in rejection(tmp_path, values)


def test_a_published_generator_needs_the_published_image_size(tmp_path):
    text = (ROOT / "params/ffhq.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("image_size: 512", "image_size: 256"))
    with pytest.raises(UserError, match="models.published.*512.*256"):
        params.read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_name_their_schema(path):
    line = path.read_text().splitlines()[0]
    schema = path.parent / line.removeprefix("# yaml-language-server: $schema=")
    assert schema.read_text() == params.json_schema(), "run: python -m psfr.params --schema > params/schema.json"


TESTSET = {"source": "folder", "lr": "low", "hr": None, "count": None, "skip": 0}


@pytest.mark.parametrize(
    ("testsets", "problem"),
    [
        ({"ffhq": TESTSET}, "testsets.ffhq: another set has this name: choose another"),
        ({"-x": TESTSET}, "-x' is not a name of a test set: use only letters, digits, _ and -, and no - at the start"),
        ({"a/b": TESTSET}, "testsets.a/b: 'a/b' is not a name of a test set: use only letters, digits, _ and -"),
        ({1: TESTSET}, "testsets.1: input should be a valid string"),
        ({"x": TESTSET | {"cout": 3}}, "testsets.x.cout: unknown key: did you mean count"),
        ({"x": {"source": "folder"}}, "testsets.x.lr: missing key: see docs/testsets.md"),
        ({"x": TESTSET | {"source": "sample"}}, "testsets.x.source: input should be 'folder' or 'rclone'"),
        ({"x": TESTSET | {"hr": ""}}, "testsets.x: hr: empty"),
        ({"x": TESTSET | {"source": "rclone", "hr": ":s3,access_key_id=SECRET:b"}}, "testsets.x: hr: contains a user"),
        (None, "testsets: must be a group of keys, not None"),
    ],
)
def test_named_test_sets_are_checked(tmp_path, testsets, problem):
    message = rejection(tmp_path, DEFAULT | {"testsets": testsets})
    assert problem in message and "SECRET" not in message


def test_named_test_sets_have_folders_and_stages_of_their_own(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(DEFAULT | {"testsets": {"LFW-2": TESTSET}}))
    assert params.read_params(tmp_path / "params.yaml").image_set("LFW-2").source == "folder"
    assert params.set_folder("LFW-2") == Path("data/testsets/LFW-2") and params.set_folder("ffhq") == Path("data/ffhq")
    assert (
        params.stage_name("infer", "LFW-2") == "infer_testset@LFW-2"
        and params.stage_name("infer", "testset") == "infer"
    )
