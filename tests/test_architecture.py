"""The shape of the project: imports run one way, stages are thin, and dvc.yaml names just what a stage uses."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

# How work is done, not what comes out: a change here reruns nothing. What params.py reads is tracked as parameters.
UNTRACKED = {
    f"psfr/{name}.py"
    for name in (
        "params",
        "compute/cluster",
        "compute/parallel",
        "pretrained/download",
        "pretrained/pickle_scan",
        "utils/compat",
        "utils/errors",
        "utils/files",
        "utils/fingerprint",
        "utils/resume",
        "utils/strict_yaml",
    )
}
# Keys that change no result.
UNTRACKED_KEYS = {
    "compute.workers",
    "compute.batch_size",
    "compute.devices",
    "compute.checkpoint_seconds",
    "compute.scheduler",
}

# Layers of the package, lowest first. A module may import from its own layer and from those before it.
LAYERS = [
    ["psfr.utils"],
    ["psfr.params"],
    ["psfr.compute"],
    ["psfr.networks", "psfr.portraits", "psfr.pretrained"],
    ["psfr.data"],
    ["psfr.sources"],
    ["psfr.metrics"],
    ["psfr.training", "psfr.inference"],
    ["psfr.photos"],
    ["psfr.restore", "psfr.align", "psfr.losses", "psfr.checkpoints"],
    ["stages"],
]


def imported(path: Path) -> set[Path]:
    """The project's files that a file imports, packages' __init__ among them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            for i in range(1, name.count(".") + 2):
                place = ROOT.joinpath(*name.split(".")[:i])
                found |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}
    return found


def closure(path: Path) -> set[str]:
    """The project's files that run when a file does, but empty ones and those of one docstring."""
    seen, todo = {path}, [path]
    while todo:
        new = imported(todo.pop()) - seen
        seen |= new
        todo += new
    return {str(file.relative_to(ROOT)) for file in seen if len(ast.parse(file.read_text()).body) > 1 or file == path}


def definition(stage: str) -> dict:
    return PIPELINE[stage].get("do", PIPELINE[stage])


def layer(module: str) -> int:
    return next(
        i for i, names in enumerate(LAYERS) if any(module == name or module.startswith(name + ".") for name in names)
    )


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", sorted((ROOT / "psfr").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    name = module_name(path)
    if name in ("psfr", "psfr.utils.system"):
        return
    for other in map(module_name, imported(path)):
        if other != "psfr":
            assert layer(other) <= layer(name), f"{name} imports {other}, a layer above it"


def test_networks_and_pretrained_know_nothing_of_data():
    for package in ("networks", "pretrained"):
        for path in (ROOT / "psfr" / package).rglob("*.py"):
            for name in map(module_name, imported(path)):
                assert name == "psfr" or name.startswith((f"psfr.{package}", "psfr.utils")), path


def test_every_stage_is_in_the_pipeline():
    assert set(STAGES) == set(PIPELINE)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_thin(stage):
    assert len((ROOT / "stages" / f"{stage}.py").read_text().splitlines()) <= 80


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_just_the_modules_it_uses(stage):
    named = [dep for dep in definition(stage)["deps"] if dep.startswith(("psfr", "stages"))]
    files = {
        str(file.relative_to(ROOT))
        for dep in named
        for file in ([ROOT / dep] if dep.endswith(".py") else (ROOT / dep).rglob("*.py"))
    }
    used = closure(ROOT / "stages" / f"{stage}.py") - UNTRACKED
    assert used <= files, "used but not named"
    assert not [dep for dep in named if not any(file == dep or file.startswith(dep + "/") for file in used)], (
        "named but not used"
    )


def test_every_parameter_reaches_a_stage():
    def keys(values: dict, prefix: str = "") -> set[str]:
        return {
            key
            for name, value in values.items()
            for key in (keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name})
        }

    named = {param for stage in STAGES for param in definition(stage)["params"]} | {"ffhq", "celebahq", "celebamask"}
    every = keys(yaml.safe_load((ROOT / "params.yaml").read_text()))
    unnamed = {key for key in every if not any(key == name or key.startswith(name + ".") for name in named)}
    assert unnamed == UNTRACKED_KEYS


@pytest.mark.parametrize("stage", STAGES)
def test_what_git_keeps_of_a_stage_is_in_the_cache_too(stage):
    """DVC pushes only what it caches: without the copies a colleague's run cache would not be whole."""
    kept = [
        out for kind in ("outs", "metrics", "plots") for out in definition(stage).get(kind, []) if isinstance(out, dict)
    ]
    if any(options.get("cache") is False for out in kept for options in out.values()):
        assert f"metrics/cached/{stage}" in definition(stage)["outs"]
