"""ReportService: usage, forecasts, plans and explanations over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from sparekey.licensing.forecast import SvmGap
from sparekey.runtime.clock import Clock
from sparekey.server.reports.explaining import explain_svm
from sparekey.server.reports.gathering import Question, answer_forecast, answer_plan, answer_usage
from sparekey.server.reports.holders import answer_holders
from sparekey.server.reports.messages import (
    forecast_summary,
    gap_message,
    plan_summary,
    planned_tasks,
    read_question,
    sentence_message,
    usage_message,
)
from sparekey.server.services.calls import PageTokens, page_size
from sparekey.server.store.reader import Connection, Reader
from sparekey.v1 import report_pb2
from sparekey.wire.edge import Call

_GAPS_A_MESSAGE = 1000


class ReportServicer:
    """Serves `sparekey.v1.ReportService`."""

    def __init__(self, reader: Reader, clock: Clock, tokens: PageTokens) -> None:
        self._reader = reader
        self._clock = clock
        self._tokens = tokens

    async def get_key_usage(
        self, request: report_pb2.GetKeyUsageRequest, call: Call
    ) -> report_pb2.GetKeyUsageResponse:
        """Say how much of each key is used."""
        position = self._tokens.read(call.method, (), request.page_token)
        now = self._clock.now()
        rows, keys, known = await self._reader.read(answer_usage, now)
        start = 0
        if position is not None:
            start = next(
                (number for number, row in enumerate(rows, 1) if row.key.serial == position[0]),
                len(rows),
            )
        size = page_size(request.page_size)
        page, token = self._tokens.cut(
            call.method, (), rows[start:], size, lambda row: (row.key.serial,)
        )
        return report_pb2.GetKeyUsageResponse(
            keys=[
                usage_message(row, keys[row.key.serial], known.get(row.key.serial), now)
                for row in page
            ],
            next_page_token=token,
        )

    async def list_key_holders(
        self, request: report_pb2.ListKeyHoldersRequest, call: Call
    ) -> report_pb2.ListKeyHoldersResponse:
        """List the SVMs that hold a key."""
        filters = (request.key_serial,)
        position = self._tokens.read(call.method, filters, request.page_token)
        size = page_size(request.page_size)
        after = position[0] if position else ""
        rows = await self._reader.read(answer_holders, request.key_serial, after, size + 1)
        holders, token = self._tokens.cut(
            call.method, filters, rows, size, lambda row: (row.svm_id,)
        )
        return report_pb2.ListKeyHoldersResponse(holders=holders, next_page_token=token)

    async def forecast_coverage(
        self, request: report_pb2.ForecastCoverageRequest, call: Call
    ) -> AsyncIterator[report_pb2.ForecastCoverageResponse]:
        """Tell every gap in the coverage up to a horizon."""
        question = read_question(request, self._clock.now())
        summary, gaps = await self._reader.read(_forecast, question)
        yield report_pb2.ForecastCoverageResponse(summary=summary)
        for start in range(0, len(gaps), _GAPS_A_MESSAGE):
            part = gaps[start : start + _GAPS_A_MESSAGE]
            yield report_pb2.ForecastCoverageResponse(gaps=[gap_message(gap) for gap in part])

    async def plan_renewal(
        self, request: report_pb2.PlanRenewalRequest, call: Call
    ) -> AsyncIterator[report_pb2.PlanRenewalResponse]:
        """Plan the smallest set of keys that closes every gap up to a horizon."""
        question = read_question(request, self._clock.now())
        plan, svms = await self._reader.read(answer_plan, question)
        yield report_pb2.PlanRenewalResponse(summary=plan_summary(plan, svms))
        for task in planned_tasks(plan):
            yield report_pb2.PlanRenewalResponse(tasks=[task])

    async def explain_svm(
        self, request: report_pb2.ExplainSvmRequest, call: Call
    ) -> report_pb2.ExplainSvmResponse:
        """Tell in sentences what led to an SVM's present state."""
        found = await self._reader.read(explain_svm, request.svm_id, self._clock.now())
        return report_pb2.ExplainSvmResponse(
            svm_id=request.svm_id,
            present=[sentence_message(one) for one in found.present],
            story=[sentence_message(one) for one in found.story],
            outlook=[sentence_message(one) for one in found.outlook],
            shortened=found.shortened,
        )


def _forecast(
    connection: Connection, question: Question
) -> tuple[report_pb2.ForecastSummary, Sequence[SvmGap]]:
    found = answer_forecast(connection, question)
    return forecast_summary(found), found.gaps
