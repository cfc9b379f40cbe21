"""The link to the agents: their streams, what is pushed to them and what they report."""
