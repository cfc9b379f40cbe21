"""What happens to licenses over time: subscriptions, notices, limits, the server's own clock."""
