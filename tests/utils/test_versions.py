"""Warning about installed packages that are not the pinned ones."""

from importlib.metadata import PackageNotFoundError

import pytest
import yaml

from psfr.compute import processes
from psfr.utils import versions
from psfr.utils.errors import run_main

INSTALLED = {"opencv-python": "5.0.0.93", "torch": "2.13.0+cpu"}


def installed_version(package: str) -> str:
    if package not in INSTALLED:
        raise PackageNotFoundError(package)
    return INSTALLED[package]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "version", installed_version)
    monkeypatch.chdir(tmp_path)

    def pin(torch: str = "2.13.0", **images: str) -> None:
        versions.PINS.parent.mkdir(parents=True)
        versions.PINS.write_text(yaml.safe_dump({"versions": {"images": images, "networks": {"torch": torch}}}))

    return pin


def test_warns_in_one_line_with_both_versions_and_the_fix(project, capfd):
    project(**{"opencv-python": "4.13.0.90", "pillow": "13.0.0"})
    run_main(lambda: print("ran"), "images", "networks")
    out, err = capfd.readouterr()
    assert out == "ran\n"
    assert err.startswith("warning: ") and err.count("\n") == 1
    assert "opencv-python is 5.0.0.93, pinned is 4.13.0.90, pillow is not installed, pinned is 13.0.0" in err
    assert "`pip install -r requirements.txt -c requirements.lock`" in err


def test_pinned_versions_and_other_groups_give_no_warning(project, capfd):
    project("2.12.0", **{"opencv-python": "5.0.0.93"})
    run_main(lambda: None, "images")
    run_main(lambda: None)
    versions.PINS.unlink()
    run_main(lambda: None, "networks")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("rank", "warnings"), [("0", 1), ("1", 0)])
def test_of_several_processes_the_first_warns(project, monkeypatch, capfd, rank, warnings):
    project("2.12.0", **{"opencv-python": "5.0.0.93"})
    monkeypatch.setattr(processes, "_run", lambda main, *_: main())
    monkeypatch.setenv("RANK", rank)
    processes.run_distributed(lambda: None, "networks", work=lambda _: processes.Work(0))
    assert capfd.readouterr().err.count("torch is 2.13.0, pinned is 2.12.0") == warnings
