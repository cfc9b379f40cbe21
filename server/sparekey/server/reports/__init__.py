"""Reports: gathering what they need, and their messages."""
