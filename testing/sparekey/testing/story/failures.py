"""How a story ends that does not end well."""

from __future__ import annotations


class StoryFailed(Exception):
    """The story cannot go on, or did not come true; the message is one sentence."""
