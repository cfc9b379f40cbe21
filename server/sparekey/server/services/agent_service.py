"""AgentService: the agents' streams."""

from __future__ import annotations

from sparekey.server.link.agent_link import AgentLink
from sparekey.wire.edge import Call, Stream


class AgentServicer:
    """Serves `sparekey.v1.AgentService`."""

    def __init__(self, link: AgentLink) -> None:
        self._link = link

    async def connect(self, stream: Stream, call: Call) -> None:
        """Serve one agent's stream."""
        await self._link.serve(stream, call.caller)
