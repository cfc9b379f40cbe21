"""A slow model of a fleet's year: plain words and whole hours, written from the rules alone.

It imports nothing of the package, so that both would have to make the same mistake for it to go
unseen. `None` as an hour means never.
"""

from collections import Counter
from copy import deepcopy
from typing import Any

from .year_svm import DAY, OVER, Held, PlainKey, PlainSvm, Word

BLOCK_GRACE = 8 * DAY
MILDEST = ("FULL", "LIMITED", "OFF")


class PlainYear:
    """The whole installation as the rules have it."""

    def __init__(self) -> None:
        self.keys: dict[str, PlainKey] = {}
        self.added: dict[str, int] = {}
        self.svms: dict[str, PlainSvm] = {}
        self.blocked: set[str] = set()
        self.words: dict[str, Word] = {}
        self.told_until: dict[str, int] = {}
        self.unasked: set[str] = set()
        self.successor: dict[str, str] = {}
        self.tried: set[str] = set()
        self.noticed: dict[str, tuple[int, int]] = {}
        self.bands: dict[str, str] = {}
        self.last_seen: dict[tuple[str, str], int] = {}
        self.events: Counter[tuple[Any, ...]] = Counter()

    def add_key(self, key: PlainKey, hour: int) -> None:
        self.keys[key.serial] = key
        self.added[key.serial] = hour

    # Tasks and their way to the SVMs.

    def task(
        self, serial: str, role: str, names: list[str], hour: int, *, again: bool = False
    ) -> dict[str, str]:
        """The refusals by SVM; what is not refused waits for its SVM."""
        key, refused = self.keys[serial], {}
        for name in names:
            svm = self.svms[name]
            later = deepcopy(svm)
            later.live(hour)
            for _, waits, as_role in svm.waiting:
                if later.why_not(self.keys[waits], as_role, hour) is None:
                    later.take(self.keys[waits], as_role, hour)
            reason = later.why_not(key, role, hour)
            if role == "ACTIVE" and not again and self.in_grace(svm, hour):
                reason = "SUBSCRIPTION_IN_GRACE"
            if reason:
                refused[name] = reason
                continue
            held = later.active.get(key.type)
            unchanged = held is not None and held.key == key and held.good(hour)
            if role == "ACTIVE" and unchanged and not svm.waiting:
                self.activated(svm)
            svm.waiting = [one for one in svm.waiting if (one[0], one[2]) != (key.type, role)]
            svm.waiting.append((key.type, serial, role))
        return refused

    def in_grace(self, svm: PlainSvm, hour: int) -> bool:
        """R52."""
        words = [self.words.get(held.key.serial) for held in svm.active.values()]
        return any(word.at(hour) == "GRACE" for word in words if word)

    def meet(self, name: str, hour: int) -> None:
        """An SVM that is there follows what waits, hears of blocks, and reports."""
        svm = self.svms[name]
        svm.live(hour)
        self.report(svm, hour)
        for _, serial, role in svm.waiting:
            if svm.why_not(self.keys[serial], role, hour) is None:
                svm.take(self.keys[serial], role, hour)
                if role == "ACTIVE":
                    self.activated(svm)
        svm.waiting = []
        for serial in sorted(self.blocked):
            if any(held.key.serial == serial for held in [*svm.active.values()]) or any(
                held.key.serial == serial for held in svm.reserve.values()
            ):
                svm.block(serial, hour)
        self.report(svm, hour)

    def clock_jumps(self, name: str) -> None:
        """R82: what voids the keys of which the server knows."""
        svm = self.svms[name]
        if svm.reported and not svm.void:
            svm.void = True
            self.events[("KEYS", name, "VOIDED")] += 1

    def activated(self, svm: PlainSvm) -> None:
        """R82: the second half of what it takes; the first is to register anew."""
        if svm.anew:
            svm.void = svm.anew = False
            self.events[("KEYS", svm.name, "REINSTATED")] += 1

    def report(self, svm: PlainSvm, hour: int) -> None:
        self.note_pairs(svm, hour)
        svm.reported = {kind: held.key.serial for kind, held in svm.active.items()}
        svm.pairs = {
            (serial, vm): svm.off.get(vm)
            for vm, os in (svm.guests or {}).items()
            for kind, serial in svm.reported.items()
            if kind == ("DESKTOP" if os == "DESKTOP" else "SERVER")
        }
        self.note_pairs(svm, hour)
        self.events.update(svm.unreported)
        svm.unreported = []
        svm.seen = hour

    # What the passing of time brings on the server.

    def poll(self, serial: str, heard: Word | None, hour: int) -> None:
        """R58-R62, R96; `heard.state` is what the provider says of this moment."""
        known = self.words.get(serial)
        if heard is None and known is None:
            return
        word = known
        if heard is not None:
            word = heard._replace(since=hour)
            if known is not None and heard.state in (known.state, known.at(hour)):
                same = heard._replace(state=known.state, since=known.since)
                if same == known:
                    word = known
                elif heard.state == known.state:
                    word = heard._replace(since=known.since)
        assert word is not None
        if word == known:
            for turn in sorted({one for one in (word.end, word.grace_end()) if one is not None}):
                before = word.at(turn - 1)
                if self.told_until[serial] < turn <= hour and word.at(turn) != before:
                    self.events[("SUBSCRIPTION", serial, word.at(turn), turn)] += 1
        else:
            self.events[("SUBSCRIPTION", serial, word.at(hour), hour)] += 1
        self.words[serial], self.told_until[serial] = word, hour
        if word.at(hour) in OVER:
            self.unasked.add(serial)
        else:
            self.unasked.discard(serial)

    def renewed(self, serial: str, hour: int) -> bool:
        """R60: whether the provider goes on beyond the key, so that there is a new one."""
        word, key = self.words[serial], self.keys[serial]
        if key.end is None or word.at(hour) != "ACTIVE":
            return False
        return key.end - hour <= 3 * DAY if word.end is None else word.end > key.end

    def succeed(self, serial: str, new: PlainKey, hour: int, *, deliver: bool) -> None:
        self.add_key(new, hour)
        self.successor[serial] = new.serial
        self.words[new.serial] = self.words[serial]
        self.told_until[new.serial] = hour
        self.unasked.add(serial)
        if deliver:
            names = [name for name, svm in self.svms.items() if serial in svm.reported.values()]
            self.task(new.serial, "ACTIVE", names, hour, again=True)

    def hear_block(self, serial: str) -> None:
        self.blocked.add(serial)
        for svm in self.svms.values():
            svm.waiting = [one for one in svm.waiting if one[1] != serial]

    def to_renew(self, hour: int) -> dict[str, list[str]]:
        """R16, R88: code-based keys that have just ended in use, and who has nothing else."""
        found = {}
        for serial, key in self.keys.items():
            over = key.end is not None and key.end <= hour
            if not (key.by_code and key.kind == "COMMERCIAL" and over):
                continue
            users = [svm for svm in self.svms.values() if serial in svm.reported.values()]
            if users and serial not in self.tried | self.blocked:
                self.tried.add(serial)
                found[serial] = [
                    svm.name
                    for svm in users
                    if any(held.key.serial == serial for held in svm.active.values())
                ]
        return found

    def notices(self, hour: int) -> None:
        """R93: 30, 15, 5, 1, 0 days, once; the nearest of those missed; milder where covered."""
        for serial, key in self.keys.items():
            word, end, grace = self.words.get(serial), key.end, 0
            if word is not None:
                end = None if word.state in ("PENDING", *OVER) else word.end
                grace = 0 if word.state == "CANCELLED_SOFT" else word.grace
            if end is None or serial in self.blocked or serial in self.successor:
                continue
            left = max(0, -((hour - end) // DAY))
            reached = [days for days in (30, 15, 5, 1, 0) if left <= days]
            told_end, told = self.noticed.get(serial, (None, 99))
            if not reached or (told_end == end and min(reached) >= told):
                continue
            days = min(reached)
            bare = 0
            for svm in self.svms.values() if not grace else ():
                for kind, held in svm.active.items():
                    reserve = svm.reserve.get(kind)
                    saved = reserve and reserve.blocked is None and reserve.key.good(end)
                    bare += held.key.serial == serial and not saved
            loud = {30: 1, 15: 1, 5: 2, 1: 2, 0: 3}[days] if bare else 1
            at = max(end - days * DAY, self.added[serial])
            self.events[("NOTICE", serial, days, loud, bare, at)] += 1
            self.noticed[serial] = (end, days)

    def note_pairs(self, svm: PlainSvm, hour: int) -> None:
        for pair, off in svm.pairs.items():
            self.last_seen[pair] = max(hour if off is None else off, self.last_seen.get(pair, 0))

    def units(self, hour: int) -> dict[str, int]:
        """R67, R68, R91."""
        for svm in self.svms.values():
            self.note_pairs(svm, hour)
        used: Counter[str] = Counter()
        for (serial, _vm), last in self.last_seen.items():
            used[serial] += hour - last < 30 * DAY
        hosts: dict[tuple[str, str], int] = {}
        for svm in self.svms.values():
            for kind, serial in svm.reported.items():
                if kind == "CORES":
                    hosts[serial, svm.host] = svm.cores
                elif svm.guests is None:
                    used[serial] += svm.mix[kind == "DESKTOP"]
        for (serial, _host), cores in hosts.items():
            used[serial] += cores
        return {serial: count for serial, count in used.items() if count}

    def limits(self, hour: int) -> None:
        """R63-R66, R92; called once a day at the most."""
        used = self.units(hour)
        for serial in used.keys() | self.bands.keys():
            key, count = self.keys[serial], used.get(serial, 0)
            if serial in self.blocked or (key.end is not None and hour >= key.end):
                continue
            tenths, limit = 10 * count, key.limit
            band = (
                "CRITICAL"
                if tenths > 11 * limit
                else "WARNING"
                if tenths >= 10 * limit
                else "INFO"
                if tenths >= 9 * limit
                else "OK"
            )
            if band != self.bands.get(serial, "OK"):
                self.events[("LIMIT", serial, band, count)] += 1
            self.bands[serial] = band

    # How an SVM is.

    def mode(self, svm: PlainSvm, hour: int) -> str:
        """R54, R70, R71, R82, R90, R95, R96."""
        modes = [self.mode_of(held, hour) for held in svm.active.values()]
        mildest = min(modes, key=MILDEST.index, default="OFF")
        return "LIMITED" if svm.void and mildest == "FULL" else mildest

    def mode_of(self, held: Held, hour: int) -> str:
        word, key = self.words.get(held.key.serial), held.key
        if word is not None and not word.works(hour):
            return "OFF" if word.at(hour) in OVER and word.stops else "LIMITED"
        if word is None and key.end is not None and hour >= key.end:
            return "OFF" if key.kind == "TRIAL" else "LIMITED"
        if held.blocked is not None and hour - held.blocked >= BLOCK_GRACE:
            return "LIMITED"
        return "FULL"

    def status(self, svm: PlainSvm, hour: int) -> set[str]:
        """R94."""
        found = set() if svm.active else {"NO_ACTIVE_KEY"}
        covered: set[str] = set()
        for kind, held in svm.active.items():
            word, end = self.words.get(held.key.serial), held.key.end
            works = word.works(hour) if word else held.key.good(hour)
            if held.blocked is not None:
                found.add("KEY_BLOCKED")
            elif works:
                covered |= {"SERVER", "DESKTOP"} if kind == "CORES" else {kind}
            if word is not None:
                state = word.at(hour)
                if state in OVER:
                    found.add("SUBSCRIPTION_OVER")
                elif state == "GRACE":
                    found.add("SUBSCRIPTION_IN_GRACE")
                elif state in ("PAUSED", "PENDING"):
                    found.add("SUBSCRIPTION_PAUSED")
                elif word.end is not None and word.end - hour <= 14 * DAY:
                    found.add("EXPIRES_SOON")
            elif end is not None and hour >= end:
                found.add("KEY_EXPIRED")
            elif end is not None and end - hour <= 14 * DAY and kind not in svm.reserve:
                found.add("EXPIRES_SOON")
        if svm.void and svm.active:
            found.add("KEY_VOID")
        if svm.void:
            covered = set()
        wanted = {kind for kind, count in zip(("SERVER", "DESKTOP"), svm.mix, strict=True) if count}
        if wanted - covered:
            found.add("UNCOVERED_OS_CLASS")
        if not svm.online and hour - svm.seen >= 2:
            found.add("SILENT")
        return found
