"""torchvision is imported as it is; operators are declared only if its own cannot be loaded."""

import sys

import pytest
import torch

from psfr.utils import compat

LOADS = "loaded = True\n"
WITHOUT_OPERATORS = """import torch
if not torch.library.declared:
    raise RuntimeError("operator torchvision::nms does not exist")
loaded = True
"""
BROKEN = "raise RuntimeError('another fault')\n"


@pytest.fixture
def declared(monkeypatch):
    """Record the operators that are declared, as `torch.library.declared`, instead of declaring them."""
    operators = []

    class Library:
        def __init__(self, namespace: str, kind: str):
            assert (namespace, kind) == ("torchvision", "DEF")

        def define(self, schema: str) -> None:
            operators.append(schema.partition("(")[0])

    monkeypatch.setattr(torch.library, "Library", Library)
    monkeypatch.setattr(torch.library, "declared", operators, raising=False)
    monkeypatch.setattr(compat, "_libraries", [])
    monkeypatch.setitem(sys.modules, "torchvision", None)  # restored, or removed again, after the test
    del sys.modules["torchvision"]
    return operators


@pytest.mark.parametrize(("source", "expected"), [(LOADS, []), (WITHOUT_OPERATORS, ["nms", "qnms"])])
def test_operators_are_declared_only_if_the_import_fails(monkeypatch, tmp_path, declared, source, expected):
    (tmp_path / "torchvision.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    compat.patch_torchvision()
    assert sys.modules["torchvision"].loaded
    assert declared == expected


def test_other_faults_of_torchvision_are_raised(monkeypatch, tmp_path, declared):
    (tmp_path / "torchvision.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="another fault"):
        compat.patch_torchvision()
    assert declared == []
