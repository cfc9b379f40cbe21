"""What happens to keys in the storage: added, deleted, blocked, renewed."""
