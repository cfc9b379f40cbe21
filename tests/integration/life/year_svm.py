"""One SVM of the slow model, its keys, and what providers say of subscriptions.

Plain words and whole hours, written from the rules alone. It imports nothing of the package, so
that both would have to make the same mistake for it to go unseen. `None` as an hour means never.
"""

from typing import Any, NamedTuple

DAY = 24
FAMILY = {"SERVER": "vm", "DESKTOP": "vm", "CORES": "core", "PROCESSORS": "processor"}
OVER = ("EXPIRED", "CANCELLED_HARD")


class PlainKey(NamedTuple):
    serial: str
    type: str
    kind: str
    edition: str
    start: int
    end: int | None
    limit: int
    by_code: bool

    def good(self, hour: int) -> bool:
        return self.start <= hour and (self.end is None or hour < self.end)


class Word(NamedTuple):
    """What a provider said of a subscription, and at which hour it was first heard."""

    state: str
    since: int
    end: int | None
    grace: int
    stops: bool

    def grace_end(self) -> int | None:
        if self.state == "ACTIVE":
            return None if self.end is None else self.end + self.grace
        if self.state in ("PAUSED", "GRACE"):
            began = self.since if self.end is None else min(self.since, self.end)
            return began + self.grace
        return None

    def at(self, hour: int) -> str:
        """R96, with time alone moving it on."""
        ended = self.end is not None and hour >= self.end
        if self.state in ("PENDING", *OVER):
            return self.state
        if self.state == "CANCELLED_SOFT":
            return "EXPIRED" if ended else self.state
        if self.state != "GRACE" and not ended:
            return self.state
        last = self.grace_end()
        return "GRACE" if last is not None and hour < last else "EXPIRED"

    def works(self, hour: int) -> bool:
        state = self.at(hour)
        if state == "PAUSED":
            last = self.grace_end()
            return last is not None and hour < last
        return state in ("ACTIVE", "GRACE", "CANCELLED_SOFT")


class Held:
    def __init__(self, key: PlainKey) -> None:
        self.key = key
        self.blocked: int | None = None

    def good(self, hour: int) -> bool:
        return self.blocked is None and self.key.good(hour)


class PlainSvm:
    """One SVM: what it holds, what waits for it, and what it has not reported."""

    def __init__(self, name: str, cluster: str, guests: dict[str, str] | None, mix: Any) -> None:
        self.name, self.cluster, self.guests, self.mix = name, cluster, guests, mix
        self.off: dict[str, int] = {}
        self.host, self.cores = f"host-{name}", 0
        self.active: dict[str, Held] = {}
        self.reserve: dict[str, Held] = {}
        self.waiting: list[tuple[str, str, str]] = []
        self.hour = 0
        self.online = True
        self.seen = 0
        self.unreported: list[tuple[str, str, str, int]] = []
        self.reported: dict[str, str] = {}
        self.pairs: dict[tuple[str, str], int | None] = {}
        self.void = self.anew = False

    def live(self, hour: int) -> None:
        """R11, R85, R87: at each hour that matters a good reserve takes a bad key's place."""
        held = [*self.active.values(), *self.reserve.values()]
        edges = {one for each in held for one in (each.key.start, each.key.end) if one is not None}
        for edge in sorted({*(one for one in edges if self.hour < one <= hour), hour}):
            self.promote(edge)
        self.hour = hour

    def promote(self, hour: int) -> None:
        for kind in list(self.active):
            reserve, active = self.reserve.get(kind), self.active[kind]
            if reserve and (reserve.blocked is not None or hour >= (reserve.key.end or 1 << 60)):
                del self.reserve[kind]
            elif reserve and reserve.good(hour) and not active.good(hour):
                self.active[kind] = self.reserve.pop(kind)
                self.unreported.append(("PROMOTED", self.name, reserve.key.serial, hour))

    def why_not(self, key: PlainKey, role: str, hour: int) -> str | None:
        """R77 for a reserve, R27 for an active key."""
        if key.end is not None and hour >= key.end:
            return "KEY_EXPIRED"
        if role == "ACTIVE":
            if hour < key.start:
                return "KEY_NOT_YET_VALID"
            for held in self.active.values():
                replaced = held.key.type == key.type or FAMILY[held.key.type] != FAMILY[key.type]
                commercial = held.key.kind == "COMMERCIAL" and held.good(hour)
                if key.kind == "TRIAL" and replaced and commercial:
                    return "TRIAL_OVER_COMMERCIAL"
            return None
        if key.kind != "COMMERCIAL":
            return "KIND_NOT_ALLOWED_AS_RESERVE"
        if not self.active:
            return "NO_ACTIVE_KEY"
        if any(held.key.kind == "SUBSCRIPTION" for held in self.active.values()):
            return "ACTIVE_IS_SUBSCRIPTION"
        if key.type not in self.active:
            return "TYPE_MISMATCH"
        active = self.active[key.type].key
        if active.edition != key.edition:
            return "EDITION_MISMATCH"
        later = active.end is not None and (key.end is None or key.end > active.end)
        return None if later and active.serial != key.serial else "RESERVE_NOT_LATER"

    def take(self, key: PlainKey, role: str, hour: int) -> None:
        if role == "RESERVE":
            if key.type in self.reserve and self.reserve[key.type].key == key:
                return None
            self.reserve[key.type] = Held(key)
            return self.promote(hour)
        old = self.active.get(key.type)
        if old and old.key == key and old.good(hour):
            return None
        for kind in list(self.active):
            if FAMILY[kind] != FAMILY[key.type]:
                self.active.pop(kind)
        for kind in list(self.reserve):
            if FAMILY[kind] != FAMILY[key.type]:
                self.reserve.pop(kind)
        self.active[key.type] = Held(key)
        for kind, reserve in list(self.reserve.items()):
            ends_first = key.end is None or (
                reserve.key.end is not None and reserve.key.end <= key.end
            )
            same = reserve.key.serial == key.serial
            other_edition = reserve.key.edition != key.edition
            if key.kind != "COMMERCIAL" or (
                kind == key.type and (ends_first or same or other_edition)
            ):
                del self.reserve[kind]
        return self.promote(hour)

    def block(self, serial: str, hour: int) -> None:
        for kind, held in list(self.reserve.items()):
            if held.key.serial == serial:
                del self.reserve[kind]
        for held in self.active.values():
            if held.key.serial == serial and held.blocked is None:
                held.blocked = hour
        self.promote(hour)
