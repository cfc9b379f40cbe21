"""A short run of the fuzzing from a fixed seed; `make fuzz` is the long one."""

from __future__ import annotations

import random
from itertools import groupby

import pytest
from fuzz.files import FILES
from fuzz.fuzzing import Tried
from fuzz.running import METHODS, UNTAKEN, fuzz_methods

from sparekey.server.access.roles import ROLES

SEED = 20_300_101
INPUTS = 48


# An RPC is tried in the server of its service's others, which starts once for all of them.
BY_SERVICE = [
    list(names) for _, names in groupby(METHODS, key=lambda name: name.rpartition("/")[0])
]


def test_every_rpc_is_fuzzed() -> None:
    assert ROLES.keys() <= METHODS.keys()


@pytest.mark.parametrize("names", BY_SERVICE, ids=lambda names: names[0].split("/")[1])
async def test_no_rpc_breaks_on_hostile_input(names: list[str]) -> None:
    tried = await fuzz_methods(names, INPUTS, SEED)
    assert [one.name for one in tried] == names
    for one in tried:
        assert (one.structured, one.mutated) == (INPUTS, INPUTS)
        # It would prove little if nothing were taken, or if no refusal were looked at.
        assert one.structured_taken * 20 > one.structured or one.name in UNTAKEN, one
        assert one.unchanged > one.refused / 2 > 0, one


@pytest.mark.parametrize("name", FILES)
def test_no_reader_of_files_breaks_on_hostile_input(name: str) -> None:
    tried: Tried = FILES[name](random.Random(SEED), 500)
    assert tried.structured + tried.mutated == 1000
    assert 0 < tried.structured_taken < 450
    assert tried.mutated_taken < 20
