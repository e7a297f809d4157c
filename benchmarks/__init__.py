"""The commands behind every number: `python -m benchmarks` (speed and memory), `.results` and `.choose_defaults`."""
