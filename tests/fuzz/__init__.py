"""Hostile input for every RPC, for key files and for the agent's state file."""
