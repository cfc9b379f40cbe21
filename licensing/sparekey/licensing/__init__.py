"""The licensing rules, pure: no I/O, no clock, no randomness. Import the modules themselves."""
