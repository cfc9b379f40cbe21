"""The way to the server: one channel, the stubs on it, and calls that end in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

import grpc

from sparekey.cli.credentials import NO_CREDENTIALS, Credentials
from sparekey.runtime.startup import Address
from sparekey.testing.v1 import clock_pb2, clock_pb2_grpc
from sparekey.v1 import (
    access_pb2_grpc,
    event_pb2_grpc,
    fleet_pb2_grpc,
    key_pb2_grpc,
    license_pb2_grpc,
    report_pb2_grpc,
)
from sparekey.wire.serving import CHANNEL_OPTIONS
from sparekey.wire.timestamps import from_timestamp

PAGE_SIZE = 500
"""How much is asked for at a time."""

_OPTIONS = (
    *CHANNEL_OPTIONS,
    # A dry run answers with up to 10000 outcomes at once.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A proxy of the environment is for the web, not for this machine.
    ("grpc.enable_http_proxy", 0),
)
_Response = TypeVar("_Response")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Connection:
    """A connection to one server, made at its first use.

    Every call that is answered once ends after `timeout`; calls that follow
    something do not end by themselves. All raise grpc.RpcError.
    """

    address: Address
    timeout: timedelta
    credentials: Credentials = NO_CREDENTIALS

    @cached_property
    def channel(self) -> grpc.Channel:
        """The channel; where it is not encrypted, it leads to this machine only."""
        return self.credentials.open_channel(self.address, _OPTIONS)

    @cached_property
    def access(self) -> Any:
        """Tokens, certificates and bans."""
        return access_pb2_grpc.AccessServiceStub(self.channel)

    @cached_property
    def keys(self) -> Any:
        """The key storage."""
        return key_pb2_grpc.KeyServiceStub(self.channel)

    @cached_property
    def licenses(self) -> Any:
        """Activation tasks."""
        return license_pb2_grpc.LicenseServiceStub(self.channel)

    @cached_property
    def fleet(self) -> Any:
        """The SVMs."""
        return fleet_pb2_grpc.FleetServiceStub(self.channel)

    @cached_property
    def events(self) -> Any:
        """The history."""
        return event_pb2_grpc.EventServiceStub(self.channel)

    @cached_property
    def reports(self) -> Any:
        """Usage, forecasts, plans and explanations."""
        return report_pb2_grpc.ReportServiceStub(self.channel)

    @cached_property
    def clock(self) -> Any:
        """The test clock."""
        return clock_pb2_grpc.ClockServiceStub(self.channel)

    def call(self, method: Callable[..., _Response], request: object) -> _Response:
        """One call that is answered once."""
        return method(request, timeout=self.timeout.total_seconds())

    def pages(
        self,
        method: Callable[..., Any],
        make_request: Callable[[str], object],
        items: Callable[[Any], Iterable[_Item]],
    ) -> Iterator[_Item]:
        """The items of every page of a list.

        Args:
            method: The list's RPC.
            make_request: The request for the page of a token.
            items: The items of an answer.
        """
        token = ""
        seen = {token}
        while True:
            response = self.call(method, make_request(token))
            yield from items(response)
            token = response.next_page_token
            if token in seen:
                return
            seen.add(token)

    def now(self) -> datetime:
        """The server's time where it has a test clock, else this machine's.

        Only for showing how far instants are off, so a failure is no error.
        """
        try:
            response = self.call(self.clock.GetClock, clock_pb2.GetClockRequest())
            return from_timestamp(response.time)
        except grpc.RpcError:
            return datetime.now(UTC)

    def close(self) -> None:
        """Close the channel if there is one."""
        if "channel" in self.__dict__:
            self.channel.close()
