"""Models and traces of the nnsight before ours: the tests of ours, where .ci/run has an environment for it."""

from __future__ import annotations

import nnsight
import pytest

if nnsight.__version__ >= "0.8":
    pytest.skip("nnsight 0.7 is not installed; .ci/run runs this, with nnsight<0.8", allow_module_level=True)

from ..adapters.test_nnsight_models import *  # noqa: F403
from ..adapters.tracing.test_layer_choice import *  # noqa: F403
from ..adapters.tracing.test_position import *  # noqa: F403
from ..adapters.tracing.test_shown_attention import *  # noqa: F403
from ..adapters.tracing.test_steps import *  # noqa: F403
from ..adapters.tracing.test_two_invokes import *  # noqa: F403
