"""Layout of the project: imports run one way, stages are thin, and dvc.yaml lists exactly what a stage uses."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import yaml

from psfr.compute.cluster import PINNED_PACKAGES
from psfr.params import DegradeParams

ROOT = Path(__file__).parents[1]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__")
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# Script of each stage; those of the named test sets share theirs with other stages.
SCRIPTS = {name: stage.get("do", stage)["cmd"].split()[2].split(".")[1] for name, stage in PIPELINE.items()}
VERSIONS = yaml.safe_load((ROOT / "psfr/utils/versions.yaml").read_text())["versions"]

# Modules that do not affect results: a change reruns no stage. What params.py reads is tracked as parameters.
UNTRACKED = {
    f"psfr/{name}.py"
    for name in (
        "params",
        "compute/cluster",
        "compute/cores",
        "compute/exchange",
        "compute/parallel",
        "pretrained/download",
        "pretrained/pickle_scan",
        "utils/compat",
        "utils/errors",
        "utils/files",
        "utils/fingerprint",
        "utils/param_errors",
        "utils/param_groups",
        "utils/param_types",
        "utils/presets",
        "utils/project",
        "utils/resume",
        "utils/strict_yaml",
        "utils/versions",
    )
} | {"stages/__init__.py"}
# Parameters that do not affect results.
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


# Modules and calls that not every system has, those of `psfr.utils.system` aside
UNIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
UNIX_CALLS = {
    *(f"os.{name}" for name in ("fork", "getpgid", "getuid", "geteuid", "killpg", "mkfifo", "nice", "posix_fadvise")),
    *(f"os.{name}" for name in ("register_at_fork", "sched_getaffinity", "setsid", "statvfs", "sync", "uname")),
    *(f"os.{name}" for name in ("O_DIRECT", "O_NOFOLLOW", "WNOHANG")),
    *(f"signal.{name}" for name in ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2")),
    *(f"signal.{name}" for name in ("alarm", "pthread_sigmask", "setitimer")),
}


def imported(path: Path) -> set[Path]:
    """Return the project's files that a file imports, including the __init__ of packages."""
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
                module = ROOT.joinpath(*name.split(".")[:i])
                files = module.with_suffix(".py"), module / "__init__.py"
                found |= {file for file in files if file.is_file()}
    return found


def closure(path: Path) -> set[str]:
    """Return the project's files that run when a file is imported, without empty ones and those of one docstring."""
    seen, pending = {path}, [path]
    while pending:
        new = imported(pending.pop()) - seen
        seen |= new
        pending += new
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


def test_no_module_uses_what_only_unix_has():
    for path in [file for folder in ("psfr", "stages", "benchmarks") for file in (ROOT / folder).rglob("*.py")]:
        tree = ast.parse(path.read_text())
        calls = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        modules = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        assert not calls & UNIX_CALLS and not modules & UNIX_MODULES, path


def test_imports_have_no_cycle():
    graph = {path: imported(path) for path in (ROOT / "psfr").rglob("*.py")}
    for (
        path,
        others,
    ) in graph.items():  # importing a module runs the __init__ of its own packages: no edge of the design
        others -= {parent / "__init__.py" for parent in path.parents}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_package_has_few_modules_at_the_top():
    modules = {path.stem for path in (ROOT / "psfr").glob("*.py")} - {"__init__"}
    assert modules == {"params", "inference", "restore", "align", "losses", "checkpoints"}


def test_networks_and_pretrained_know_nothing_of_data():
    for package in ("networks", "pretrained"):
        known = (f"psfr.{package}", "psfr.utils", "psfr.compute.exchange")
        for path in (ROOT / "psfr" / package).rglob("*.py"):
            for name in map(module_name, imported(path)):
                assert name in ("psfr", "psfr.compute") or name.startswith(known), path


def test_every_stage_is_in_the_pipeline():
    assert set(STAGES) == set(SCRIPTS.values())


@pytest.mark.parametrize("stage", STAGES)
def test_stage_is_thin(stage):
    assert len((ROOT / "stages" / f"{stage}.py").read_text().splitlines()) <= 80


@pytest.mark.heavy
@pytest.mark.parametrize("stage", PIPELINE)
def test_stage_lists_exactly_the_modules_it_uses(stage):
    listed = [dep for dep in definition(stage)["deps"] if dep.startswith(("psfr", "stages"))]
    files = {
        str(file.relative_to(ROOT))
        for dep in listed
        for file in ([ROOT / dep] if dep.endswith(".py") else (ROOT / dep).rglob("*.py"))
    }
    used = closure(ROOT / "stages" / f"{SCRIPTS[stage]}.py") - UNTRACKED
    assert used <= files, "used but not listed"
    assert not [dep for dep in listed if not any(file == dep or file.startswith(dep + "/") for file in used)], (
        "listed but not used"
    )


def test_every_parameter_reaches_a_stage():
    def flatten(params: dict, prefix: str = "") -> set[str]:
        keys = set()
        for name, value in params.items():
            keys |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) and value else {prefix + name}
        return keys

    listed = {param for stage in PIPELINE for param in definition(stage)["params"] if isinstance(param, str)}
    listed |= {"ffhq", "celebahq", "celebamask", "testsets"}
    every = flatten(yaml.safe_load((ROOT / "params.yaml").read_text()))
    unlisted = {key for key in every if not any(key == name or key.startswith(name + ".") for name in listed)}
    assert unlisted == UNTRACKED_KEYS


@pytest.mark.parametrize(
    ("stage", "unused"),
    [("fpn", {"variants"}), ("make_testset", {"variants", "gray"})],  # the test set has a `gray` of its own
)
def test_stages_that_degrade_list_every_key_of_the_degradation(stage, unused):
    listed = {param for param in definition(stage)["params"] if isinstance(param, str) and "degrade" in param}
    assert listed == {f"degrade.{key}" for key in DegradeParams.model_fields.keys() - unused}


@pytest.mark.parametrize("stage", PIPELINE)
def test_stage_depends_on_the_versions_that_it_checks(stage):
    listed = [param["psfr/utils/versions.yaml"] for param in definition(stage)["params"] if isinstance(param, dict)]
    call = ast.parse((ROOT / "stages" / f"{SCRIPTS[stage]}.py").read_text()).body[-1].body[0].value
    checked = [f"versions.{argument.value}" for argument in call.args[1:]]
    assert checked == [name for names in listed for name in names]
    assert {name.split(".")[-1] for name in checked} <= VERSIONS.keys()


def test_versions_that_stages_depend_on_are_the_pinned_ones():
    requirements = (ROOT / "requirements.txt").read_text()
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;#]+)", requirements, re.MULTILINE))
    versions = {package: version for group in VERSIONS.values() for package, version in group.items()}
    assert versions == {package: pins.get(package) for package in versions}
    affects_images = VERSIONS["images"] | VERSIONS["portraits"] | VERSIONS["degradation"]
    assert affects_images.keys() <= set(PINNED_PACKAGES)  # what dask workers are compared in


def test_artifacts_are_outputs_of_stages():
    artifacts = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]
    outputs = {out for stage in PIPELINE for out in definition(stage)["outs"] if isinstance(out, str)}
    assert {artifact["path"] for artifact in artifacts.values()} <= outputs


@pytest.mark.parametrize("stage", PIPELINE)
def test_metrics_in_git_are_mirrored_to_the_cache(stage):
    """DVC pushes only what it caches: without the copies, the run cache of a colleague would be incomplete."""
    outputs = [
        out for kind in ("outs", "metrics", "plots") for out in definition(stage).get(kind, []) if isinstance(out, dict)
    ]
    if any(options.get("cache") is False for out in outputs for options in out.values()):
        folder = f"metrics/cached/{stage}" + ("/${key}" if "foreach" in PIPELINE[stage] else "")
        assert folder in definition(stage)["outs"]
