"""What a message quotes from outside: one short line, without secrets."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psfr.utils.errors import quoted, shortened

ANYTHING = st.recursive(
    st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none(), st.dates()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(ANYTHING)
def test_any_value_is_quoted_in_one_line(value):
    assert quoted(value).isprintable() and len(quoted(value)) < 1000


@given(st.text(), st.integers(1, 50))
def test_any_text_is_shortened_to_one_line(text, length):
    assert shortened(text, length).isprintable() and len(shortened(text, length)) <= length + 3


@pytest.mark.parametrize(
    "text", ["x" * 10**7, " " * 10**7, "key=" * 10**6, "://" * 10**6, "@" * 10**7, "://" + "a" * 10**7]
)
def test_long_texts_take_no_time(text):
    start = time.perf_counter()
    shortened(text)
    quoted(text)
    assert time.perf_counter() - start < 1


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
    assert shortened(text) == masked


def test_a_long_secret_is_masked_whole():
    assert "s" * 10 not in quoted("token=" + "s" * 1000 + " and more")


def test_huge_integers_and_deep_lists_are_quoted():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert quoted(10**5000) == "a number of thousands of digits"
    assert quoted(deep) == "[[[...]]]"
