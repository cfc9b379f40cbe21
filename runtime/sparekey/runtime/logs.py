"""Structured logs on standard error, from which secrets are taken out (R79)."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping
from io import TextIOBase
from typing import Any, TextIO, cast

import structlog

# Not bounded by what is around it: in a repr a code can follow the n of "\n".
_CODE = re.compile(r"(?:[A-Za-z0-9]{5}-){3,}([A-Za-z0-9]{5})")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL
)
_TOKEN = re.compile(r"(sparekey-(?:token|join)-)[A-Za-z0-9_-]{8,}")


def redact_text(text: str) -> str:
    """The text with activation codes cut to their last five characters; tokens and keys gone."""
    text = _TOKEN.sub(r"\1*****", text)
    text = _CODE.sub(r"*****-*****-*****-\1", text)
    return _PRIVATE_KEY.sub("[private key]", text)


def _redact(value: Any) -> Any:
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return redact_text(value)
        case bytes() | bytearray():
            return redact_text(value.decode("utf-8", "replace"))
        case dict():
            return {_redact(key): _redact(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_redact(item) for item in value]
        case _:
            # The renderer would show its repr, and a message's repr shows its fields.
            shown = repr(value)
            redacted = redact_text(shown)
            return value if redacted == shown else redacted


def redact_event(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Take secrets out of one log event; the last processor before rendering."""
    return {_redact(key): _redact(value) for key, value in event.items()}


def configure_logs(program: str, *, level: str = "info", as_json: bool = False) -> None:
    """Send this process's logs to standard error, for people or as JSON lines.

    Libraries' logs, from warnings on, take the same way and lose the same secrets.

    Args:
        program: The program's name, part of every line.
        level: debug, info, warning or error.
        as_json: One JSON object a line instead of text.
    """
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    describing: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Any] = [structlog.processors.format_exc_info, redact_event, renderer]
    least = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*describing, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unbreakable(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(program=program)
    _redirect_libraries(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *describing],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        ),
        max(least, logging.WARNING),
    )


class _Unbreakable(TextIOBase):
    """Writes where it can: a log that is full must not end the work that it is about."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


class _LibraryHandler(logging.StreamHandler[Any]):
    """Ours among the root logger's handlers, so that a second configuration replaces it."""


def _redirect_libraries(formatter: logging.Formatter, least: int) -> None:
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _LibraryHandler):
            root.removeHandler(handler)
    handler = _LibraryHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.setLevel(least)
    root.addHandler(handler)
