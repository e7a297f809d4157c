"""Linear probes: a classifier on the frozen features of a vision transformer."""

from attnchain_evals.probes.kept_probe import check_source as check_source
from attnchain_evals.probes.kept_probe import kept_probe as kept_probe
from attnchain_evals.probes.linear_probe import LinearProbe as LinearProbe
