"""The head of DeepLab v1: VGG's fully connected layers as convolutions with a large field of view.

Chen et al. 2015, section 4.3 (LargeFOV), as its authors' network file has it.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trivet.errors import UsageError
from trivet.models.blocks import start_normal
from trivet.structures import FeatureSpec, TaskName


class LargeFOVHead(nn.Module):
    """Class logits from one map: 3x3 average, a dilated 3x3 convolution, two of 1x1.

    Args:
        features: What the neck publishes: one map.
        classes: How many classes, background among them if the masks have one.
        hidden: Channels of the two hidden layers at width 1.
        dilation: Cells between the taps of the first convolution.
        dropout: Share dropped after each hidden layer in training, in [0, 1).
        width: Factor of `hidden`.

    Attributes:
        task: What its output is for.
        stride: Input pixels to one cell of the output.
        class_rows: Parameters with a row a class.

    Raises:
        UsageError: If there are several maps or a number is out of range.
    """

    task: TaskName = "segmentation"
    stride: int
    class_rows: dict[str, int]

    def __init__(
        self,
        features: tuple[FeatureSpec, ...],
        *,
        classes: int,
        hidden: int = 1024,
        dilation: int = 12,
        dropout: float = 0.5,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if len(features) != 1:
            raise UsageError(
                f"a large_fov head takes one map, the neck gives {len(features)}",
                "use neck='none' and a backbone cut to one level",
            )
        channels = round(hidden * width)
        if classes < 1 or channels < 1 or dilation < 1 or not 0 <= dropout < 1:
            raise UsageError(
                "a large_fov head needs classes, hidden x width and dilation >= 1 and dropout in [0, 1), "
                f"got {classes}, {hidden} x {width}, {dilation} and {dropout}"
            )
        self.stride = features[0].stride
        self.fc6 = nn.Conv2d(features[0].channels, channels, 3, padding=dilation, dilation=dilation)
        self.fc7 = nn.Conv2d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Conv2d(channels, classes, 1)
        for conv in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            start_bias = conv.bias
            assert start_bias is not None, "both have a bias"
            nn.init.zeros_(start_bias)
        start_normal(self.classifier, 0.01)
        self.class_rows = {"classifier.weight": 1, "classifier.bias": 1}

    def forward(self, maps: Sequence[Float[Tensor, "b _ h w"]]) -> Float[Tensor, "b classes h w"]:
        """Return logits of the map's size."""
        x = F.avg_pool2d(maps[0], 3, stride=1, padding=1)
        x = self.dropout(F.relu(self.fc6(x)))
        x = self.dropout(F.relu(self.fc7(x)))
        return self.classifier(x)
