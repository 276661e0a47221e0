"""Loopback addresses for pods: each LC instance listens on an address of its own, as pods of a real cluster do.

A hash of the node's cluster and name gives its block in 127.2.0.0 to 127.254.255.255. Nobody owns these addresses: another
stack on the machine may use one with the same port. So binding decides, and the next address is tried where it fails.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import socket
from collections.abc import Callable, Iterator, Sequence

from tango.domain.identity import NodeKey

TRIES = 1000
"""Addresses that are tried for a pod: almost four blocks of 254. Chosen, not measured."""


class PodAddresses:
    """Implements `node_pool.Addresses`; gives no address to two pods of this process."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    async def listen(
        self, connection: Callable[[], asyncio.Protocol], *, node: NodeKey, port: int, preferred: str = ""
    ) -> tuple[asyncio.Server, str]:
        """Listen on a free address of the node, the preferred one if it is free; return the server and the address.

        Raises: OSError if the port is taken on every address, as when something listens on 0.0.0.0, or may not be used.
        """
        loop = asyncio.get_running_loop()
        for address in candidates(node, preferred):
            if address in self._taken:
                continue
            try:
                server = await loop.create_server(connection, address, port, backlog=512)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            self._taken.add(address)
            return server, address
        raise OSError(
            errno.EADDRINUSE, f"port {port} is taken on {TRIES} loopback addresses; does something listen on 0.0.0.0:{port}?"
        )

    def reserve(self, *, node: NodeKey, ports: Sequence[int], preferred: str = "") -> str:
        """An address of the node on which these ports are free now, for a process that listens there by itself.

        Raises: OSError as `listen`.
        """
        for address in candidates(node, preferred):
            if address not in self._taken and all(_is_free(address, port) for port in ports):
                self._taken.add(address)
                return address
        told = ", ".join(map(str, ports))
        raise OSError(errno.EADDRINUSE, f"port {told} is taken on {TRIES} loopback addresses; does something listen on 0.0.0.0?")

    def give_back(self, address: str) -> None:
        """Free an address for other pods."""
        self._taken.discard(address)


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
    return True


def candidates(node: NodeKey, preferred: str = "") -> Iterator[str]:
    """Addresses to try, in this order: the preferred one, those of the node's block, those of the following blocks.

    127.0.x.x and 127.1.x.x are left to other programs.
    """
    if preferred.startswith("127.") and not preferred.startswith(("127.0.", "127.1.")):
        yield preferred
    digest = hashlib.blake2b(str(node).encode(), digest_size=4).digest()
    block = int.from_bytes(digest) % (253 * 256)
    for k in range(TRIES):
        at, host = (block + k // 254) % (253 * 256), k % 254
        yield f"127.{2 + at // 256}.{at % 256}.{host + 1}"
