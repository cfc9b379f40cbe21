"""Both sides of a random year, the server and the model, and how things are made on both."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sparekey.activation.v1 import activation_pb2
from sparekey.v1 import agent_pb2, keyring_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.timestamps import to_duration, to_timestamp

from .year_model import PlainYear
from .year_server import RuleSvm, YearServer, guest_list, instant, license_key
from .year_svm import DAY, PlainKey, PlainSvm, Word

# By cluster the key types, and whether its SVMs tell their guests apart.
CLUSTERS: dict[str, tuple[tuple[str, ...], bool]] = {
    "mixed": (("SERVER", "DESKTOP"), True),
    "north": (("SERVER",), False),
    "south": (("SERVER",), True),
    "desk": (("DESKTOP",), True),
    "dense": (("CORES",), False),
    "rented": (("SERVER",), True),
    "cloud": (("SERVER",), False),
    "trying": (("SERVER",), False),
    "coded": (("SERVER",), False),
    "bare": ((), False),
}
BOUGHT = ("mixed", "north", "south", "desk", "dense", "coded")


class YearSides:
    """Both sides of one year, and how things are made on both."""

    def __init__(self, folder: Path, *, svms: int, seed: int) -> None:
        self.rng = random.Random(seed)
        # Of its own, so that clocks which jump change nothing else about the year.
        self.clock_rng = random.Random(f"clocks {seed}")
        self.server = YearServer(folder, seed)
        self.model = PlainYear()
        self.hour = 0
        self.down_until = 0
        self.back_at: dict[str, int] = {}
        self.rented: dict[str, tuple[Word, str, str]] = {}
        self.tasks: dict[str, tuple[str, list[str]]] = {}
        self.seen: Counter[str] = Counter()
        self._serial = 0
        self._size = svms

    # Making things.

    def key(self, kind: str, type_: str, days: int | None, **more: Any) -> PlainKey:
        self._serial += 1
        by_code = more.get("by_code", kind == "SUBSCRIPTION")
        number = self._serial
        from_file = f"{number:04X}-{number:06X}-{number:08X}"
        start = more.get("start", self.hour)
        return PlainKey(
            f"{number:032X}" if by_code else from_file,
            type_,
            kind,
            more.get("edition", "STANDARD"),
            start,
            None if days is None else start + days * DAY + self.rng.choice((0, 0, 7)),
            more.get("limit", self.rng.choice((50, 100, 120, 150, 300))),
            by_code,
        )

    async def store(self, key: PlainKey) -> None:
        self.model.add_key(key, self.hour)
        await self.server.add_key(license_key(key))
        if key.by_code and key.kind == "COMMERCIAL" and self.rng.random() < 0.7:
            self.offer(
                key.serial, self.key("COMMERCIAL", key.type, 90, start=key.end, by_code=True)
            )

    def offer(self, serial: str, successor: PlainKey) -> None:
        self.server.provider.successors[serial] = license_key(successor)
        self.successors[serial] = successor

    successors: dict[str, PlainKey]

    async def begin(self) -> None:
        self.successors = {}
        await self.server.writer.start()
        vm = 0
        for number in range(self._size):
            cluster = list(CLUSTERS)[number % len(CLUSTERS)]
            types, lists = CLUSTERS[cluster]
            name = f"svm-{number:05}"
            servers = self.rng.randrange(1, 3) if "".join(types) != "DESKTOP" else 0
            desktops = self.rng.randrange(1, 3) if "DESKTOP" in types else 0
            systems = ["SERVER"] * servers + ["DESKTOP"] * desktops
            guests = {f"vm-{vm + index}": os for index, os in enumerate(systems)}
            vm += len(systems)
            svm = PlainSvm(name, cluster, guests if lists else None, (servers, desktops))
            svm.host, svm.cores = f"host-{number // 20}", 16
            self.model.svms[name] = svm
            self.server.svms[name] = RuleSvm(name)
            self.surround(svm)
        await self.server.greet(self.model.svms)
        await self.meet(list(self.model.svms))
        for cluster, (types, _) in CLUSTERS.items():
            for type_ in types:
                await self.give_first(cluster, type_)

    async def give_first(self, cluster: str, type_: str) -> None:
        names = self.of(cluster)
        if cluster in ("rented", "cloud"):
            return await self.rent(cluster, names)
        kind = "TRIAL" if cluster == "trying" else "COMMERCIAL"
        days = self.rng.choice((33, 60, 90))
        key = self.key(kind, type_, days, by_code=cluster == "coded")
        await self.store(key)
        await self.task(key.serial, "ACTIVE", names)
        return None

    async def rent(self, cluster: str, names: list[str]) -> None:
        """A subscription; in the cloud without end, yet with a new key each month."""
        key = self.key("SUBSCRIPTION", "SERVER", 30 if cluster == "cloud" else 60)
        grace = self.rng.choice((0, 3, 10)) * DAY
        end = None if cluster == "cloud" else key.end
        word = Word("ACTIVE", self.hour, end, grace, self.rng.random() < 0.5)
        self.rented[cluster] = (word, key.serial, key.serial)
        self.say(cluster, word)
        await self.store(key)
        task_id = await self.task(key.serial, "ACTIVE", names)
        if task_id:
            self.tasks[cluster] = (task_id, names)

    def say(self, cluster: str, word: Word) -> None:
        """The provider says a word; a renewal comes with a new key for the newest."""
        _, first, newest = self.rented[cluster]
        newest = self.newest(newest)
        key = self.model.keys.get(newest)
        if key and key.end is not None and word.state == "ACTIVE":
            beyond = word.end is None or word.end > key.end
            if beyond and newest not in self.successors:
                end = word.end if word.end is not None else key.end + 30 * DAY
                new = self.key("SUBSCRIPTION", "SERVER", 1)._replace(end=end)
                self.offer(newest, new._replace(limit=key.limit))
            if newest in self.successors and beyond:
                # One more month from the old end, or from now where that is over already.
                offered = self.successors[newest].end
                assert offered is not None
                end = self.hour + 30 * DAY if offered <= self.hour else offered
                end = end if word.end is None else word.end
                self.offer(newest, self.successors[newest]._replace(end=end))
        self.rented[cluster] = (word, first, newest)

    def newest(self, serial: str) -> str:
        while serial in self.model.successor:
            serial = self.model.successor[serial]
        return serial

    def tell_provider(self) -> None:
        """What the provider would answer at this hour, for every key of each subscription."""
        for cluster, (word, first, _) in self.rented.items():
            self.say(cluster, word)
            serial: str | None = first
            while serial is not None:
                self.server.provider.subscriptions[serial] = activation_pb2.Subscription(
                    serial=serial,
                    state=activation_pb2.SubscriptionState.Value(
                        f"SUBSCRIPTION_STATE_{word.at(self.hour)}"
                    ),
                    ends_at=None if word.end is None else to_timestamp(instant(word.end)),
                    grace=to_duration(timedelta(hours=word.grace)),
                    stops_protection=word.stops,
                )
                serial = self.model.successor.get(serial)

    def heard(self, serial: str) -> Word | None:
        for word, first, _ in self.rented.values():
            each: str | None = first
            while each is not None:
                if each == serial:
                    return word._replace(state=word.at(self.hour))
                each = self.model.successor.get(each)
        return None

    def of(self, cluster: str, *, online: bool = False) -> list[str]:
        return [
            name
            for name, svm in self.model.svms.items()
            if svm.cluster == cluster and (svm.online or not online)
        ]

    def online(self) -> list[str]:
        return [name for name, svm in self.model.svms.items() if svm.online]

    def surround(self, svm: PlainSvm) -> None:
        servers, desktops = svm.mix
        report = agent_pb2.Report(
            placement=agent_pb2.Placement(cluster=svm.cluster),
            guests=keyring_pb2.GuestMix(servers=servers, desktops=desktops),
            host_cpu=keyring_pb2.HostCpu(host_uuid=svm.host, processors=1, cores=svm.cores),
        )
        if svm.guests is not None:
            report.guest_list.CopyFrom(guest_list(svm.guests, svm.off))
        self.server.svms[svm.name].surroundings = report

    async def task(self, serial: str, role: str, names: list[str]) -> str:
        """A new task; its id, empty where the call is refused for the key's grace (R52)."""
        word = self.model.words.get(serial)
        if word is not None and word.at(self.hour) == "GRACE":
            with pytest.raises(CallRefused) as refused:
                await self.server.task(serial, role, names)
            assert refused.value.reason_name == "SUBSCRIPTION_IN_GRACE"
            self.seen["key in grace"] += 1
            return ""
        task_id, refused_by = await self.server.task(serial, role, names)
        expected = self.model.task(serial, role, names, self.hour)
        assert refused_by == expected, (self.hour, serial, role)
        self.seen.update(refused_by.values())
        self.seen[f"task {role}"] += 1
        await self.meet([name for name in names if self.model.svms[name].online])
        return task_id

    async def meet(self, names: list[str]) -> None:
        await self.server.hear(names)
        await self.server.deliver(names)
        for name in names:
            self.model.meet(name, self.hour)
