"""A real agent whose clock is changed: its keys lose their effect and get it back (R54, R82)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sparekey.runtime.clock import SettableClock
from sparekey.testing.fleet.simulated import SimulatedFleet, make_svm
from sparekey.v1 import event_pb2, fleet_pb2, fleet_pb2_grpc, license_pb2, report_pb2_grpc
from sparekey.v1.report_pb2 import GAP_REASON_KEY_VOID, ForecastCoverageRequest, PlanRenewalRequest

from .site import TRUSTED, Site, make_key, until

VOIDED = event_pb2.EVENT_KIND_KEYS_VOIDED
KEY = make_key(1, timedelta(days=200))


async def test_R54_R82_an_agents_clock_that_jumps_voids_its_keys_until_it_is_set_up_anew(
    site: Site,
) -> None:
    fleet_service: fleet_pb2_grpc.FleetServiceAsyncStub
    fleet_service = fleet_pb2_grpc.FleetServiceStub(site.channel)
    reports: report_pb2_grpc.ReportServiceAsyncStub
    reports = report_pb2_grpc.ReportServiceStub(site.channel)
    clock = SettableClock(datetime.now(UTC))
    svm = make_svm("svm-1", servers=3)

    async def shown() -> fleet_pb2.Svm:
        return (await fleet_service.GetSvm(fleet_pb2.GetSvmRequest(svm_id="svm-1"))).svm

    async def activated() -> None:
        task = await site.activate(KEY, "svm-1")
        async for seen in site.licenses.WatchTask(
            license_pb2.WatchTaskRequest(task_id=task.task_id)
        ):
            task = seen.task
        assert task.state == license_pb2.TASK_STATE_SUCCEEDED

    await site.add(KEY)
    async with SimulatedFleet(site.server.address, TRUSTED, make_clock=lambda: clock) as fleet:
        await fleet.start([svm])
        await until(lambda: svm.running_agent.keeper.accepted_sequence > 0)
        await activated()
        clock.advance(timedelta(hours=23))
        await site.event_of(event_pb2.EVENT_KIND_CLOCK_SKEW, svm_id="svm-1")
        assert await site.events(VOIDED) == []

        # While the SVM is away: the server notices by what was noted before.
        await fleet.stop([svm])
        clock.advance(timedelta(hours=25))
        await fleet.start([svm])
        await site.event_of(VOIDED, svm_id="svm-1", severity=event_pb2.SEVERITY_CRITICAL)
        assert (await shown()).mode == fleet_pb2.PROTECTION_MODE_LIMITED
        assert (await shown()).status_reasons[0] == fleet_pb2.SVM_STATUS_REASON_KEY_VOID
        gaps = [
            gap
            async for one in reports.ForecastCoverage(ForecastCoverageRequest())
            for gap in one.gaps
        ]
        assert [(gap.reason, gap.guest_count) for gap in gaps] == [(GAP_REASON_KEY_VOID, 3)]
        (plan,) = [one.summary async for one in reports.PlanRenewal(PlanRenewalRequest())]
        assert (list(plan.keys), list(plan.void_svm_ids)) == ([], ["svm-1"])

        await fleet.stop([svm])
        clock.set(datetime.now(UTC))
        await fleet_service.ForgetSvm(fleet_pb2.ForgetSvmRequest(svm_id="svm-1"))
        await fleet.start([svm])
        await site.event_of(event_pb2.EVENT_KIND_KEYRING_RESYNCED, svm_id="svm-1")
        assert fleet_pb2.SVM_STATUS_REASON_KEY_VOID in (await shown()).status_reasons
        await activated()
        await site.event_of(event_pb2.EVENT_KIND_KEYS_REINSTATED, svm_id="svm-1")
        assert (await shown()).mode == fleet_pb2.PROTECTION_MODE_FULL
        assert len(await site.events(VOIDED)) == 1
