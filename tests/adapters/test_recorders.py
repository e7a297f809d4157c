"""The recorder of a collector; a plain capture does not load the recorder of contributions."""

import subprocess
import sys

from torch import nn

from attnchain_adapters.recorders import recorder
from attnchain_adapters.recording.attention_recorder import AttentionRecorder
from attnchain_interp.capture import ContributionCollector, StoreCollector

LOADED = """
import sys, torch
import attnchain_interp as ac
model = torch.nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval()
for maps in ("attention", "alti"):
    ac.capture(model, torch.randn(1, 4, 8), maps=maps)
    print("attnchain_adapters.contributions.recorder" in sys.modules)
"""


def test_contributions_need_their_own_recorder() -> None:
    model = nn.Sequential(nn.MultiheadAttention(8, 2))
    assert type(recorder(model, {"0": ["0"]}, {"0"}, StoreCollector())) is AttentionRecorder
    own = recorder(model, {"0": ["0"]}, {"0"}, ContributionCollector("alti", StoreCollector()))
    assert type(own).__name__ == "ContributionRecorder"


def test_a_plain_capture_does_not_load_the_recorder_of_contributions() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", LOADED], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.split() == ["False", "True"]
