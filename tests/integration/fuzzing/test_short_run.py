"""A short run of the fuzzing from a fixed seed; `make fuzz` is the long one."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fuzz.inputs import Inputs
from fuzz.targets import (
    SERVICES,
    FuzzedServer,
    fuzz_certificate_requests,
    fuzz_key_files,
    fuzz_state_files,
)

from sparekey.certificates.keys import make_request, new_key

SEED = 20_300_101
INPUTS = 48


@pytest.fixture
async def fuzzed() -> AsyncIterator[FuzzedServer]:
    # Not below the run's folder: the fuzzing puts codes into names on purpose.
    with tempfile.TemporaryDirectory(prefix="sparekey-fuzz-") as folder:
        async with FuzzedServer(Path(folder), SEED) as server:
            yield server


async def test_no_rpc_breaks_on_hostile_input(fuzzed: FuzzedServer) -> None:
    for service in SERVICES:
        for method in service.methods:
            await fuzzed.fuzz(method, INPUTS, INPUTS)
    counts = fuzzed.counts
    assert len(counts.inputs) >= 30
    assert set(counts.inputs.values()) == {2 * INPUTS}
    # It would prove little if nothing were taken, or if no refusal were looked at.
    assert counts.accepted.total() > 100
    assert counts.unchanged > 50
    assert {"INVALID_FIELD", "UNDECODABLE_MESSAGE"} <= counts.reasons.keys()


@pytest.mark.parametrize(
    "fuzz",
    [fuzz_key_files, fuzz_state_files, fuzz_certificate_requests],
    ids=lambda fuzz: fuzz.__name__,
)
def test_no_reader_of_files_breaks_on_hostile_input(
    fuzz: Callable[[Inputs, random.Random, int], Counter[str]],
) -> None:
    inputs = Inputs(random.Random(SEED), ["svm-1"], [make_request(new_key())])
    told = fuzz(inputs, random.Random(SEED), 500)
    assert told.total() == 1000
    assert told["taken"] < 20
