"""What every Sparekey program needs to run: time, logs, a start that refuses in one sentence."""
