"""The fleet as operators see it, and what they may change about it."""
