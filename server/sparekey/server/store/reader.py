"""Reads: each sees one consistent state and never waits for the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection as Connection
from sqlalchemy import Engine

_P = ParamSpec("_P")
_T = TypeVar("_T")

_THREADS = 4


class Reader:
    """Runs read functions on a few threads beside the event loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="sparekey-reader")

    async def read(
        self,
        function: Callable[Concatenate[Connection, _P], _T],
        *arguments: _P.args,
        **options: _P.kwargs,
    ) -> _T:
        """The function's answer, given a connection and the arguments."""

        def run() -> _T:
            with self._engine.connect() as connection:
                return function(connection, *arguments, **options)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    def stop(self) -> None:
        """Let the reads that run end, and start no more."""
        self._threads.shutdown(wait=True)
