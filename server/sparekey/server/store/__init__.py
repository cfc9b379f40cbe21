"""All of the server's SQL: the schema, the one writer that commits in groups, and the reads."""
