"""Transformer attention read as a Markov chain.

A source turns inputs into an `AttentionStore`; a weighting turns a store into one Markov `Chain` per example; a
functional turns a chain into one score per token. `MultiBounce` is weighting → bounce; `TokenRank` is weighting →
stationary distribution; rollout is the same picture with a product over layers; row-select and column-sum are one bounce
from a one-hot and from the uniform start. The paper's methods and the baselines share this one path.

The public names stand in `__init__.pyi`. Each is loaded on its first use: Captum loads pyplot, and pictures load matplotlib.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

from attnchain_interp.capture.capture import capture as capture  # noqa: E402 - the function, not the room of the same name
