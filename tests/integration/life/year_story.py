"""A random year: what operators, providers and guests do, to the server and to the model alike."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sparekey.activation.v1 import activation_pb2
from sparekey.licensing.modes import mode_at
from sparekey.licensing.settling import settle
from sparekey.licensing.status import reasons_at, worst_of
from sparekey.server.fleet.messages import svm_message
from sparekey.server.life.terms import Terms, load_terms
from sparekey.server.store.guests import units_in_use
from sparekey.server.store.reader import Connection
from sparekey.server.store.svms import SvmRecord, load_svms
from sparekey.v1 import agent_pb2, fleet_pb2, keyring_pb2
from sparekey.wire.errors import CallRefused
from sparekey.wire.timestamps import to_duration, to_timestamp

from .year_model import DAY, OVER, PlainKey, PlainSvm, PlainYear, Word
from .year_server import RuleSvm, YearServer, guest_list, instant, license_key, slots_of

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


class Year:
    """Both sides of one year."""

    def __init__(self, folder: Path, *, svms: int, seed: int) -> None:
        self.rng = random.Random(seed)
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
        self.server.writer.start()
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

    # Doing things.

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

    async def due(self) -> None:
        """What the server does of itself, in its order."""
        model, hour, reachable = self.model, self.hour, self.server.provider.reachable
        self.tell_provider()
        await self.server.scheduler.catch_up()
        for svm in model.svms.values():
            svm.live(hour)
        for serial, names in model.to_renew(hour).items():
            if names and reachable and serial in self.successors:
                new = self.successors[serial]
                model.add_key(new, hour)
                model.successor[serial] = new.serial
                model.task(new.serial, "ACTIVE", names, hour, again=True)
                self.seen["renewed by code"] += 1
        for serial, key in list(model.keys.items()):
            if key.kind != "SUBSCRIPTION" or serial in model.unasked or serial in model.blocked:
                continue
            model.poll(serial, self.heard(serial) if reachable else None, hour)
            if reachable and serial in self.successors and model.renewed(serial, hour):
                model.succeed(serial, self.successors[serial], hour, deliver=True)
                self.seen["renewed by poll"] += 1
        if reachable:
            for serial in sorted(self.server.provider.blocked_serials - model.blocked):
                model.hear_block(serial)
        model.notices(hour)
        model.limits(hour)

    async def step(self, hours: int) -> None:
        """Some time passes, then everybody acts, then both sides are compared."""
        self.hour += hours
        self.server.clock.set(instant(self.hour))
        self.provider_acts()
        if self.hour < self.down_until:
            for name in self.online():
                self.server.svms[name].live(instant(self.hour))
                self.model.svms[name].live(self.hour)
            return
        was_down = bool(self.down_until)
        if was_down:
            self.down_until = 0
            self.seen["downtime"] += 1
            await self.due()
        await self.come_and_go(was_down=was_down)
        await self.guests_move()
        await self.meet(self.online())
        await self.operators_act()
        if not was_down:
            await self.due()
        await self.meet(self.online())
        await self.compare()
        if self.rng.random() < 0.03:
            self.down_until = self.hour + self.rng.randrange(2, 9) * DAY

    def provider_acts(self) -> None:
        rng, provider = self.rng, self.server.provider
        provider.reachable = rng.random() > 0.1
        if rng.random() < 0.02:
            in_use = sorted(
                {one for svm in self.model.svms.values() for one in svm.reported.values()}
            )
            if in_use:
                provider.blocked_serials.add(rng.choice(in_use))
                self.seen["block"] += 1
        for cluster, (word, _, _newest) in list(self.rented.items()):
            state = word.at(self.hour)
            if rng.random() > 0.08:
                continue
            far = None if cluster == "cloud" else self.hour + rng.choice((20, 45, 60)) * DAY
            choice = rng.choice(("extend", "extend", "pause", "soft", "hard", "grace"))
            if choice == "extend" or state in OVER:
                word = word._replace(state="ACTIVE", since=self.hour, end=far)
            elif choice == "pause" and state == "ACTIVE":
                word = word._replace(state="PAUSED", since=self.hour)
            elif choice == "soft" and state == "ACTIVE" and word.end is not None:
                word = word._replace(state="CANCELLED_SOFT", since=self.hour)
            elif choice == "hard":
                word = word._replace(state="CANCELLED_HARD", since=self.hour)
            else:
                word = word._replace(grace=rng.choice((2, 5, 9)) * DAY)
            self.seen[f"provider {choice}"] += 1
            self.say(cluster, word)

    async def come_and_go(self, *, was_down: bool) -> None:
        back = [name for name, hour in self.back_at.items() if hour <= self.hour]
        for name in back:
            del self.back_at[name]
            self.model.svms[name].online = True
        greeting = self.online() if was_down else back
        await self.server.greet(greeting)
        for name in greeting:
            self.model.svms[name].seen = self.hour
        for name in self.rng.sample(self.online(), max(1, self._size // 200)):
            self.model.svms[name].online = False
            self.back_at[name] = self.hour + self.rng.randrange(1, 16) * DAY

    async def guests_move(self) -> None:
        """Guests go off and on, and from one SVM to another, within their cluster."""
        rng = self.rng
        for cluster, (_, lists) in CLUSTERS.items():
            names = self.of(cluster, online=True) if lists else []
            if len(names) < 2:
                continue
            for _ in range(max(1, len(names) // 40)):
                one, other = (self.model.svms[name] for name in rng.sample(names, 2))
                assert one.guests is not None
                assert other.guests is not None
                if not one.guests:
                    continue
                vm = rng.choice(sorted(one.guests))
                if rng.random() < 0.5:
                    if vm in one.off:
                        del one.off[vm]
                    else:
                        one.off[vm] = self.hour
                else:
                    other.guests[vm] = one.guests.pop(vm)
                    one.off.pop(vm, None)
                for svm in (one, other):
                    systems = Counter((svm.guests or {}).values())
                    svm.mix = (systems["SERVER"], systems["DESKTOP"])
                    self.surround(svm)
                self.seen["guests"] += 1

    async def operators_act(self) -> None:
        rng, hour = self.rng, self.hour
        for cluster in BOUGHT:
            for type_ in CLUSTERS[cluster][0]:
                await self.look_after(cluster, type_)
        await self.look_after_rented()
        if rng.random() < 0.08:
            names = rng.sample(self.online(), 3)
            kind, type_ = rng.choice((("TRIAL", "SERVER"), ("COMMERCIAL", "CORES")))
            key = self.key(kind, type_, rng.choice((20, 40)))
            await self.store(key)
            await self.task(key.serial, "ACTIVE", names)
        if rng.random() < 0.1:
            edition = rng.choice(("STANDARD", "ENTERPRISE"))
            key = self.key("COMMERCIAL", "SERVER", rng.choice((30, 120)), edition=edition)
            await self.store(key)
            await self.task(key.serial, "RESERVE", rng.sample(self.online(), 6))
        assert hour == self.hour

    async def look_after(self, cluster: str, type_: str) -> None:
        rng = self.rng
        names = self.of(cluster)
        ends = [
            held.key.end
            for name in names
            if (held := self.model.svms[name].active.get(type_)) and held.key.end is not None
        ]
        if not ends:
            return
        end = Counter(ends).most_common(1)[0][0]
        chance = rng.random()
        if end <= self.hour:
            if chance < 0.1:
                key = self.key(
                    "COMMERCIAL", type_, rng.choice((40, 80)), by_code=cluster == "coded"
                )
                await self.store(key)
                await self.task(key.serial, "ACTIVE", names)
        elif end - self.hour < 40 * DAY and chance < 0.06:
            there = [name for name in names if self.model.svms[name].online]
            days = (end - self.hour) // DAY + rng.choice((30, 60, 90))
            key = self.key("COMMERCIAL", type_, days)
            await self.store(key)
            await self.task(key.serial, "RESERVE", there)
        elif chance > 0.995:
            key = self.key("COMMERCIAL", type_, rng.choice((25, 50)))
            await self.store(key)
            await self.task(key.serial, "ACTIVE", names)

    async def look_after_rented(self) -> None:
        """Run the old task again where the provider goes on; try a new one in a grace (R52)."""
        rng, model = self.rng, self.model
        for cluster, (task_id, names) in list(self.tasks.items()):
            newest = self.newest(self.rented[cluster][1])
            if newest in model.blocked:
                continue
            known = model.words.get(newest)
            if known is None:
                continue
            if known.at(self.hour) == "GRACE" and rng.random() < 0.3:
                key = self.key("COMMERCIAL", "SERVER", 15)
                await self.store(key)
                await self.task(key.serial, "ACTIVE", rng.sample(names, 2))
                await self.task(newest, "ACTIVE", names)
            going_on = self.rented[cluster][0].at(self.hour) == "ACTIVE"
            reachable = self.server.provider.reachable
            if known.at(self.hour) in OVER and going_on and reachable and rng.random() < 0.5:
                self.tell_provider()
                serial, refused = await self.server.run_again(task_id)
                model.poll(newest, self.heard(newest), self.hour)
                expected = newest
                if model.renewed(newest, self.hour):
                    expected = self.successors[newest].serial
                    model.succeed(newest, self.successors[newest], self.hour, deliver=False)
                assert serial == expected, (self.hour, cluster, serial, expected)
                assert refused == model.task(serial, "ACTIVE", names, self.hour, again=True)
                self.seen["run again"] += 1
                await self.meet([name for name in names if model.svms[name].online])

    # Comparing both sides.

    async def compare(self) -> None:
        model, hour, now = self.model, self.hour, instant(self.hour)
        records, terms, units = await self.server.reader.read(_look, sorted(model.svms), now)
        for name, svm in model.svms.items():
            svm.live(hour)
            record = records[name]
            held = {
                (kind, role): (one.key.serial, one.blocked is not None)
                for role, some in (("ACTIVE", svm.active), ("RESERVE", svm.reserve))
                for kind, one in some.items()
            }
            where = (hour, name, svm.cluster)
            settled = settle(record.keyring, now).keyring
            assert slots_of(settled) == held, (where, slots_of(settled), held)
            if svm.online:
                assert self.server.svms[name].keyring == record.keyring, where
            mode = mode_at(
                record.keyring,
                now,
                block_graces=terms.block_graces,
                subscriptions=terms.subscriptions,
            )
            assert mode.name == model.mode(svm, hour), where
            reasons = reasons_at(
                record.keyring,
                record.guests,
                now,
                last_seen_at=record.last_seen_at,
                connected=svm.online,
                subscriptions=terms.subscriptions,
            )
            given = {one.name for one in reasons}
            assert given == model.status(svm, hour), (where, model.status(svm, hour))
            self.seen[f"mode {mode.name}"] += 1
            self.seen.update(one.name for one in reasons)
        sample = self.rng.choice(sorted(model.svms))
        shown = svm_message(records[sample], now, connected=True, waiting=0, terms=terms)
        reasons = reasons_at(
            records[sample].keyring,
            records[sample].guests,
            now,
            last_seen_at=now,
            subscriptions=terms.subscriptions,
        )
        assert fleet_pb2.SvmStatus.Name(shown.status) == f"SVM_STATUS_{worst_of(reasons).name}"
        assert units == (counted := model.units(hour)), (hour, units, counted)
        told = await self.server.new_events()
        assert told == model.events, (hour, told - model.events, model.events - told)
        self.seen.update(event[0] for event in told.elements())
        self.seen.update(f"{one[0]} {one[2]}" for one in told.elements() if one[0] != "PROMOTED")
        model.events.clear()


def _look(
    connection: Connection, names: list[str], now: Any
) -> tuple[dict[str, SvmRecord], Terms, dict[str, int]]:
    return load_svms(connection, names), load_terms(connection), units_in_use(connection, now)
