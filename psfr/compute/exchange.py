"""Exchange of small tensors between the processes of one machine.

A call of gloo hands the tensor from thread to thread, each of which has to wake up: 0.6 to 1.2 ms on two virtual cores,
and a training step of the parsing network makes 48. Here the calling threads send and receive through Unix sockets, and
poll before they wait: 0.01 ms.
"""

import os
import select
import socket
import tempfile
import time

from torch import Tensor, distributed

POLL_SECONDS = 2e-4  # before the thread sleeps; longer would take the core from other programs
MAX_BYTES = 4096  # sending never waits: two tensors of this size fit into the buffer of a socket, 8 KiB on macOS

_exchange: "SocketExchange | None" = None


class SocketExchange:
    """Connections between all processes of the process group, which must be on one machine."""

    def __init__(self) -> None:
        self.rank, self.world_size = distributed.get_rank(), distributed.get_world_size()
        self.peers: dict[int, socket.socket] = {}
        # Not in TMPDIR: the path of a socket has at most 103 characters.
        with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.join(folder, "socket"))
            server.listen(self.world_size)
            addresses: list[str] = [""] * self.world_size
            distributed.all_gather_object(addresses, server.getsockname())
            for other in range(self.rank):
                self.peers[other] = socket.socket(socket.AF_UNIX)
                self.peers[other].connect(addresses[other])
                self.peers[other].sendall(bytes([self.rank]))
            while len(self.peers) < self.world_size - 1:
                peer, _ = server.accept()
                self.peers[peer.recv(1)[0]] = peer
        for peer in self.peers.values():
            peer.setblocking(False)

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, each of at most `MAX_BYTES`; see the function `all_gather`."""
        gathered = tensor.new_empty(self.world_size, *tensor.shape)
        gathered[self.rank] = tensor
        rows = [memoryview(row).cast("B") for row in gathered.numpy()]
        for peer in self.peers.values():
            peer.sendall(rows[self.rank])
        for rank, peer in self.peers.items():
            _receive(peer, rows[rank])
        return gathered


def _receive(peer: socket.socket, buffer: memoryview) -> None:
    """Fill the buffer from a socket that does not block."""
    start = time.perf_counter()
    while buffer:
        try:
            received = peer.recv_into(buffer)
        except BlockingIOError:
            if time.perf_counter() - start > POLL_SECONDS:
                select.select([peer], [], [])
            continue
        if not received:
            raise RuntimeError("another process has closed its connection")
        buffer = buffer[received:]


def connect() -> None:
    """Let `all_gather` use sockets from now on, if the processes of the process group are on the CPU of one machine.

    All of them call this.
    """
    global _exchange
    is_local = int(os.environ.get("LOCAL_WORLD_SIZE", 0)) == distributed.get_world_size()
    uses_sockets = is_local and distributed.get_backend() == "gloo" and hasattr(socket, "AF_UNIX")
    _exchange = SocketExchange() if uses_sockets else None


def all_gather(tensor: Tensor) -> Tensor:
    """Return the tensors of all processes of the process group, (world_size, ...), ordered by rank.

    Args:
        tensor: of the same shape and dtype in all processes. Tensors of more than `MAX_BYTES` take longer.

    Raises:
        RuntimeError: another process has ended.
    """
    if _exchange and tensor.nbytes <= MAX_BYTES:
        return _exchange.all_gather(tensor)
    gathered = tensor.new_empty(distributed.get_world_size(), *tensor.shape)
    distributed.all_gather_single(gathered.flatten(), tensor.flatten())
    return gathered
