"""A shared cache on a real S3 server avoids repeated work, with the commands of docs/team.md."""

import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers.running import kill, run_command, run_process, stages_run, start_process


class Team(NamedTuple):
    """Clones of two colleagues.

    Attributes:
        ann: has run the pipeline and pushed.
        bob: has cloned and pulled.
    """

    ann: Path
    bob: Path


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """The URL of an S3 server with the bucket `team`."""
    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    (folder / "served/team").mkdir(parents=True)
    command = ["rclone", "serve", "s3", "--config", os.devnull, "--auth-key", "key,secret"]
    command += ["--addr", f"127.0.0.1:{port}", str(folder / "served")]
    process = start_process(command, folder, folder / "log")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        # rclone sends the checksum of the whole file with each part.
        patch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
        patch.setenv("AWS_MAX_ATTEMPTS", "2")
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    kill(process)


@pytest.fixture(scope="module")
def team(finished_project, server, tmp_path_factory) -> Team:
    folder = tmp_path_factory.mktemp("team")
    ann, bob, hub = folder / "ann", folder / "bob", folder / "hub.git"
    shutil.copytree(finished_project, ann, symlinks=True)
    run_command(["git", "init", "-q", "--bare", str(hub)], folder)
    run_command(["git", "remote", "add", "origin", str(hub)], ann)
    run_command(["dvc", "remote", "add", "-d", "team", "s3://team/psfrgan"], ann)
    run_command(["dvc", "remote", "modify", "team", "endpointurl", server], ann)
    run_command(["dvc", "remote", "modify", "--local", "team", "access_key_id", "key"], ann)
    run_command(["dvc", "remote", "modify", "--local", "team", "secret_access_key", "secret"], ann)
    run_command(["git", "commit", "-q", "-a", "-m", "Add the remote of the team"], ann)
    run_command(["git", "push", "-q", "origin", "HEAD:main"], ann)
    run_command(["dvc", "push", "--run-cache"], ann)
    run_command(["git", "clone", "-q", "-b", "main", str(hub), str(bob)], folder)
    shutil.copy(ann / ".dvc/config.local", bob / ".dvc")
    run_command(["dvc", "pull", "--run-cache"], bob)
    return Team(ann, bob)


def file_hashes(clone: Path) -> dict[str, str]:
    """Hash all files of a clone except those of git and DVC, compiled modules and training states."""
    paths = {str(path.relative_to(clone)): path for path in clone.rglob("*") if path.is_file()}
    excluded = re.compile(r"\.git/|\.dvc/|.*__pycache__/|models/\..*\.unfinished/")
    included = {name: path for name, path in paths.items() if not excluded.match(name)}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in included.items()}


def test_pull_makes_repro_run_no_stage(team):
    assert stages_run(run_command(["dvc", "repro"], team.bob)) == []
    assert run_command(["git", "status", "--porcelain"], team.bob) == ""
    assert file_hashes(team.bob) == file_hashes(team.ann)


def test_git_has_no_secret(team):
    assert "access_key" in (team.ann / ".dvc/config.local").read_text()
    run_command(["git", "grep", "access_key", "HEAD", "--", ".dvc"], team.ann, status=1)


def copy_missing(source: str, target: str) -> None:
    if not os.path.exists(target):
        shutil.copy(source, target)


def test_colleague_gets_experiment_without_training(team, finished_experiment):
    # Ann need not train either.
    cache = Path(".dvc/cache")
    shutil.copytree(finished_experiment / cache, team.ann / cache, copy_function=copy_missing, dirs_exist_ok=True)
    output = run_command(["dvc", "exp", "run", "-n", "ss50", "-S", "lambda_ss=50"], team.ann)
    assert stages_run(output) == []
    run_command(["dvc", "push", "--run-cache"], team.ann)
    output = run_command(["dvc", "exp", "run", "--pull", "-S", "lambda_ss=50"], team.bob)
    assert stages_run(output) == []
    assert re.findall(r"Stage '(\w+)' is cached", output) == ["train", "infer", "evaluate"]
    assert file_hashes(team.bob) == file_hashes(team.ann)
    restore_workspace(team.bob)

    run_command(["dvc", "exp", "push", "origin", "ss50"], team.ann)
    run_command(["dvc", "exp", "pull", "origin", "ss50"], team.bob)
    run_command(["dvc", "exp", "apply", "ss50"], team.bob)
    assert stages_run(run_command(["dvc", "repro"], team.bob)) == []
    assert file_hashes(team.bob) == file_hashes(team.ann)
    restore_workspace(team.bob)


def test_a_registered_model_is_fetched_by_its_name(project, tmp_path):
    run_command(["dvc", "remote", "add", "-d", "team", str(tmp_path / "remote")], project)
    run_command(["git", "commit", "-q", "-a", "-m", "Add the remote of the team"], project)
    run_command(["dvc", "push", "models/psfrgan"], project)
    run_command(["gto", "register", "psfrgan", "--version", "v1.0.0"], project)
    outside = tmp_path / "outside"
    outside.mkdir()
    run_command(["dvc", "artifacts", "get", str(project), "psfrgan"], outside)
    assert file_hashes(outside / "psfrgan") == file_hashes(project / "models/psfrgan") != {}
    assert run_command(["git", "tag"], project) == "psfrgan@v1.0.0\n"


def restore_workspace(clone: Path) -> None:
    run_command(["git", "checkout", "--force", "-q", "."], clone)
    run_command(["dvc", "checkout", "-q"], clone)


@pytest.fixture(params=["wrong secret", "unreachable server"])
def access_error(request, team) -> Iterator[str]:
    """Remove the access of Bob's clone; the value is DVC's error."""
    config = team.bob / ".dvc/config.local"
    original = config.read_text()
    assert "secret_access_key = secret\n" in original
    if request.param == "wrong secret":
        config.write_text(original.replace("_key = secret\n", "_key = another\n"))
        yield "Forbidden"
    else:
        config.write_text(f"{original}    endpointurl = http://127.0.0.1:{free_port()}\n")
        yield "Could not connect to the endpoint URL"
    config.write_text(original)


def test_missing_access_prints_one_line_and_changes_nothing(team, access_error):
    before = file_hashes(team.bob)
    for command in (["pull"], ["push"], ["repro", "--pull"]):
        output = run_command(["dvc", *command], team.bob, status=1 if command == ["pull"] else 255)
        assert len([line for line in output.splitlines() if access_error in line]) == 1, output
        assert "Traceback" not in output
        assert "secret" not in output and "another" not in output
    assert file_hashes(team.bob) == before
    assert run_command(["git", "status", "--porcelain"], team.bob) == ""


@pytest.mark.slow
def test_a_pull_request_is_compared_with_its_base(project):
    base = run_command(["git", "rev-parse", "--abbrev-ref", "HEAD"], project).strip()
    run_command(["git", "switch", "-q", "-c", "request"], project)
    path = project / "params/tiny.yaml"
    path.write_text(path.read_text().replace("  gray: 0\n", "  gray: 1\n"))  # of the test set
    run_command(["git", "commit", "-q", "-a", "-m", "Gray test images"], project)
    output = run_process([".ci/compare_metrics", base], project)
    assert stages_run(output) == ["make_testset", "infer", "evaluate"]
    assert re.search(r"^\| metrics/evaluation.json +\| ours.psnr +\| [\d.]+ +\| [\d.]+ +\|", output, re.MULTILINE), (
        output
    )


@pytest.mark.slow
def test_queue_gives_the_results_of_the_workspace(finished_project, project, tmp_path):
    run_command(["dvc", "exp", "run", "--queue", "-n", "ss", "-S", "lambda_ss=0,50"], project)
    assert start_process(["dvc", "queue", "start", "-j", "2"], project, tmp_path / "log").wait() == 0
    while re.search("Queued|Running", status := run_command(["dvc", "queue", "status"], project)):
        time.sleep(1)
    assert status.count("Success") == 2, status
    assert run_command(["git", "status", "--porcelain"], project) == ""
    refs = run_command(["git", "for-each-ref", "--format=%(refname)", "refs/exps"], project).split()
    queued = {ref.rsplit("/")[-1]: ref for ref in refs if "/ss-" in ref}

    other = shutil.copytree(finished_project, tmp_path / "other", symlinks=True)
    for name, value in [("ss-1", 0), ("ss-2", 50)]:
        output = run_command(["dvc", "exp", "run", "-S", f"lambda_ss={value}"], other)
        assert stages_run(output) == ["train", "infer", "evaluate"]
        assert run_command(["git", "show", f"{queued[name]}:dvc.lock"], project) == (other / "dvc.lock").read_text()
