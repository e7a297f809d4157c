"""Speed and memory, each held against its bar: `python -m studies.speed`."""
