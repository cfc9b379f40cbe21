"""Listens for faults that no caller is told of: in logs, and in tasks that nobody awaits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog


@contextmanager
def faults_told() -> Iterator[list[str]]:
    """Collects, while it is open, every error that was logged or that the loop met.

    Everything below an error is thrown away; the configuration of logs is put back at the end.
    """
    told: list[str] = []
    before = structlog.get_config()

    def listen(_logger: Any, level: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        if level in ("error", "critical", "exception"):
            told.append(f"{event}")
        raise structlog.DropEvent

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    structlog.configure(
        processors=[structlog.processors.format_exc_info, listen],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        cache_logger_on_first_use=False,
    )
    handler = Handler(logging.ERROR)
    logging.getLogger().addHandler(handler)
    loop = asyncio.get_running_loop()
    handled = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: told.append(f"{context}"))
    try:
        yield told
    finally:
        loop.set_exception_handler(handled)
        logging.getLogger().removeHandler(handler)
        structlog.configure(**before)
