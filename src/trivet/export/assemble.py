"""One ONNX file from raw pixels to predictions: letterbox, network, decoding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from trivet.export.box_nodes import add_candidates, add_suppression
from trivet.export.facts import IMAGE, OUTPUTS, ExportFacts
from trivet.export.graph import IR_VERSION, OPSET, Graph, Shape, described
from trivet.export.letterbox_nodes import add_letterbox
from trivet.export.network import IMAGES, with_products
from trivet.export.pixel_nodes import add_masks
from trivet.models.model import Model
from trivet.tasks.box_task import BoxTask
from trivet.tasks.classification import ClassificationTask
from trivet.tasks.detection import DetectionTask
from trivet.tasks.segmentation import SegmentationTask
from trivet.tasks.yolo import YoloTask

AnyTask: TypeAlias = DetectionTask | YoloTask | SegmentationTask | ClassificationTask

OUTPUT_TYPES: dict[str, tuple[int, Shape]] = {
    "detection/boxes_xyxy": (TensorProto.FLOAT, ("batch", "most", 4)),
    "detection/scores": (TensorProto.FLOAT, ("batch", "most")),
    "detection/labels": (TensorProto.INT64, ("batch", "most")),
    "detection/counts": (TensorProto.INT64, ("batch",)),
    "segmentation/labels": (TensorProto.UINT8, ("batch", "height", "width")),
    "segmentation/scores": (TensorProto.FLOAT, ("batch", "height", "width")),
    "classification/scores": (TensorProto.FLOAT, ("batch", "classes")),
}


@dataclass(frozen=True)
class Stages:
    """Names of values on the way through a file, in the order in which they arise.

    Args:
        letterboxed: float32 `[b, 3, h, w]`, 0-255.
        normalised: float32 `[b, 3, h, w]`.
        outputs: What the network says, as `network.network_outputs` has it.
        candidates: Boxes, scores and labels before suppression; none for other tasks than detection.
    """

    letterboxed: str
    normalised: str
    outputs: tuple[str, ...]
    candidates: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Return all of them."""
        return (self.letterboxed, self.normalised, *self.outputs, *self.candidates)


def assemble(
    network: ModelProto, model: Model, task: AnyTask, facts: ExportFacts, *, show: bool = False
) -> tuple[ModelProto, Stages]:
    """Return the whole file, and where on its way what arises.

    Args:
        network: What `network.export_network` made, quantised or not.
        model: The model it came from.
        task: What its outputs mean.
        facts: What the file says of itself.
        show: Make the stages outputs too, to look at them.
    """
    before = Graph("before")
    placed = add_letterbox(
        before,
        IMAGE,
        size_hw=facts.size_hw,
        fill_rgb=model.fill_rgb,
        mean=(model.mean.cpu() * 255).numpy(),
        std=(model.std.cpu() * 255).numpy(),
    )
    before.op("Identity", placed.normalised, result=IMAGES)
    outputs = tuple(item.name for item in network.graph.output)
    sizes = [_pixels(item) for item in network.graph.output]
    after, names = Graph("after"), OUTPUTS[facts.task]
    candidates: tuple[str, ...] = ()
    if isinstance(task, BoxTask):
        levels = len(outputs) // 2
        network = with_products(network, outputs[:levels])
        found = add_candidates(
            after,
            outputs[:levels],
            outputs[levels:],
            placed,
            task,
            size_hw=facts.size_hw,
            feature_hw=sizes[:levels],
        )
        candidates = found.boxes_xyxy, found.scores, found.labels
        add_suppression(after, found, placed, task, names)
    elif isinstance(task, SegmentationTask):
        add_masks(
            after,
            outputs[0],
            placed,
            classes=task.classes,
            cells_hw=sizes[0],
            size_hw=facts.size_hw,
            names=names,
        )
    else:
        after.op("Softmax", outputs[0], result=names[0], axis=1)
    stages = Stages(placed.pixels, placed.normalised, outputs, candidates)
    return _joined((before, after), network, facts, stages.names() if show else ()), stages


def _joined(
    parts: tuple[Graph, Graph], network: ModelProto, facts: ExportFacts, shown: Sequence[str]
) -> ModelProto:
    before, after = parts
    outputs = [described(name, *OUTPUT_TYPES[f"{facts.task}/{name}"]) for name in OUTPUTS[facts.task]]
    graph = helper.make_graph(
        [*before.nodes, *network.graph.node, *after.nodes],
        "trivet",
        [described(IMAGE, TensorProto.UINT8, ("batch", "height", "width", 3))],
        [*outputs, *(ValueInfoProto(name=name) for name in shown)],
        [*before.constants, *network.graph.initializer, *after.constants],
    )
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="trivet"
    )
    helper.set_model_props(proto, facts.to_metadata())
    return proto


def _pixels(item: ValueInfoProto) -> tuple[int, int]:
    """Return the height and width of a network's output; 0, 0 where it has none."""
    sides = [dim.dim_value for dim in item.type.tensor_type.shape.dim]
    return (sides[2], sides[3]) if len(sides) == 4 else (0, 0)
