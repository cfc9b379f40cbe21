"""A TCP proxy between agents and the server that does to connections what networks do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self

from sparekey.runtime.startup import Address

_CHUNK = 16 * 1024


class Connection:
    """One proxied connection, and what is wrong with it now.

    Attributes:
        delay: Seconds by which each piece is late.
        rate: Bytes a second that get through; None for all.
        deaf_server: What the client sends is lost.
        deaf_client: What the server sends is lost.
        harmed: How many pieces were lost, late or starved by what is wrong with it.
        watch: Called with each piece that the client sends.
    """

    def __init__(self, client: asyncio.StreamWriter, *, bytes_left: int | None) -> None:
        self.delay = 0.0
        self.rate: float | None = None
        self.deaf_server = False
        self.deaf_client = False
        self.harmed = 0
        self.watch: Callable[[bytes], None] | None = None
        self._outlives_client = False
        # The connection is reset once so many bytes went through; None for never.
        self._bytes_left = bytes_left
        self._ends = [client]
        self._tasks: list[asyncio.Task[None]] = []

    def cut(self) -> None:
        """Reset it on both sides, with no farewell."""
        for end in self._ends:
            end.transport.abort()
        for task in self._tasks:
            task.cancel()

    def cut_client(self) -> None:
        """Reset it towards the client alone; what that has sent still comes to the server."""
        self._outlives_client = self.deaf_client = True
        self._ends[0].transport.abort()

    async def carry(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Carry bytes both ways until either side ends or the connection is cut."""
        self._ends.append(server[1])
        self._tasks = [
            asyncio.create_task(self._pump(client[0], server[1], to_server=True)),
            asyncio.create_task(self._pump(server[0], client[1], to_server=False)),
        ]
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        # What is late is under way, and holds up nothing that comes behind it.
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        writing = asyncio.create_task(self._deliver(under_way, writer))
        try:
            with contextlib.suppress(OSError):  # reset by the other side
                while data := await reader.read(_CHUNK):
                    if to_server and self.watch:
                        self.watch(data)
                    lost = self.deaf_server if to_server else self.deaf_client
                    self.harmed += bool(lost or self.delay or self.rate)
                    if not lost:
                        under_way.put_nowait((loop.time() + self.delay, data))
            if to_server and self._outlives_client:
                self.harmed += under_way.qsize()
                await under_way.join()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _deliver(
        self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)
            if self._bytes_left is not None:
                self._bytes_left -= len(data)
                if self._bytes_left < 0:
                    self.cut()
                    return
            writer.write(data)
            with contextlib.suppress(OSError):
                await writer.drain()
            under_way.task_done()


class Proxy:
    """Listens on loopback and carries to `target`, which may change from one run to the next."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.connections: set[Connection] = set()
        # The next connections to come are reset after so many bytes.
        self.short_lives: list[int] = []
        self.refuses = False
        self.watch: Callable[[bytes], None] | None = None
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=4096)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in tuple(self.connections):
            connection.cut()
        await asyncio.gather(*self._serving, return_exceptions=True)

    @property
    def address(self) -> Address:
        """Where clients connect."""
        assert self._server is not None
        return Address("127.0.0.1", self._server.sockets[0].getsockname()[1])

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lives = self.short_lives
        connection = Connection(writer, bytes_left=lives.pop() if lives else None)
        connection.watch = self.watch
        if self.refuses:
            connection.cut()
            return
        self.connections.add(connection)
        try:
            server = await asyncio.open_connection(self.target.host, self.target.port)
            await connection.carry((reader, writer), server)
        except OSError:
            connection.cut()  # the server is down
        finally:
            self.connections.discard(connection)
