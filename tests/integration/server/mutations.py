"""Every call that changes something, made ready to be called in several ways."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sparekey.activation.control.v1 import control_pb2
from sparekey.licensing.keys import LicenseKey
from sparekey.v1 import fleet_pb2, key_pb2, license_pb2
from sparekey.wire.timestamps import to_duration

from .site import Site
from .words import scope_of

CODE, OTHER_CODE = "TEST0-AAAAA-BBBBB-CCCCC", "TEST0-AAAAA-BBBBB-DDDDD"


@dataclass(frozen=True)
class Prepared:
    """A site on which every mutation succeeds.

    Attributes:
        active: The active key of svm-1.
        reserve: A stored key that may be its reserve.
        spare: A stored key that nobody refers to.
        new: Two keys that are not stored.
        blocked: A stored key that the activation server has blocked.
        task: A running task, for the SVM that is offline.
    """

    active: LicenseKey
    reserve: LicenseKey
    spare: LicenseKey
    new: tuple[LicenseKey, LicenseKey]
    blocked: str
    task: license_pb2.Task


@dataclass(frozen=True)
class Mutation:
    """How a call is made.

    Attributes:
        make: From a site and what is prepared: the RPC and its request's class, its fields,
            and fields that make it another request.
        events: How many events it writes.
    """

    make: Callable[[Site, Prepared], tuple[Any, type[Any], dict[str, Any], dict[str, Any]]]
    events: int = 1


def _add_file(site: Site, ready: Prepared) -> Any:
    file, other = (site.signer.sign(key) for key in ready.new)
    return site.keys.AddKey, key_pb2.AddKeyRequest, {"key_file": file}, {"key_file": other}


def _add_code(site: Site, _ready: Prepared) -> Any:
    code, other = {"activation_code": CODE}, {"activation_code": OTHER_CODE}
    return site.keys.AddKey, key_pb2.AddKeyRequest, code, other


def _delete(site: Site, ready: Prepared) -> Any:
    fields = {"serial": ready.spare.serial}
    return site.keys.DeleteKey, key_pb2.DeleteKeyRequest, fields, {"force": True}


def _force(site: Site, ready: Prepared) -> Any:
    fields = {"serial": ready.task.key_serial, "force": True}
    return site.keys.DeleteKey, key_pb2.DeleteKeyRequest, fields, {"serial": ready.spare.serial}


def _refresh(site: Site, _ready: Prepared) -> Any:
    return site.keys.RefreshKeys, key_pb2.RefreshKeysRequest, {}, {"validate_only": True}


def _activate(site: Site, ready: Prepared) -> Any:
    fields = {"key_serial": ready.spare.serial, "scope": scope_of(["offline"])}
    return site.licenses.Activate, license_pb2.ActivateRequest, fields, {"scope": scope_of()}


def _renew(site: Site, ready: Prepared) -> Any:
    fields = {"key_serial": ready.reserve.serial, "scope": scope_of()}
    other = {"key_serial": ready.spare.serial}
    return site.licenses.Renew, license_pb2.RenewRequest, fields, other


def _run(site: Site, ready: Prepared) -> Any:
    fields = {"task_id": ready.task.task_id}
    other = {"task_id": "task-0"}
    return site.licenses.RunTask, license_pb2.RunTaskRequest, fields, other


def _cancel(site: Site, ready: Prepared) -> Any:
    fields = {"task_id": ready.task.task_id}
    other = {"task_id": "task-0"}
    return site.licenses.CancelTask, license_pb2.CancelTaskRequest, fields, other


def _exclude(site: Site, _ready: Prepared) -> Any:
    other = {"include_again": True}
    return site.svms.ExcludeSvm, fleet_pb2.ExcludeSvmRequest, {"svm_id": "offline"}, other


def _forget(site: Site, _ready: Prepared) -> Any:
    other = {"svm_id": "another"}
    return site.svms.ForgetSvm, fleet_pb2.ForgetSvmRequest, {"svm_id": "offline"}, other


MUTATIONS = {
    "AddKey file": Mutation(_add_file),
    "AddKey code": Mutation(_add_code),
    "DeleteKey": Mutation(_delete),
    # The task's one SVM is refused, which ends it.
    "DeleteKey force": Mutation(_force, events=3),
    "RefreshKeys": Mutation(_refresh),
    # The older task for the same slot is superseded and so ends.
    "Activate": Mutation(_activate, events=2),
    "Renew": Mutation(_renew),
    # The run before it is superseded and so ends.
    "RunTask": Mutation(_run, events=2),
    "CancelTask": Mutation(_cancel, events=2),
    "ExcludeSvm": Mutation(_exclude),
    # Its task is cancelled with it, and so ends.
    "ForgetSvm": Mutation(_forget, events=2),
}


async def prepare(site: Site) -> Prepared:
    """Make a site ready; nothing is connected, so that nothing else changes meanwhile."""
    await site.connect("offline", "svm-1")
    properties = control_pb2.KeyProperties(
        type=key_pb2.KEY_TYPE_SERVER,
        kind=key_pb2.KEY_KIND_COMMERCIAL,
        edition=key_pb2.EDITION_STANDARD,
        term=to_duration(timedelta(days=90)),
    )
    for code in (CODE, OTHER_CODE):
        await site.control.DefineCode(control_pb2.DefineCodeRequest(code=code, key=properties))
    issued = await site.control.IssueKey(control_pb2.IssueKeyRequest(key=properties))
    await site.keys.AddKey(key_pb2.AddKeyRequest(key_file=issued.key_file))
    await site.control.BlockKey(control_pb2.BlockKeyRequest(serial=issued.serial))
    active, reserve = await site.new_key(ends=30), await site.new_key(ends=60)
    await site.ended(site.activate(active, "svm-1"))
    await site.disconnect("offline", "svm-1")
    task = await site.activate(await site.new_key(ends=40), "offline")
    spare = await site.new_key(ends=50)
    new = site.make_key(ends=90), site.make_key(ends=90)
    return Prepared(active, reserve, spare, new, issued.serial, task)


def mutating(site: Site, name: str, ready: Prepared) -> Callable[..., Awaitable[Any]]:
    """The call, to which further fields can be given; with `other`, another content."""
    rpc, request, fields, changed = MUTATIONS[name].make(site, ready)

    def call(*, other: bool = False, **more: Any) -> Awaitable[Any]:
        content = {**fields, **(changed if other else {}), **more}
        return rpc(request(**content))  # type: ignore[no-any-return]

    return call
