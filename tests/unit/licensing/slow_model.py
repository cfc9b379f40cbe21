"""A slow model of the rules: it knows hours and plain words only and lives through every hour.

Written from the rules, not from the code: it imports nothing of the package, so that both would
have to make the same mistake for it to go unseen.
"""

from typing import Any, NamedTuple

TYPES = ("SERVER", "DESKTOP", "CORES", "PROCESSORS")
FAMILY = {"SERVER": "vm", "DESKTOP": "vm", "CORES": "core", "PROCESSORS": "processor"}


class PlainKey(NamedTuple):
    serial: str
    type: str
    kind: str
    edition: str
    start: int
    end: int | None


class Held:
    def __init__(self, key: PlainKey, hour: int) -> None:
        self.key = key
        self.since = hour
        self.ended: int | None = None
        self.blocked: int | None = None

    def good(self, hour: int) -> bool:
        over = self.key.end is not None and hour >= self.key.end
        return self.blocked is None and hour >= self.key.start and not over


class SlowModel:
    def __init__(self) -> None:
        self.active: dict[str, Held] = {}
        self.reserve: dict[str, Held] = {}
        self.log: list[tuple[Any, ...]] = []

    def note(
        self, hour: int, what: str, where: str, serial: str, why: str, old: Any = None
    ) -> None:
        self.log.append((hour, what, where, serial, why, old))

    def live_through(self, hour: int) -> None:
        """R11, R85, R87: at each hour a good reserve replaces a bad active key of its type."""
        for name in TYPES:
            active, reserve = self.active.get(name), self.reserve.get(name)
            if active is None:
                continue
            if reserve and reserve.good(hour) and not active.good(hour):
                self.promote(name, hour, self.why_bad(active), active.key.serial)
            elif active.key.end == hour and active.ended is None:
                active.ended = hour
                self.note(hour, "KEY_EXPIRED", f"{name} ACTIVE", active.key.serial, "EXPIRED")

    def why_bad(self, active: Held) -> str:
        end, blocked = active.key.end, active.blocked
        if blocked is not None and (end is None or blocked < end):
            return "ACTIVE_BLOCKED"
        return "ACTIVE_EXPIRED"

    def promote(self, name: str, hour: int, why: str, old: str) -> None:
        self.active[name] = self.reserve.pop(name)
        serial = self.active[name].key.serial
        self.note(hour, "RESERVE_PROMOTED", f"{name} ACTIVE", serial, why, old)

    def drop_reserve(self, name: str, hour: int, why: str) -> None:
        serial = self.reserve.pop(name).key.serial
        self.note(hour, "RESERVE_REMOVED", f"{name} RESERVE", serial, why)

    def add_active(self, key: PlainKey, hour: int, blocked: bool) -> str | None:
        if blocked:
            return "KEY_BLOCKED"
        if key.end is not None and key.end <= hour:
            return "KEY_EXPIRED"
        if key.start > hour:
            return "KEY_NOT_YET_VALID"
        foreign = [name for name in TYPES if FAMILY[name] != FAMILY[key.type]]
        if key.kind == "TRIAL":  # R27
            for name in [key.type, *foreign]:
                old = self.active.get(name)
                if old and old.key.kind == "COMMERCIAL" and old.good(hour):
                    return "TRIAL_OVER_COMMERCIAL"
        mine = self.active.get(key.type)
        if mine and mine.key.serial == key.serial and mine.good(hour):  # R97
            return None
        for name in foreign:  # R36, R37
            if name in self.reserve:
                self.drop_reserve(name, hour, "SCHEME_CHANGED")
        for name in foreign:
            if name in self.active:
                serial = self.active.pop(name).key.serial
                self.note(hour, "KEY_REMOVED", f"{name} ACTIVE", serial, "SCHEME_CHANGED")
        what = "KEY_REPLACED" if mine else "KEY_ACTIVATED"  # R35, R38
        old_serial = mine.key.serial if mine else None
        self.active[key.type] = Held(key, hour)
        self.note(hour, what, f"{key.type} ACTIVE", key.serial, "REQUESTED", old_serial)
        for name in TYPES:  # R18, R83, R86
            if name not in self.reserve:
                continue
            spare = self.reserve[name].key
            if key.kind != "COMMERCIAL":
                self.drop_reserve(name, hour, "ACTIVE_NOT_COMMERCIAL")
            elif name == key.type and spare.edition != key.edition:
                self.drop_reserve(name, hour, "EDITION_CHANGED")
            elif name == key.type and (spare.end or 0) <= (key.end or 0):
                self.drop_reserve(name, hour, "RESERVE_ENDS_TOO_EARLY")
        self.live_through(hour)
        return None

    def add_reserve(self, key: PlainKey, hour: int, blocked: bool) -> str | None:
        active = self.active.get(key.type)
        kinds = {held.key.kind for held in self.active.values()}
        checks = [  # R77
            ("KEY_BLOCKED", blocked),
            ("KEY_EXPIRED", key.end is not None and key.end <= hour),
            ("KIND_NOT_ALLOWED_AS_RESERVE", key.kind != "COMMERCIAL"),
            ("NO_ACTIVE_KEY", not self.active),
            ("ACTIVE_IS_SUBSCRIPTION", "SUBSCRIPTION" in kinds),
            ("TYPE_MISMATCH", not active),
            ("EDITION_MISMATCH", active and active.key.edition != key.edition),
            ("RESERVE_NOT_LATER", active and (key.end or 0) <= (active.key.end or 0)),
        ]
        for refusal, failed in checks:
            if failed:
                return refusal
        old = self.reserve.get(key.type)
        if old and old.key.serial == key.serial:
            return None
        what = "RESERVE_REPLACED" if old else "RESERVE_ADDED"  # R84
        self.reserve[key.type] = Held(key, hour)
        old_serial = old.key.serial if old else None
        self.note(hour, what, f"{key.type} RESERVE", key.serial, "REQUESTED", old_serial)
        self.live_through(hour)
        return None

    def remove(self, name: str, role: str, hour: int) -> str | None:
        if name not in (self.active if role == "ACTIVE" else self.reserve):
            return "SLOT_EMPTY"
        if role == "RESERVE":
            self.drop_reserve(name, hour, "REQUESTED")
            return None
        serial = self.active.pop(name).key.serial
        self.note(hour, "KEY_REMOVED", f"{name} ACTIVE", serial, "REQUESTED")
        if name in self.reserve:  # R85
            if self.reserve[name].good(hour):
                self.promote(name, hour, "ACTIVE_REMOVED", serial)
            else:
                self.drop_reserve(name, hour, "ACTIVE_REMOVED")
        return None

    def block(self, serial: str, hour: int) -> None:
        for name in TYPES:
            active, reserve = self.active.get(name), self.reserve.get(name)
            if active and active.key.serial == serial and active.blocked is None:  # R72
                active.blocked = hour
                self.note(hour, "KEY_BLOCKED", f"{name} ACTIVE", serial, "BLOCKED")
            if reserve and reserve.key.serial == serial:  # R87
                self.drop_reserve(name, hour, "BLOCKED")
        self.live_through(hour)
