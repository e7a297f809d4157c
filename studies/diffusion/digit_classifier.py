"""The digit classifier: a small convolutional network. Its features and classes score samples of digits."""

from __future__ import annotations

from pathlib import Path
from typing import final

from safetensors.torch import load_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).with_name("digit_classifier.safetensors")
FEATURES = 64


@final
class DigitClassifier(nn.Module):
    """Maps images (batch, 1, 32, 32) in [0, 1] to logits (batch, 10). `features` (batch, 64) feed the last layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.BatchNorm2d(1)]
        for before, after in ((1, 16), (16, 32), (32, FEATURES), (FEATURES, FEATURES)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(FEATURES, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def trained_digit_classifier() -> DigitClassifier:
    """Returns the trained classifier in eval mode. `python -m studies.training.digit_classifier` trains it."""
    model = DigitClassifier()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval()
