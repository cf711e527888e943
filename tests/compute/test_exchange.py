"""Receiving from another process; test_processes.py exchanges tensors between processes."""

import socket
import threading
import time

import pytest

from psfr.compute import exchange


@pytest.fixture
def connection():
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_parts_that_come_late_are_put_together(connection):
    ours, theirs = connection

    def send() -> None:
        for part in (b"ab", b"cde", b"f"):
            time.sleep(5 * exchange.POLL_SECONDS)
            theirs.sendall(part)

    sender = threading.Thread(target=send)
    sender.start()
    buffer = bytearray(6)
    exchange._receive(ours, memoryview(buffer))
    sender.join()
    assert buffer == b"abcdef"


def test_what_follows_is_left_for_the_next_call(connection):
    ours, theirs = connection
    theirs.sendall(b"firstsecond")
    for expected in (b"first", b"second"):
        buffer = bytearray(len(expected))
        exchange._receive(ours, memoryview(buffer))
        assert buffer == expected


def test_the_end_of_another_process_is_an_error(connection):
    ours, theirs = connection
    theirs.sendall(b"ab")
    theirs.close()
    with pytest.raises(RuntimeError, match="another process has closed its connection"):
        exchange._receive(ours, memoryview(bytearray(6)))
