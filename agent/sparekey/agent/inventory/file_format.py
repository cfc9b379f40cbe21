"""The inventory file: what may stand in it, and where it breaks a rule.

    cluster: site-a                  # optional
    host: {uuid: 6d0f..., processors: 2, cores: 32}
    guests: {servers: 3, desktops: 2, unknown: 0}

or, for the guests, a list: `- {name: db1, os: Debian 12}`. With a `uuid` for every guest of the
list, and `excluded: true` for those that are not to count, a guest that moves to another host is
counted once.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection
from typing import Any

import yaml

from sparekey.agent.inventory.guest_os import classify_os
from sparekey.agent.inventory.inventory import Inventory
from sparekey.licensing.guests import GuestMix, HostCpu, OsClass
from sparekey.licensing.units import Guest

MAX_COUNT = 1_000_000
"""The most of anything that can be counted on one host."""

_MAX_CLUSTER = 100


class InvalidInventory(ValueError):
    """The text is no inventory; the message says where and what to write instead."""


class _StrictLoader(yaml.SafeLoader):
    """YAML without tags of Python, in which a name stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(name, deep=True) for name, _ in node.value]
        for name, times in Counter(map(str, names)).items():
            if times > 1:
                line = node.start_mark.line + 1
                raise InvalidInventory(f"{name} stands {times} times in one place (line {line})")
        return super().construct_mapping(node, deep)


def read_inventory(text: str) -> Inventory:
    """The inventory of a YAML or JSON text.

    Raises:
        InvalidInventory: the text is neither, or breaks a rule.
    """
    try:
        # A safe loader, made stricter.
        document = yaml.load(text, _StrictLoader)  # noqa: S506
    except yaml.YAMLError as error:
        raise InvalidInventory(f"it is neither YAML nor JSON{_place(error)}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidInventory):
            raise
        raise InvalidInventory("it is neither YAML nor JSON") from None
    top = _fields(document, "", required={"host", "guests"}, optional={"cluster"})
    host = _fields(top["host"], "host", required={"uuid", "processors", "cores"})
    return Inventory(
        cluster=_cluster(top.get("cluster", "")),
        guests=_guests(top["guests"]),
        guest_list=_guest_list(top["guests"]),
        host_uuid=_uuid(host["uuid"], "host.uuid"),
        host_cpu=HostCpu(
            processors=_number(host["processors"], "host.processors"),
            cores=_number(host["cores"], "host.cores"),
        ),
    )


def _guests(value: Any) -> GuestMix:
    if isinstance(value, list):
        classes = Counter(_guest(item, f"guests[{index}]") for index, item in enumerate(value))
        return GuestMix(classes[OsClass.SERVER], classes[OsClass.DESKTOP], classes[None])
    if not isinstance(value, dict):
        raise InvalidInventory(
            "guests must be counts, as in {servers: 3, desktops: 2}, or a list of guests, each"
            " with its name and os"
        )
    counts = _fields(value, "guests", optional={"servers", "desktops", "unknown"})
    return GuestMix(**{name: _number(count, f"guests.{name}") for name, count in counts.items()})


def _guest(value: Any, path: str) -> OsClass | None:
    guest = _fields(value, path, required={"name", "os"}, optional={"uuid", "excluded"})
    for name in ("name", "os"):
        _text(guest[name], f"{path}.{name}")
    if "uuid" in guest:
        _uuid(guest["uuid"], f"{path}.uuid")
    if type(guest.get("excluded", False)) is not bool:
        raise InvalidInventory(f"{path}.excluded must be true or false")
    return classify_os(guest["os"])


def _guest_list(value: Any) -> tuple[Guest, ...] | None:
    """The guests one by one, where each has its UUID; they were checked before."""
    if not isinstance(value, list) or not all("uuid" in item for item in value):
        return None
    listed = [
        Guest(
            _uuid(item["uuid"], "uuid"),
            classify_os(item["os"]),
            counted=not item.get("excluded", False),
        )
        for item in value
    ]
    for name, times in Counter(guest.instance_uuid for guest in listed).items():
        if times > 1:
            raise InvalidInventory(f"{times} guests have the uuid {name}; each has its own")
    return tuple(listed)


def _fields(
    value: Any, path: str, *, required: Collection[str] = (), optional: Collection[str] = ()
) -> dict[str, Any]:
    known = sorted({*required, *optional})
    if not isinstance(value, dict):
        what = f"{path} must hold" if path else "it must hold"
        raise InvalidInventory(f"{what} {', '.join(known)}")
    for name in value:
        if name not in known:
            raise InvalidInventory(
                f"{_join(path, name)} is not a known field; known are {', '.join(known)}"
            )
    for name in sorted(required):
        if name not in value:
            raise InvalidInventory(f"{_join(path, name)} is missing")
    return value


def _number(value: Any, path: str) -> int:
    # A bool is an int to isinstance.
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise InvalidInventory(f"{path} must be a whole number from 0 to {MAX_COUNT}")
    return value


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise InvalidInventory(f"{path} must be text; put it in quotation marks")
    return value


def _cluster(value: Any) -> str:
    cluster = _text(value, "cluster")
    if len(cluster) > _MAX_CLUSTER or any(sign < " " or sign == "\x7f" for sign in cluster):
        raise InvalidInventory(f"cluster must be 1 to {_MAX_CLUSTER} printable characters")
    return cluster


def _uuid(value: Any, path: str) -> str:
    try:
        return str(uuid.UUID(_text(value, path)))
    except ValueError as error:
        if isinstance(error, InvalidInventory):
            raise
        raise InvalidInventory(
            f"{path} must be a UUID, as in 6d0f4c8e-0a51-4f7d-9d2b-5c9a7e3b1f20"
        ) from None


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
