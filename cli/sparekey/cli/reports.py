"""`sparekey usage`, `forecast`, `plan` and `explain`: what is, what comes, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from sparekey.cli.connection import PAGE_SIZE
from sparekey.cli.options import ClusterFilter, SvmId, read_span
from sparekey.cli.report_tables import (
    forecast_view,
    holder_table,
    plan_commands,
    plan_view,
    story_view,
    usage_table,
)
from sparekey.cli.session import Session, session_of
from sparekey.cli.supposing import WhatIfs, read_what_ifs
from sparekey.v1 import report_pb2
from sparekey.wire.timestamps import to_duration

Horizon = Annotated[
    str, typer.Option("--horizon", metavar="SPAN", help="How far to look, 1m to 3660d.")
]
Holders = Annotated[
    str,
    typer.Option(
        "--holders",
        metavar="SERIAL",
        help="List the SVMs that hold this key instead.",
        show_default=False,
    ),
]


def usage(context: typer.Context, holders: Holders = "") -> None:
    """Show how much of each key is used, by expiry."""
    session = session_of(context)
    connection = session.connection
    if holders:
        session.show_all(
            connection.pages(
                connection.reports.ListKeyHolders,
                lambda token: report_pb2.ListKeyHoldersRequest(
                    key_serial=holders, page_size=PAGE_SIZE, page_token=token
                ),
                lambda response: response.holders,
            ),
            holder_table,
            empty=f"no SVM holds the key {holders}",
        )
        return
    session.show_all(
        connection.pages(
            connection.reports.GetKeyUsage,
            lambda token: report_pb2.GetKeyUsageRequest(page_size=PAGE_SIZE, page_token=token),
            lambda response: response.keys,
        ),
        lambda rows: usage_table(rows, connection.now()),
        empty="there is no key; add one with: sparekey keys add FILE",
    )


def forecast(
    context: typer.Context,
    horizon: Horizon = "90d",
    cluster: ClusterFilter = "",
    what_if: WhatIfs = [],  # noqa: B006 - typer copies it
) -> None:
    """Tell which guests will be without a usable key, when and why.

    Nothing is changed, also not by what is supposed.

    Examples:
      sparekey forecast --horizon 180d
      sparekey forecast --what-if block:4A3F-00B2C1-9D8E7F66
      sparekey forecast --what-if add:svm-1:40-desktops@30d
    """
    session = session_of(context)
    request = report_pb2.ForecastCoverageRequest(**_question(session, horizon, cluster, what_if))
    found = report_pb2.ForecastCoverageResponse()
    _gather(session, session.connection.reports.ForecastCoverage, request, found)
    session.show(found, lambda: forecast_view(found.summary, found.gaps))


def plan(
    context: typer.Context,
    horizon: Horizon = "90d",
    cluster: ClusterFilter = "",
    what_if: WhatIfs = [],  # noqa: B006 - typer copies it
) -> None:
    """Plan the fewest keys that close every gap, and print the commands for it.

    Keys of the storage with units to spare come first. Nothing is changed:
    look at the commands, then run them.

    Examples:
      sparekey plan --horizon 365d
      sparekey plan --cluster east --what-if end:4A3F-00B2C1-9D8E7F66@2030-01-31
    """
    session = session_of(context)
    request = report_pb2.PlanRenewalRequest(**_question(session, horizon, cluster, what_if))
    found = report_pb2.PlanRenewalResponse()
    _gather(session, session.connection.reports.PlanRenewal, request, found)
    session.show(found, lambda: plan_view(found.summary))
    if not session.as_json and found.tasks:
        session.write("")
        for line in plan_commands(found.summary, found.tasks):
            session.write(line)


def explain(context: typer.Context, svm_id: SvmId) -> None:
    """Tell why an SVM is as it is: how it stands, what led there, what comes."""
    session = session_of(context)
    request = report_pb2.ExplainSvmRequest(svm_id=svm_id)
    told = session.connection.call(session.connection.reports.ExplainSvm, request)
    session.show(told, lambda: story_view(told))


def _question(session: Session, horizon: str, cluster: str, what_if: list[str]) -> dict[str, Any]:
    span = read_span(horizon, "--horizon")
    changes = read_what_ifs(what_if, session.connection.now()) if what_if else []
    return {"horizon": to_duration(span), "cluster": cluster, "what_if": changes}


def _gather(session: Session, method: Callable[..., Any], request: object, found: Any) -> None:
    """Merge all messages of an answer into one."""
    for message in method(request, timeout=session.connection.timeout.total_seconds()):
        found.MergeFrom(message)
