"""A load balancer for TCP on a local port, as K3s has one in front of API servers and one in front of etcd."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from . import balancer_state, log
from .kubeconfigs import put
from .node import host_and_port

CONNECT_SECONDS = 3.0
CHECK_SECONDS = 2.0
CHUNK = 65536


class Balancer:
    """A listener whose addresses come and go; all but ``start`` and ``update`` happens in a thread of its own."""

    def __init__(self, name: str, port: int, server_url: str, state: Path, *, alive: Callable[[str], bool], listener: bool) -> None:
        """Take up what the state file says.

        ``server_url`` is the configured server, the last resort. ``alive`` tells whether an address answers.
        """
        self.name, self.port, self.server_url = name, port, server_url
        self._alive = alive
        self.fallback = host_and_port(server_url)
        self.state = state
        self._listener = listener
        with contextlib.suppress(OSError):
            self.addresses = balancer_state.read(state.read_text(errors="replace"), server_url)
        if not hasattr(self, "addresses"):
            self.addresses = []
        self.seen = set(self.addresses)
        self._last = ""
        self._connections: dict[str, set[asyncio.StreamWriter]] = {}
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()

    def start(self) -> None:
        """Listen; the state file is written where it was missing or not worth reading."""
        if not self.addresses:
            self._write()
        log.info(f"Running load balancer {self.name} 127.0.0.1:{self.port} -> {self.addresses} [default: {self.fallback}]")
        threading.Thread(target=self._run, daemon=True, name=self.name).start()
        if not self._listening.wait(10):
            log.fatal(f"load balancer {self.name} cannot listen on 127.0.0.1:{self.port}")

    def update(self, found: Sequence[str]) -> None:
        """Take over what was found in the cluster, unless that is nothing or nothing new."""
        new = balancer_state.changed(self.addresses, found)
        if new is None:
            return
        for verb, addresses in (("Adding", set(new) - set(self.addresses)), ("Removing", set(self.addresses) - set(new))):
            for address in sorted(addresses):
                log.info(f"{verb} server {'to' if verb == 'Adding' else 'from'} load balancer {self.name}: {address}")
        self.addresses = new
        self.seen.update(new)
        self._write()
        self._loop.call_soon_threadsafe(self._close_removed)

    def _write(self) -> None:
        put(self.state, balancer_state.render(self.server_url, self.addresses or [self.fallback], listener=self._listener))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with contextlib.suppress(OSError):
            self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
            self._checks = self._loop.create_task(self._check())
            self._listening.set()
            self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join a client with the first server that takes the connection; the end of either side is the end of both."""
        upstream = await self._connect()
        if upstream is None:
            writer.close()
            return
        address, (there, back) = upstream
        self._connections.setdefault(address, set()).add(back)
        try:
            await asyncio.gather(copy(reader, back), copy(there, writer))
        finally:
            self._connections[address].discard(back)

    async def _connect(self) -> tuple[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]] | None:
        for address in balancer_state.candidates(self.addresses, self._last, self.fallback):
            connection = await dial(address)
            if connection is None:
                continue
            if address in self.addresses:
                self._last = address
                self._close_removed()
            return address, connection
        return None

    def _close_removed(self) -> None:
        """Send clients of servers that are no longer in the list, or were only the last resort, to one that is."""
        for address in set(self._connections) - set(self.addresses):
            self._close(address)

    def _close(self, address: str) -> None:
        connections = self._connections.get(address, set())
        if connections:
            log.info(f"Closing {len(connections)} connections to load balancer server {address}")
        for writer in list(connections):
            writer.transport.abort()

    async def _check(self) -> None:
        """Close connections to servers that no longer answer: a server without power does not say good-bye."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            in_use = {address for address, connections in self._connections.items() if connections}
            if self.fallback in in_use and self.fallback not in self.addresses:
                in_use.update(self.addresses)
            states = dict(
                zip(
                    in_use,
                    await asyncio.gather(*(self._loop.run_in_executor(None, self._alive, address) for address in in_use)),
                    strict=True,
                )
            )
            for address, well in states.items():
                if not well:
                    self._close(address)
            if any(states.get(address) for address in self.addresses):
                self._close_removed()


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Return a connection, or None where nobody takes it in time."""
    host, _, port = address.rpartition(":")
    try:
        return await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(port)), CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError):
        return None


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until the sender is done."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
