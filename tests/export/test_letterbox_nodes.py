import numpy as np
import pytest
from onnx import TensorProto, checker, helper

from trivet.data.letterbox import letterbox
from trivet.export.graph import IR_VERSION, OPSET, Graph, described
from trivet.export.letterbox_nodes import add_letterbox
from trivet.export.reading import start_session
from trivet.structures import Sample

SIZE_HW, FILL = (64, 96), (124, 116, 104)
MEAN, STD = np.array([123.7, 116.3, 103.5]), np.array([58.4, 57.1, 57.4])


@pytest.fixture(scope="module")
def session():
    graph = Graph("letterbox")
    placed = add_letterbox(graph, "image", size_hw=SIZE_HW, fill_rgb=FILL, mean=MEAN, std=STD)
    graph.op("Identity", placed.pixels, result="pixels")
    graph.op("Identity", placed.normalised, result="normalised")
    graph.op("Concat", *(graph.reshape(scale, 1) for scale in placed.scale_yx), result="scale_yx", axis=0)
    outputs = [described(name, TensorProto.FLOAT, ("b", 3, *SIZE_HW)) for name in ("pixels", "normalised")]
    outputs.append(described("scale_yx", TensorProto.DOUBLE, (2,)))
    image = described("image", TensorProto.UINT8, ("b", "h", "w", 3))
    proto = helper.make_model(
        graph.body("letterbox", [image], outputs),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    checker.check_model(proto, full_check=True)
    return start_session(proto.SerializeToString(), source="test", threads=1)


SIZES = [
    (64, 96),  # as it is
    (128, 192),  # halved, where OpenCV rounds .5 up
    (256, 384),  # quartered, where it rounds to even
    (80, 120),  # ratios that give no ties
    (101, 333),
    (203, 333),
    (640, 960),  # a tenth: whole numbers, many just between two levels
    (448, 672),  # a seventh
    (448, 960),  # whole factors that differ
    (641, 959),
    (1200, 1600),
    (137, 205),  # many averages just between two levels
    (427, 640),
    (640, 427),
    (63, 95),  # grows by a little
    (65, 30),
    (30, 17),  # grows
    (1, 1),
    (1, 700),  # a side of less than one pixel
    (500, 2),
]


@pytest.mark.parametrize("image_hw", SIZES)
def test_pixels_are_those_of_opencv(session, image_hw):
    images = np.random.default_rng(image_hw[0]).integers(0, 256, (2, *image_hw, 3), dtype=np.uint8)
    pixels, normalised, scale_yx = session.run(None, {"image": images})
    for number, image in enumerate(images):
        sample = letterbox(Sample.of_image(image, image_id=0, name="noise"), size_hw=SIZE_HW, fill_rgb=FILL)
        wanted = sample.image.transpose(2, 0, 1).astype(np.float64)
        away = np.abs(pixels[number] - wanted)
        assert away.max() == 0
        colour = [part.reshape(3, 1, 1) for part in (MEAN, STD)]
        np.testing.assert_allclose(normalised[number], (pixels[number] - colour[0]) / colour[1], atol=1e-5)
        np.testing.assert_array_equal(scale_yx, sample.placement.scale_yx)
