"""Hostile clients on loopback, and what they cost the others."""
