"""YOLOv4 by name: CSPDarknet53 with Mish, SPP and path aggregation, and the YOLO head, as darknet's yolov4.cfg has them.

`yolov4` is the published model of 80 classes; `model.options` `width` and `depth` make it narrower and shallower.
"""

from trivet.models.entry import ZooEntry

_SOURCE = "YOLOv4, arXiv:2004.10934, and yolov4.cfg with its README (AlexeyAB/darknet)"
_DARKNET = {"activation": "leaky_relu_0.1", "separable": False, "norm_eps": 1e-5, "fill_rgb": (128, 128, 128)}

YOLOS: dict[str, ZooEntry] = {
    "yolov4": ZooEntry(
        "cspdarknet53_mish",
        608,
        _DARKNET,
        64_363_101,
        64.195,
        _SOURCE,
        ap=43.5,
        split="test-dev2017",
        published_flops=128.5 / 2,  # darknet counts a multiply-add as two
        neck="spp_pan",
        head="yolo",
        classes=80,
    ),
}
