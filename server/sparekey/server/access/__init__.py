"""Who may call what: roles, tokens, certificates of SVMs, limits."""
