"""Error messages: one short line without secrets; the traceback on demand."""

import ast
import io
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfr.utils.errors import (
    MAX_LISTED,
    UserError,
    join_first,
    printable,
    raise_all,
    run_main,
    safe_repr,
    truncate,
)
from tests.helpers.running import ROOT

ANYTHING = st.recursive(
    st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none(), st.dates()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@pytest.mark.heavy
@given(ANYTHING)
def test_safe_repr_is_one_short_line(value):
    assert safe_repr(value).isprintable() and len(safe_repr(value)) < 1000


@given(st.text(), st.integers(1, 50))
def test_truncate_returns_one_line_of_the_length(text, length):
    assert truncate(text, length).isprintable() and len(truncate(text, length)) <= length + 3


@given(st.binary(max_size=50).map(os.fsdecode) | st.text())
def test_printable_escapes_what_a_line_cannot_hold(name):
    """Nothing else is escaped, and no character is lost."""
    line = printable(name)
    assert len((line + "|").splitlines()) == 1
    line.encode()
    if "\\" not in name:
        unescaped = ast.literal_eval("'" + line.replace("'", "\\'") + "'")
        assert unescaped == "".join(chr(ord(c) - 0xDC00) if 0xDC80 <= ord(c) <= 0xDCFF else c for c in name)


def test_printable_shows_a_name_in_an_old_encoding_as_its_bytes():
    assert printable(os.fsdecode(b"caf\xe9.jpg")) == r"caf\xe9.jpg"
    assert printable("café 東京.jpg") == "café 東京.jpg"
    assert printable("a\nb\x1b[2J\u2028") == r"a\nb\x1b[2J\u2028"


@given(st.binary(max_size=50).map(os.fsdecode) | st.text(), st.sampled_from(["utf-8", "ascii", "latin-1", "cp1252"]))
def test_nothing_that_is_printed_ends_the_work(name, encoding):
    """Whatever the name and the encoding of the terminal are; the message of an error that has it is one line."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]

    def main() -> None:
        for stream in (sys.stdout, sys.stderr):
            print(name, file=stream, flush=True)
        raise UserError(f"album/{name}: broken: replace it")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0])
        patch.setattr(sys, "stderr", streams[1])
        with pytest.raises(SystemExit) as end:
            run_main(main)
        print(end.value.code, file=sys.stderr, flush=True)
    assert end.value.code == f"error: album/{printable(name)}: broken: replace it"
    assert len(end.value.code.splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["x" * 10**7, " " * 10**7, "key=" * 10**6, "://" * 10**6, "@" * 10**7, "://" + "a" * 10**7]
)
def test_long_texts_take_little_processor_time(text):
    """Their end is not looked at; regular expressions on all of it would take minutes."""
    start = time.process_time()
    truncate(text)
    safe_repr(text)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("GET https://me:pw@host/a failed", "GET https://***host/a failed"),
        ("https://host/a?X-Amz-Signature=pw&b=1", "https://host/a?X-Amz-Signature=***&b=1"),
        (":s3,access_key_id=pw,secret_access_key=pw:b", ":s3,access_key_id=pw,secret_access_key=***:b"),
        ("drive,token='pw':x", "drive,token=***:x"),
        ("no secret: key, token and pass=", "no secret: key, token and pass="),
        ("a@b.org, c@d", "a@b.org, c@d"),
    ],
)
def test_secrets_are_masked(text, masked):
    assert truncate(text) == masked


def test_a_long_secret_is_masked_completely():
    assert "s" * 10 not in safe_repr("token=" + "s" * 1000 + " and more")


def test_safe_repr_of_huge_integers_and_deep_lists():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert safe_repr(10**5000) == "a number of thousands of digits"
    assert safe_repr(deep) == "[[[...]]]"


def test_raise_all_joins_problems_and_appends_the_hint_once():
    raise_all([], "unused")
    with pytest.raises(UserError, match=r"^a: broken; b: broken: replace them$"):
        raise_all((f"{name}: broken" for name in "ab"), "replace them")


def test_a_message_names_the_first_problems_and_the_number_of_the_others():
    with pytest.raises(UserError) as caught:
        raise_all((f"person/{number:04}.jpg: broken" for number in range(10_000)), "replace them")
    message = str(caught.value)
    assert message.startswith("person/0000.jpg: broken; person/0001.jpg: broken; ") and len(message) < 1000
    assert message.endswith(f"; person/0019.jpg: broken and {10_000 - MAX_LISTED} more: replace them")


@given(st.lists(st.text("ab", min_size=1)), st.integers(1, 9))
def test_join_first_counts_every_item_once(items, limit):
    text = join_first(items, "; ", limit)
    shown, _, more = text.partition(" and ")
    assert [item for item in shown.split("; ") if item] == items[:limit]
    assert int(more.removesuffix(" more") or 0) == len(items) - len(items[:limit])


def test_the_error_of_a_data_loading_worker_loses_its_class_name():
    """torch sends it as a new error of the class, with the worker's traceback as message."""
    sent = UserError(
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        f'  File "x.py", line 1\n{UserError.__module__}.{UserError.__name__}: x.png: damaged: replace it\n'
    )
    assert "psfr.utils.errors.UserError: x.png" in str(sent)
    with pytest.raises(SystemExit) as end:
        run_main(raising(sent))
    assert end.value.code == "error: x.png: damaged: replace it"


def raising(error: BaseException):
    def main():
        try:
            raise ValueError("the cause")
        except ValueError:
            raise error from None

    return main


@pytest.mark.parametrize(
    "error",
    [
        UserError("x.png: damaged: replace it"),
        OSError(28, "No space left", "x.png"),
        MemoryError(),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("debug", [None, "", "0", "1"])
def test_psfr_debug_shows_the_traceback_and_the_hidden_cause(monkeypatch, capsys, error, debug):
    if debug is None:
        monkeypatch.delenv("PSFR_DEBUG", raising=False)
    else:
        monkeypatch.setenv("PSFR_DEBUG", debug)
    with pytest.raises(SystemExit) as end:
        run_main(raising(error))
    assert end.value.code in ("error: x.png: damaged: replace it", "error: x.png: No space left on device", 130) or (
        "out of memory" in end.value.code
    )
    printed = capsys.readouterr().err
    for text in ("Traceback (most recent call last)", "ValueError: the cause"):
        assert (text in printed) == (debug == "1")


@pytest.mark.process
def test_psfr_debug_of_a_program(tmp_path, monkeypatch):
    """The traceback goes to stderr before the one line, and the exit status stays the same."""
    program = "from psfr.utils.errors import run_main; from psfr.params import read_params; run_main(read_params)"
    found = {}
    for debug in ("0", "1"):
        monkeypatch.setenv("PSFR_DEBUG", debug)
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1 and done.stdout == ""
        found[debug] = done.stderr
    line = "error: params.yaml: no such file: copy one of params/*.yaml to it\n"
    assert found["0"] == line
    assert found["1"].startswith("Traceback (most recent call last)") and found["1"].endswith(line)
    assert "strict_yaml.py" in found["1"]
