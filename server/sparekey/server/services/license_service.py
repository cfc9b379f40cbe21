"""LicenseService: activation tasks over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from sparekey.licensing.keyring import Role
from sparekey.licensing.scopes import AllSvms, OneCluster, PickedSvms, Scope
from sparekey.runtime.clock import Clock
from sparekey.server.life.polling import KnownSubscription
from sparekey.server.services.calls import PageTokens, page_size, retry_of
from sparekey.server.store.commits import CommitFeed, Subscription
from sparekey.server.store.reader import Connection, Reader
from sparekey.server.store.requests import earlier_answer
from sparekey.server.store.tasks import (
    OutcomeRecord,
    TaskRecord,
    load_outcomes,
    load_tasks,
    page_of_outcomes,
    page_of_tasks,
)
from sparekey.server.store.writer import Writer
from sparekey.server.tasks.ending import CancelTask, cancel_tasks, task_not_found
from sparekey.server.tasks.messages import outcome_message, task_message
from sparekey.server.tasks.planning import TaskOrder, refuse_scope
from sparekey.server.tasks.rerunning import read_rerun
from sparekey.server.tasks.starting import MAX_INLINE_OUTCOMES, StartTask, dry_run, start_tasks
from sparekey.v1 import license_pb2
from sparekey.wire.edge import Call
from sparekey.wire.errors import CallRefused
from sparekey.wire.licensing_messages import OUTCOME_STATES_READ
from sparekey.wire.timestamps import from_duration

_DEFAULT_WAIT = timedelta(days=7)
_Request = license_pb2.ActivateRequest | license_pb2.RenewRequest
_Response = TypeVar("_Response", license_pb2.ActivateResponse, license_pb2.RenewResponse)


class LicenseServicer:
    """Serves `sparekey.v1.LicenseService`."""

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        clock: Clock,
        feed: CommitFeed,
        tokens: PageTokens,
        new_task_id: Callable[[], str],
        ask_subscription: Callable[[KnownSubscription], Awaitable[None]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._feed = feed
        self._tokens = tokens
        self._new_task_id = new_task_id
        self._ask_subscription = ask_subscription

    async def activate(
        self, request: license_pb2.ActivateRequest, call: Call
    ) -> license_pb2.ActivateResponse:
        """Start a task that gives SVMs an active key."""
        return await self._start(request, Role.ACTIVE, call, license_pb2.ActivateResponse)

    async def renew(
        self, request: license_pb2.RenewRequest, call: Call
    ) -> license_pb2.RenewResponse:
        """Start a task that gives SVMs a reserve key."""
        return await self._start(request, Role.RESERVE, call, license_pb2.RenewResponse)

    async def _start(
        self, request: _Request, role: Role, call: Call, response: type[_Response]
    ) -> _Response:
        order = TaskOrder(
            serial=request.key_serial,
            role=role,
            scope=_read_scope(request.scope),
            encoded_scope=request.scope.SerializeToString(),
            wait=from_duration(request.wait) if request.HasField("wait") else _DEFAULT_WAIT,
            actor=call.actor,
            task_id=self._new_task_id(),
            clusters=call.caller.clusters,
        )
        if request.validate_only:
            return response(task=await self._reader.read(dry_run, order, self._clock.now()))
        retry = retry_of(call, request.request_id)
        answer = await self._writer.write(start_tasks, StartTask(order, retry, response))
        assert isinstance(answer, response)
        return answer

    async def run_task(
        self, request: license_pb2.RunTaskRequest, call: Call
    ) -> license_pb2.RunTaskResponse:
        """Run a task again, with the renewed key where there is one."""
        retry = retry_of(call, request.request_id)
        earlier = await self._reader.read(earlier_answer, retry)
        if isinstance(earlier, CallRefused):
            raise earlier
        if earlier is not None:
            return license_pb2.RunTaskResponse.FromString(earlier)
        rerun = await self._reader.read(read_rerun, request.task_id)
        if rerun is None:
            raise task_not_found(request.task_id)
        order = TaskOrder(
            serial=rerun.serial,
            role=rerun.task.role,
            scope=_read_scope(license_pb2.Scope.FromString(rerun.task.scope)),
            encoded_scope=rerun.task.scope,
            wait=from_duration(request.wait) if request.HasField("wait") else _DEFAULT_WAIT,
            actor=call.actor,
            task_id=self._new_task_id(),
            clusters=call.caller.clusters,
            rerun_of=request.task_id,
            in_grace_too=True,
        )
        if rerun.subscription is not None and not request.validate_only:
            await self._reader.read(refuse_scope, order)
            await self._ask_subscription(rerun.subscription)
            rerun = await self._reader.read(read_rerun, request.task_id) or rerun
            order = replace(order, serial=rerun.serial)
        if request.validate_only:
            task = await self._reader.read(dry_run, order, self._clock.now())
            return license_pb2.RunTaskResponse(task=task)
        start = StartTask(order, retry, license_pb2.RunTaskResponse)
        answer = await self._writer.write(start_tasks, start)
        assert isinstance(answer, license_pb2.RunTaskResponse)
        return answer

    async def get_task(
        self, request: license_pb2.GetTaskRequest, call: Call
    ) -> license_pb2.GetTaskResponse:
        """Read a task with its first outcomes."""
        found = await self._reader.read(_read_task, request.task_id, "", MAX_INLINE_OUTCOMES)
        if found is None:
            raise task_not_found(request.task_id)
        return license_pb2.GetTaskResponse(task=task_message(*found))

    async def list_tasks(
        self, request: license_pb2.ListTasksRequest, call: Call
    ) -> license_pb2.ListTasksResponse:
        """List tasks, newest first."""
        position = self._tokens.read(call.method, (), request.page_token)
        size = page_size(request.page_size)
        before = position[0] if position else None
        rows = await self._reader.read(page_of_tasks, before, size + 1)
        page, token = self._tokens.cut(call.method, (), rows, size, lambda row: (row.number,))
        return license_pb2.ListTasksResponse(
            tasks=[task_message(task) for task in page], next_page_token=token
        )

    async def list_outcomes(
        self, request: license_pb2.ListOutcomesRequest, call: Call
    ) -> license_pb2.ListOutcomesResponse:
        """List a task's outcomes by SVM."""
        filters = (request.task_id, request.state)
        position = self._tokens.read(call.method, filters, request.page_token)
        size = page_size(request.page_size)
        state = OUTCOME_STATES_READ.get(request.state)
        after = position[0] if position else ""
        if not await self._reader.read(load_tasks, [request.task_id]):
            raise task_not_found(request.task_id)
        rows = await self._reader.read(page_of_outcomes, request.task_id, state, after, size + 1)
        page, token = self._tokens.cut(call.method, filters, rows, size, lambda row: (row.svm_id,))
        return license_pb2.ListOutcomesResponse(
            outcomes=[outcome_message(outcome) for outcome in page], next_page_token=token
        )

    async def watch_task(
        self, request: license_pb2.WatchTaskRequest, call: Call
    ) -> AsyncIterator[license_pb2.WatchTaskResponse]:
        """Follow a task until it is finished."""
        changes = Subscription()
        stop = self._feed.listen(changes.notify)
        try:
            after = ""
            open_svms: set[str] = set()
            while True:
                found = await self._reader.read(
                    _read_task, request.task_id, after, MAX_INLINE_OUTCOMES
                )
                if found is None:
                    raise task_not_found(request.task_id)
                task, outcomes = found
                open_svms.update(one.svm_id for one in outcomes if not one.state.is_final)
                yield _watched(task, outcomes)
                if len(outcomes) < MAX_INLINE_OUTCOMES:
                    break
                after = outcomes[-1].svm_id
            while open_svms:
                commit = await changes.next()
                if request.task_id not in commit.tasks:
                    continue
                changed = commit.outcomes.get(request.task_id, set())
                task, outcomes = await self._reader.read(_read_changed, request.task_id, changed)
                open_svms.difference_update(one.svm_id for one in outcomes if one.state.is_final)
                yield _watched(task, outcomes)
        finally:
            stop()

    async def cancel_task(
        self, request: license_pb2.CancelTaskRequest, call: Call
    ) -> license_pb2.CancelTaskResponse:
        """Take back what SVMs have not confirmed."""
        return await self._writer.write(
            cancel_tasks,
            CancelTask(
                request.task_id,
                call.actor,
                retry_of(call, request.request_id),
                request.validate_only,
                call.caller.clusters,
            ),
        )


def _read_scope(scope: license_pb2.Scope) -> Scope:
    match scope.WhichOneof("selection"):
        case "cluster":
            return OneCluster(scope.cluster)
        case "picked":
            return PickedSvms(tuple(scope.picked.svm_ids))
        case _:
            return AllSvms()


def _watched(task: TaskRecord, outcomes: list[OutcomeRecord]) -> license_pb2.WatchTaskResponse:
    return license_pb2.WatchTaskResponse(
        task=task_message(task), outcomes=[outcome_message(outcome) for outcome in outcomes]
    )


def _read_task(
    connection: Connection, task_id: str, after: str, size: int
) -> tuple[TaskRecord, list[OutcomeRecord]] | None:
    task = load_tasks(connection, [task_id]).get(task_id)
    if task is None:
        return None
    return task, page_of_outcomes(connection, task_id, None, after, size)


def _read_changed(
    connection: Connection, task_id: str, svm_ids: set[str]
) -> tuple[TaskRecord, list[OutcomeRecord]]:
    outcomes = load_outcomes(connection, {task_id: svm_ids})
    ordered = [outcomes[key] for key in sorted(outcomes)]
    return load_tasks(connection, [task_id])[task_id], ordered
