"""An exported file, opened: what it may hold, and predictions from it through ONNX Runtime.

A file is somebody else's: it is read as bytes, so that nothing in it can name another file, and everything that is not
as `assemble` writes it is refused.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime
import torch
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto

from trivet.errors import TrainingError, UsageError
from trivet.export.assemble import OUTPUT_TYPES
from trivet.export.facts import IMAGE, OUTPUTS, ExportFacts
from trivet.structures import ClassScores, Detections, MaskScores

Found: TypeAlias = Detections | MaskScores | ClassScores

LARGEST = 2**31 - 1
"""Bytes of the largest file that protobuf reads."""

_MAKE = "make it with trivet export RUN --to onnx"


@dataclass(frozen=True)
class OnnxFile:
    """An exported file that is ready to predict.

    Args:
        path: The file.
        facts: What it says of itself.
        session: ONNX Runtime's.
    """

    path: Path
    facts: ExportFacts
    session: Any

    def predict(self, images: Sequence[np.ndarray]) -> list[Found]:
        """Return what is found in each uint8 RGB image `[h, w, 3]`, in its own pixels.

        Images of one size go through together.

        Raises:
            TrainingError: If the weights give what is not finite.
        """
        if len({image.shape for image in images}) > 1:
            return [self.predict([image])[0] for image in images]
        if not images:
            return []
        values = self.session.run(list(OUTPUTS[self.facts.task]), {IMAGE: np.stack(images)})
        results = dict(zip(OUTPUTS[self.facts.task], values, strict=True))
        if not np.isfinite(results["scores"]).all():
            raise TrainingError(
                f"{self.path}: the model's output is not finite",
                "its weights have diverged; export another run",
            )
        return [self._found(results, number) for number in range(len(images))]

    def _found(self, results: dict[str, np.ndarray], number: int) -> Found:
        """Return one image's prediction, as copies: a view would keep the whole batch."""
        if self.facts.task == "classification":
            return ClassScores(torch.tensor(results["scores"][number]))
        if self.facts.task == "segmentation":
            return MaskScores(
                torch.tensor(results["labels"][number]), torch.tensor(results["scores"][number])
            )
        count = int(results["counts"][number])
        boxes, scores, labels = (results[key][number, :count] for key in ("boxes_xyxy", "scores", "labels"))
        return Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels))


def open_onnx(path: str | Path, *, threads: int = 0) -> OnnxFile:
    """Open a file that `trivet export` wrote.

    Args:
        path: The file.
        threads: Of one prediction; 0 takes one a core.

    Raises:
        UsageError: If it is absent, damaged, not one of ours, or refers to other files.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path} is larger than the 2 GiB an ONNX file may have", _MAKE)
        content = path.read_bytes()
    except OSError as fault:
        raise UsageError(f"cannot read {path}: {fault.strerror}", _MAKE) from fault
    facts = check_file(content, source=str(path))
    return OnnxFile(path, facts, start_session(content, source=str(path), threads=threads))


def start_session(content: bytes, *, source: str, threads: int = 0) -> Any:
    """Return ONNX Runtime's session on the CPU for the bytes of a file.

    Raises:
        UsageError: If ONNX Runtime refuses it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # ONNX Runtime's own classes, which have no base but this
        raise UsageError(
            f"{source}: ONNX Runtime cannot use it: {str(fault).splitlines()[0][:300]}", _MAKE
        ) from fault


def check_file(content: bytes, *, source: str) -> ExportFacts:
    """Return what an exported file says of itself.

    Raises:
        UsageError: If it is damaged, refers to other files, or is not as `trivet export` writes it.
    """
    try:
        proto = ModelProto.FromString(content)
    except DecodeError as fault:
        raise UsageError(f"{source} is not a whole ONNX file", _MAKE) from fault
    for tensor in _tensors([proto.graph]):
        if tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data):
            raise UsageError(
                f"{source}: refused, for its tensor {tensor.name[:60]!r} is kept in another file", _MAKE
            )
    if len(proto.functions) or len(proto.training_info) or any(item.domain for item in proto.opset_import):
        raise UsageError(f"{source}: refused, for it brings operators of its own", _MAKE)
    facts = ExportFacts.from_metadata({item.key: item.value for item in proto.metadata_props}, source=source)
    _check_ends(proto.graph, facts, source)
    return facts


def _check_ends(graph: GraphProto, facts: ExportFacts, source: str) -> None:
    """Compare the inputs and outputs with those of the task the file names."""
    wanted = {name: OUTPUT_TYPES[f"{facts.task}/{name}"] for name in OUTPUTS[facts.task]}
    outputs = {item.name: _described(item) for item in graph.output}
    inputs = {item.name: _described(item) for item in graph.input}
    ends = {name: (kind, len(shape)) for name, (kind, shape) in wanted.items()}
    if inputs != {IMAGE: (TensorProto.UINT8, 4)} or outputs != ends:
        raise UsageError(
            f"{source} says it is for {facts.task}, but has the inputs {sorted(inputs)} and the outputs {sorted(outputs)}",
            _MAKE,
        )


def _described(item: ValueInfoProto) -> tuple[int, int]:
    kind = item.type.tensor_type
    return kind.elem_type, len(kind.shape.dim)


def _tensors(graphs: Iterable[GraphProto]) -> Iterator[TensorProto]:
    """Yield every tensor of some graphs and of those inside their nodes."""
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from _of_attribute(attribute)


def _of_attribute(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    sparse = [
        *attribute.sparse_tensors,
        *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
    ]
    for item in sparse:
        yield from (item.values, item.indices)
    yield from _tensors([*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])])
