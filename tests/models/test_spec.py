import json

import pytest

from trivet.errors import UsageError
from trivet.models.spec import ModelSpec

SPEC = ModelSpec(
    backbone="resnet18",
    neck="fpn",
    head="anchor",
    classes=2,
    size_hw=(320, 256),
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    fill_rgb=(0, 0, 0),
    options={"levels": (3, 6), "anchor_ratios": ((1.0, 1.0), (2.0, 0.5)), "norm": "gn"},
)


def test_json_round_trip():
    assert ModelSpec.from_json(SPEC.to_json()) == SPEC


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a JSON object, got '{'"),
        ("[1]", r"a JSON object, got '\[1\]'"),
        (
            json.dumps({**json.loads(SPEC.to_json()), "clases": 1}),
            "unknown key of a model's spec 'clases'; did you mean 'classes'",
        ),
        ('{"backbone": "resnet18"}', "lacks a key: .*'neck'"),
    ],
)
def test_wrong_json(text, message):
    with pytest.raises(UsageError, match=message):
        ModelSpec.from_json(text)
