"""Who is who by certificate: the authority that issues them, and the identity that each carries."""
