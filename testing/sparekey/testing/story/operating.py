"""What the story's operator does: the public calls, each waited for until it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import grpc

from sparekey.activation.control.v1 import control_pb2
from sparekey.cli.connection import PAGE_SIZE
from sparekey.testing.story.cast import KeyCard
from sparekey.testing.story.failures import StoryFailed
from sparekey.testing.story.stage import Stage
from sparekey.v1 import event_pb2, fleet_pb2, key_pb2, license_pb2
from sparekey.wire.errors import read_problem
from sparekey.wire.timestamps import to_duration

_Found = TypeVar("_Found")
_PATIENCE = 30.0
_WAIT = timedelta(days=30)
"""How long tasks wait for SVMs that are offline."""

ALL = license_pb2.Scope(all=license_pb2.AllSvms())


def cluster(name: str) -> license_pb2.Scope:
    """The SVMs of a cluster."""
    return license_pb2.Scope(cluster=name)


def picked(*svm_ids: str) -> license_pb2.Scope:
    """Picked SVMs."""
    return license_pb2.Scope(picked=license_pb2.PickedSvms(svm_ids=svm_ids))


class Operator:
    """Orders keys from the vendor and works with the license server."""

    def __init__(self, stage: Stage) -> None:
        self._control = stage.control
        self._connection = stage.connection

    def buy(self, card: KeyCard) -> key_pb2.Key:
        """Have a key made by the vendor and put it into the storage, by its file or its code."""
        properties = control_pb2.KeyProperties(
            type=card.type,
            kind=card.kind,
            edition=card.edition,
            unit_limit=card.units,
            term=to_duration(card.term),
        )
        if card.code:
            self._control.DefineCode(
                control_pb2.DefineCodeRequest(
                    code=card.code, key=properties, renewals=card.renewals
                ),
                timeout=_PATIENCE,
            )
            request = key_pb2.AddKeyRequest(activation_code=card.code)
        else:
            issued = self._control.IssueKey(
                control_pb2.IssueKeyRequest(key=properties), timeout=_PATIENCE
            )
            request = key_pb2.AddKeyRequest(key_file=issued.key_file)
        response: key_pb2.AddKeyResponse = self._call(self._connection.keys.AddKey, request)
        return response.key

    def activate(self, serial: str, scope: license_pb2.Scope) -> license_pb2.Task:
        """Put a key on SVMs as their active key; follow the task as far as it gets."""
        request = license_pb2.ActivateRequest(
            key_serial=serial, scope=scope, wait=to_duration(_WAIT)
        )
        return self.follow(self._call(self._connection.licenses.Activate, request).task)

    def renew(self, serial: str, scope: license_pb2.Scope) -> license_pb2.Task:
        """Put a key on SVMs as their reserve key; follow the task as far as it gets."""
        request = license_pb2.RenewRequest(key_serial=serial, scope=scope, wait=to_duration(_WAIT))
        return self.follow(self._call(self._connection.licenses.Renew, request).task)

    def try_renew(self, serial: str, scope: license_pb2.Scope) -> license_pb2.Task:
        """Ask what `renew` would do."""
        request = license_pb2.RenewRequest(key_serial=serial, scope=scope, validate_only=True)
        task: license_pb2.Task = self._call(self._connection.licenses.Renew, request).task
        return task

    def follow(self, task: license_pb2.Task) -> license_pb2.Task:
        """Follow a task until it is finished, or only SVMs that are offline have not answered."""
        offline = {svm.svm_id for svm in self.svms() if not _is_connected(svm)}
        pending: set[str] = set()

        def settled(update: license_pb2.WatchTaskResponse) -> bool | None:
            for outcome in update.outcomes:
                if outcome.state == license_pb2.OUTCOME_STATE_PENDING:
                    pending.add(outcome.svm_id)
                else:
                    pending.discard(outcome.svm_id)
            is_finished = update.task.state != license_pb2.TASK_STATE_RUNNING
            waits_for_offline = len(pending) == update.task.counts.pending and pending <= offline
            return True if is_finished or waits_for_offline else None

        watch = self._connection.licenses.WatchTask
        _await(
            watch(license_pb2.WatchTaskRequest(task_id=task.task_id), timeout=_PATIENCE),
            settled,
            f"the task {task.task_id} did not end in time",
        )
        return self.task(task.task_id)

    def task(self, task_id: str) -> license_pb2.Task:
        """A task with its outcomes."""
        request = license_pb2.GetTaskRequest(task_id=task_id)
        response: license_pb2.GetTaskResponse = self._call(
            self._connection.licenses.GetTask, request
        )
        return response.task

    def await_svm(
        self, svm_id: str, holds: Callable[[fleet_pb2.Svm], bool], what: str
    ) -> fleet_pb2.Svm:
        """Wait until something holds of an SVM.

        Raises:
            StoryFailed: it does not; `what` says what was expected.
        """

        def found(update: fleet_pb2.WatchSvmsResponse) -> fleet_pb2.Svm | None:
            return next((one for one in update.svms if one.svm_id == svm_id and holds(one)), None)

        watch = self._connection.fleet.WatchSvms
        return _await(watch(fleet_pb2.WatchSvmsRequest(), timeout=_PATIENCE), found, what)

    def await_link(self, svm_id: str, *, connected: bool) -> fleet_pb2.Svm:
        """Wait until the server knows that an SVM came or went, and what became of it."""
        return self.await_svm(
            svm_id,
            lambda svm: _is_connected(svm) is connected and not svm.HasField("predicted_keyring"),
            f"{svm_id} did not {'come back' if connected else 'go offline'} in time",
        )

    def svms(self) -> list[fleet_pb2.Svm]:
        """Every SVM as the server knows it."""
        return list(
            self._connection.pages(
                self._connection.fleet.ListSvms,
                lambda token: fleet_pb2.ListSvmsRequest(page_size=PAGE_SIZE, page_token=token),
                lambda response: response.svms,
            )
        )

    def svm(self, svm_id: str) -> fleet_pb2.Svm:
        """One SVM as the server knows it."""
        request = fleet_pb2.GetSvmRequest(svm_id=svm_id)
        response: fleet_pb2.GetSvmResponse = self._call(self._connection.fleet.GetSvm, request)
        return response.svm

    def stored_keys(self) -> list[key_pb2.Key]:
        """Every key of the storage."""
        return list(
            self._connection.pages(
                self._connection.keys.ListKeys,
                lambda token: key_pb2.ListKeysRequest(page_size=PAGE_SIZE, page_token=token),
                lambda response: response.keys,
            )
        )

    def events(self, after_cursor: int = 0) -> list[event_pb2.Event]:
        """The history after a cursor."""
        return list(
            self._connection.pages(
                self._connection.events.ListEvents,
                lambda token: event_pb2.ListEventsRequest(
                    after_cursor=after_cursor, page_size=PAGE_SIZE, page_token=token
                ),
                lambda response: response.events,
            )
        )

    def tasks(self) -> list[license_pb2.Task]:
        """Every task with its outcomes, oldest first."""
        listed: Sequence[license_pb2.Task] = list(
            self._connection.pages(
                self._connection.licenses.ListTasks,
                lambda token: license_pb2.ListTasksRequest(page_size=PAGE_SIZE, page_token=token),
                lambda response: response.tasks,
            )
        )
        return [self.task(task.task_id) for task in reversed(listed)]

    def _call(self, method: Callable[..., Any], request: object) -> Any:
        return self._connection.call(method, request)


def _is_connected(svm: fleet_pb2.Svm) -> bool:
    return svm.link_state == fleet_pb2.LINK_STATE_CONNECTED


def _await(stream: Any, find: Callable[[Any], _Found | None], what: str) -> _Found:
    """The first thing that is found in what a stream says."""
    try:
        for update in stream:
            if (found := find(update)) is not None:
                return found
    except grpc.RpcError as error:
        if read_problem(error).code is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise
    finally:
        stream.cancel()
    raise StoryFailed(what)
