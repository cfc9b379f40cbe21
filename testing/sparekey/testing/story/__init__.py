"""The story behind `make run`: the main job on a small fleet, with the real programs."""
