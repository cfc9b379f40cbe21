"""The fault suite: real servers and agents under cuts, kills, freezes and full disks."""
