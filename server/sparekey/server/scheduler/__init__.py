"""What the server does at due instants: deadlines, renewals by code, checks of keys."""
