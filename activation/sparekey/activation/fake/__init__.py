"""A fake activation server, for tests only: it grants whatever it was told to grant."""
