"""What initlint finds, and what it leaves alone; run with `python -m benchmarks.NAME`."""
