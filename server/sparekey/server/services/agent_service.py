"""AgentService: the agents' streams."""

from __future__ import annotations

from collections.abc import Awaitable

from sparekey.server.link.agent_link import AgentLink
from sparekey.wire.edge import Call, Stream


class AgentServicer:
    """Serves `sparekey.v1.AgentService`."""

    def __init__(self, link: AgentLink) -> None:
        self._link = link

    def connect(self, stream: Stream, call: Call) -> Awaitable[None]:
        """Serve one agent's stream."""
        return self._link.serve(stream, call.caller)
