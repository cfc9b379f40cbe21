"""R30: the shapes of serials, and that they are drawn from the given source."""

import re
from random import Random

from sparekey.activation.fake.serials import new_serial, preview_serial
from sparekey.licensing.keys import KeyOrigin


def test_R30_serials_have_the_shape_of_their_origin() -> None:
    randomness = Random(1)
    for _ in range(200):
        by_code = new_serial(KeyOrigin.ACTIVATION_CODE, randomness, ())
        assert re.fullmatch(r"[0-9A-F]{32}", by_code)
        by_file = new_serial(KeyOrigin.KEY_FILE, randomness, ())
        assert re.fullmatch(r"[0-9A-F]{4}-[0-9A-F]{6}-[0-9A-F]{8}", by_file)
    assert re.fullmatch(r"[0-9A-F]{32}", preview_serial("digest", "here"))
    assert preview_serial("digest", "here") != preview_serial("digest", "there")


def test_a_seeded_source_that_starts_over_repeats_no_serial() -> None:
    taken: list[str] = []
    for _ in range(3):
        taken.append(new_serial(KeyOrigin.KEY_FILE, Random(7), taken))
    assert len(set(taken)) == 3
    assert taken[0] == new_serial(KeyOrigin.KEY_FILE, Random(7), ())
