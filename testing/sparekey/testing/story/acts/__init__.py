"""The acts of the story, one a file, played in the order of `play`."""

from __future__ import annotations

from sparekey.testing.story.acts.activating import activate_the_fleet
from sparekey.testing.story.acts.book import Book
from sparekey.testing.story.acts.passing_time import walk_past_the_ends
from sparekey.testing.story.acts.renewing import renew_the_fleet
from sparekey.testing.story.acts.replacing import replace_an_active_key
from sparekey.testing.story.acts.summing_up import sum_up
from sparekey.testing.story.figures import Figures


def play(book: Book, began: float) -> Figures:
    """Play every act; return the figures.

    Args:
        book: The story's book, still empty.
        began: When the story began, by `time.monotonic`.

    Raises:
        StoryFailed: something did not come true.
    """
    activate_the_fleet(book)
    renew_the_fleet(book)
    replace_an_active_key(book)
    walk_past_the_ends(book)
    return sum_up(book, began)
