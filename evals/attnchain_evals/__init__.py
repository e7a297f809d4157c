"""Evidence for attributions: perturbation curves, localisation, a benchmark, and the bundled tasks and models.

The public names stand in `__init__.pyi`. Each is loaded on its first use: the command line answers `--help` without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
