"""Guests by OS class, and the host's processors."""

import pytest

from sparekey.licensing.guests import GuestMix, HostCpu, OsClass


def test_R91_an_unknown_guest_counts_as_a_server() -> None:
    mix = GuestMix(servers=2, desktops=3, unknown=4)
    assert mix.count(OsClass.SERVER) == 6
    assert mix.count(OsClass.DESKTOP) == 3
    assert mix.total == 9
    assert GuestMix(0, 0, 1).classes() == {OsClass.SERVER}


@pytest.mark.parametrize(
    ("mix", "classes"),
    [
        (GuestMix(0, 0, 0), set()),
        (GuestMix(1, 0, 0), {OsClass.SERVER}),
        (GuestMix(0, 1, 0), {OsClass.DESKTOP}),
        (GuestMix(1, 1, 0), {OsClass.SERVER, OsClass.DESKTOP}),
        (GuestMix(0, 1, 1), {OsClass.SERVER, OsClass.DESKTOP}),
    ],
)
def test_R33_the_classes_are_those_with_a_guest(mix: GuestMix, classes: set[OsClass]) -> None:
    assert mix.classes() == classes


@pytest.mark.parametrize("field", ["servers", "desktops", "unknown"])
def test_counts_of_guests_are_not_negative(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        GuestMix(**{field: -1})


def test_counts_of_processors_are_not_negative() -> None:
    assert HostCpu(processors=2, cores=16).cores == 16
    with pytest.raises(ValueError, match="cores"):
        HostCpu(processors=1, cores=-1)
    with pytest.raises(ValueError, match="processors"):
        HostCpu(processors=-1, cores=1)
