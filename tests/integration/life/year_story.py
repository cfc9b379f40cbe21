"""A random year: what operators, providers and guests do, to the server and to the model alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from sparekey.server.link.clock_skew import SkewChange, note_skews
from sparekey.server.store.transaction import Transaction
from sparekey.server.store.void_keys import note_registered_again

from .year_comparison import compare
from .year_server import instant
from .year_sides import BOUGHT, CLUSTERS, YearSides
from .year_svm import DAY, OVER


class Year(YearSides):
    """A year that is lived step by step."""

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
        await self.clocks_jump()
        await self.guests_move()
        await self.meet(self.online())
        await self.operators_act()
        if not was_down:
            await self.due()
        await self.meet(self.online())
        await compare(self)
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

    async def clocks_jump(self) -> None:
        """Clocks jump on some SVMs, and others are set up anew, up to their activation (R82)."""
        rng, svms = self.clock_rng, self.model.svms
        if rng.random() < 0.2:
            name = rng.choice(self.online())
            two_days = timedelta(days=2)
            await self.server.writer.write(note_skews, SkewChange(name, two_days, two_days))
            self.model.clock_jumps(name)
        for name in [name for name, svm in svms.items() if svm.void and not svm.anew]:
            if rng.random() < 0.1:
                await self.server.writer.write(_register_again, name)
                svms[name].anew = True

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


def _register_again(transaction: Transaction, names: Sequence[str]) -> list[None]:
    """The first half of the remedy for void keys, without all that forgetting an SVM brings."""
    note_registered_again(transaction.connection, names, transaction.now)
    return [None] * len(names)
