"""Examples are checked, and brought to a batch by repeating them."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

from trivet.memory.example import MOST_KEPT, count_examples, example_at
from trivet.memory.step import FakeTensors


def _grown(given, batch=4):
    with FakeTensors():
        return example_at(given, batch, real=False)


def test_tensors_grow_along_their_first_side_and_keep_their_values():
    example = _grown(torch.tensor([[1, 2], [3, 4]]), batch=3)
    assert example.args[0].tolist() == [[1, 2], [3, 4], [1, 2]]


def test_a_list_inside_has_one_item_an_example():
    boxes = [torch.zeros(2, 4), torch.ones(5, 4)]
    example = _grown((torch.zeros(2, 8), {"boxes": boxes}, 0.5), batch=3)
    maps, targets, factor = example.args
    assert [tuple(item.shape) for item in targets["boxes"]] == [(2, 4), (5, 4), (2, 4)]
    assert len({item.data_ptr() for item in targets["boxes"]}) == 3  # each has memory of its own
    assert maps.shape == (3, 8)
    assert factor == 0.5


def test_a_mapping_is_arguments_by_name_and_other_mappings_keep_their_type():
    pair = namedtuple("pair", "left right")
    example = _grown({"views": OrderedDict(a=torch.zeros(1, 2)), "pair": pair(torch.zeros(1), None), "n": 3})
    assert example.args == ()
    assert isinstance(example.kwargs["views"], OrderedDict)
    assert example.kwargs["views"]["a"].shape == (4, 2)
    assert example.kwargs["pair"].left.shape == (4,)
    assert example.kwargs["pair"].right is None


def test_what_is_large_or_has_no_values_is_fake():
    large, meta = torch.zeros(1, MOST_KEPT + 1), torch.zeros(1, 2, device="meta")
    example = _grown((large, meta, torch.zeros(1, MOST_KEPT)))
    assert [isinstance(tensor, FakeTensor) for tensor in example.args] == [True, True, False]


def test_the_layout_and_the_gradient_stay():
    images = torch.zeros(1, 3, 5, 7).to(memory_format=torch.channels_last).requires_grad_()
    (grown,) = _grown(images).args
    assert grown.is_contiguous(memory_format=torch.channels_last)
    assert grown.requires_grad


def test_a_function_gives_what_does_not_grow():
    example = _grown(lambda batch: {"tokens": torch.zeros(batch, 6), "mask": torch.zeros(6, 6)}, batch=3)
    assert [tuple(tensor.shape) for tensor in example.kwargs.values()] == [(3, 6), (6, 6)]


def test_examples_are_counted_through_all_that_is_given():
    assert count_examples({"example_inputs": torch.zeros(3, 2), "example_targets": ()}) == 3
    assert count_examples({"example_inputs": ([torch.zeros(2)] * 5, [{"boxes": torch.zeros(7, 4)}] * 5)}) == 5
    assert count_examples({"example_inputs": lambda batch: torch.zeros(batch), "example_targets": ()}) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "hold no tensor, so that there is no batch; give at least one"),
        ({"n": 3}, "hold no tensor"),
        (torch.zeros(0, 3), r"example_inputs\[0\] has no examples"),
        (([],), r"example_inputs\[0\] has no examples"),
        (
            {"ids": torch.zeros(2, 9), "mask": torch.zeros(9, 9)},
            r"example_inputs\['ids'\] has 2 examples and example_inputs\['mask'\] has 9; .*function of the batch size",
        ),
        (([torch.zeros(3)] * 2, [{}] * 3), r"\[0\] has 2 examples and example_inputs\[1\] has 3"),
        (
            (torch.zeros(1), {"image": np.zeros(3)}),
            r"example_inputs\[1\]\['image'\] is of type ndarray; wanted are tensors",
        ),
        ([torch.zeros(1), [object()]], r"example_inputs\[1\]\[0\] is of type object"),
    ],
)
def test_what_cannot_be_an_example_says_why(given, message):
    with pytest.raises(ValueError, match=message):
        count_examples({"example_inputs": given})


def test_a_real_step_wants_values():
    with pytest.raises(ValueError, match=r"shape \(1, 2\) has no values; with real=True give a real one"):
        example_at(torch.zeros(1, 2, device="meta"), 2, real=True)
