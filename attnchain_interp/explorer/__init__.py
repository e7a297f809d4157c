"""One self-contained HTML page in which attention bounces: pointed at, stepped through, exported, without a server."""

from attnchain_interp.explorer.explorer import Explorer, explore

__all__ = ["Explorer", "explore"]
