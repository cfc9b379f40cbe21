"""The license server: key storage, activation tasks, the agents' link, history."""
