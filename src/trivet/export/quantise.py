"""The network in 8-bit integers: static quantisation with ranges seen on real images (ONNX Runtime's QDQ form)."""

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from trivet.export.network import IMAGES


class _Batches(CalibrationDataReader):
    """Hands the calibrator one batch after another."""

    def __init__(self, batches: Iterable[np.ndarray]) -> None:
        self._left: Iterator[np.ndarray] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._left, None)
        return None if batch is None else {IMAGES: batch}


def quantise_network(network: ModelProto, batches: Iterable[np.ndarray]) -> ModelProto:
    """Return the network with convolutions in 8 bits: weights a scale a channel, activations the range they had.

    The last convolution before each output stays as it is: its errors go straight into scores and boxes.

    Args:
        network: What `export_network` made.
        batches: Normalised images, float32 `[b, 3, h, w]`, of the training split.
    """
    with TemporaryDirectory() as folder, _quiet():
        plain, fused, done = (Path(folder) / name for name in ("plain.onnx", "fused.onnx", "int8.onnx"))
        onnx.save(network, plain)
        quant_pre_process(str(plain), str(fused), skip_symbolic_shape=True)
        last = _last_convolutions(onnx.load(fused))
        quantize_static(
            str(fused),
            str(done),
            _Batches(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=last,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        result = onnx.load(done)
    for item, original in zip(result.graph.output, network.graph.output, strict=True):
        item.CopyFrom(original)
    return result


def _last_convolutions(network: ModelProto) -> list[str]:
    made_by = {name: node for node in network.graph.node for name in node.output}
    makers = [made_by[item.name] for item in network.graph.output if item.name in made_by]
    return [node.name for node in makers if node.op_type == "Conv"]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser logs its advice to the root logger."""
    root = logging.getLogger()
    level = root.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            root.setLevel(logging.ERROR)
            yield
        finally:
            root.setLevel(level)
