"""Faults of data, targets, memory and time: found by name and line; the mended twin is silent."""

import ctypes
from itertools import pairwise

import pytest
import torch

from tests.doctor.data_programs import DATA_PROGRAMS
from tests.doctor.test_faults import diagnose_source, named
from trivet.doctor.checks import NotCheckedError, boxes, classes, data, generalisation, system
from trivet.doctor.probe import Probe
from trivet.doctor.probe.data.boxes import BoxWatch
from trivet.doctor.probe.data.digest import plain_samples, sample_digests
from trivet.doctor.probe.data.mixing import _leak
from trivet.doctor.probe.data.views import _is_flattened, _mistaken_order
from trivet.doctor.probe.modules import ModuleWatch
from trivet.doctor.probe.session import Session, Sparse
from trivet.doctor.trace import Trace
from trivet.doctor.trace_data import (
    ClassTrace,
    DetectionTrace,
    DrawTrace,
    EvaluationTrace,
    LeakTrace,
    MemoryTrace,
)


@pytest.mark.slow
@pytest.mark.parametrize("program", list(named(DATA_PROGRAMS)))
def test_fault_is_found_with_its_line(program, tmp_path):
    if program.finding == "host-memory-growth" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)  # what grows would fill first what earlier tests have freed
    found = [f for f in diagnose_source(program.faulty, tmp_path).findings if f.name == program.finding]
    assert len(found) == 1
    assert found[0].severity != "note"
    if program.line is not None:
        assert found[0].where.line == program.line


@pytest.mark.slow
@pytest.mark.parametrize("program", list(named(DATA_PROGRAMS)))
def test_mended_program_is_silent(program, tmp_path):
    found = diagnose_source(program.mended, tmp_path).findings
    assert [finding.name for finding in found if finding.severity != "note"] == []


def names(check, trace: Trace) -> list[tuple[str, str]]:
    return [(finding.name, finding.severity) for finding in check(trace)]


def boxes_seen(boxes: list[list[float]]) -> Trace:
    watch = BoxWatch(Session(), ModuleWatch(Session()))
    watch._note_boxes("box_iou", torch.tensor(boxes), None)
    trace = Trace()
    trace.data.boxes = list(watch.boxes.values())
    return trace


def test_corner_and_size_taken_for_two_corners_is_a_box_format():
    trace = boxes_seen([[20.0, 20, 8, 8], [2, 30, 9, 4], [5, 5, 30, 20], [28, 1, 9, 9]])
    assert names(boxes.box_format, trace) == [("box-format", "error")]
    assert names(boxes.degenerate_boxes, trace) == []


def test_sound_boxes_are_silent():
    trace = boxes_seen([[0.0, 0, 8, 8], [2, 3, 9, 14], [5, 5, 30, 20], [8, 1, 9, 9]])
    assert names(boxes.box_format, trace) == names(boxes.degenerate_boxes, trace) == []


def test_boxes_without_extent_are_degenerate_and_no_format():
    trace = boxes_seen([[0.0, 0, 8, 8], [2, 3, 2, 14], [5, 5, 30, 20], [8, 1, 9, 9]])
    assert names(boxes.box_format, trace) == []
    assert names(boxes.degenerate_boxes, trace) == [("degenerate-boxes", "warning")]


@pytest.mark.parametrize(
    ("shared", "evaluated", "repeated", "expected"),
    [
        (50, 100, 1.0, [("train-val-leak", "error")]),
        (5, 100, 1.0, [("train-val-leak", "warning")]),
        (2, 100, 1.0, []),
        (0, 0, 1.0, []),
    ],
)
def test_leak_by_share(shared, evaluated, repeated, expected):
    trace = Trace()
    trace.data.leaks = [LeakTrace("m", trained=200, evaluated=evaluated, shared=shared, repeated=repeated)]
    assert names(data.train_val_leak, trace) == expected


RESIZED = """
import cv2
import torch
from torch import nn

mask = torch.zeros(4, 40, 40, dtype=torch.uint8)
mask[:, 7:19, 6:19], mask[:, 27:38, 25:37] = 2, 1
held = torch.tensor([cv2.resize(m.numpy(), (53, 53), interpolation=cv2.METHOD).tolist() for m in mask])
net = nn.Conv2d(1, 3, 3, padding=1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
for step in range(4):
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(torch.randn(4, 1, 53, 53)), held).backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("method", "found"), [("INTER_LINEAR", True), ("INTER_NEAREST", False)])
def test_ids_of_other_classes_made_by_averaging_integers(method, found, tmp_path):
    pytest.importorskip("cv2")
    told = diagnose_source(RESIZED.replace("METHOD", method), tmp_path).findings
    assert ("mask-interpolated" in [f.name for f in told]) == found


WARPED = """
import torch
from torch import nn
from torch.nn import functional as F

mask = torch.zeros(4, 1, 24, 24)
mask[..., 4:12, 4:12], mask[..., 14:20, 14:20] = 3, 1
grid = F.affine_grid(torch.tensor([[[0.9, 0.3, 0.0], [-0.3, 0.9, 0.0]]]).repeat(4, 1, 1), mask.shape, align_corners=False)
net = nn.Conv2d(1, 4, 3, padding=1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
for step in range(4):
    target = F.grid_sample(mask, grid, mode="METHOD", align_corners=False).long()[:, 0]
    optimizer.zero_grad()
    F.cross_entropy(net(torch.randn(4, 1, 24, 24)), target).backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("method", "found"), [("bilinear", True), ("nearest", False)])
def test_warped_map_of_class_ids(method, found, tmp_path):
    told = diagnose_source(WARPED.replace("METHOD", method), tmp_path).findings
    assert [f.where.line for f in told if f.name == "mask-interpolated"] == [12] * found


SPLIT = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(1)
x = torch.randn(300, 5)
whole = TensorDataset(x, x.sum(1, keepdim=True))
train = DataLoader(Subset(whole, range(200)), batch_size=50, shuffle=True)
sets = [DataLoader(Subset(whole, part), batch_size=50) for part in (PARTS)]
net = nn.Linear(5, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
for epoch in range(4):
    for a, b in train:
        optimizer.zero_grad()
        nn.functional.mse_loss(net(a), b).backward()
        optimizer.step()
    with torch.no_grad():
        for held in sets:
            print(sum(nn.functional.mse_loss(net(a), b).item() for a, b in held))
"""


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ("range(100, 200),", True),
        ("range(200, 300),", False),
        ("range(100, 200), range(200, 300)", False),  # the training score beside the other
        ("range(200),", False),
    ],
)
def test_evaluated_subset_within_the_training_subset(parts, found, tmp_path):
    told = diagnose_source(SPLIT.replace("PARTS", parts), tmp_path).findings
    assert [f.severity for f in told if f.name == "train-val-leak"] == ["warning"] * found


def test_leak_is_not_judged_before_the_training_set_is_known():
    trace = Trace()
    trace.data.leaks = [LeakTrace("m", trained=200, evaluated=100, shared=50, repeated=0.2)]
    with pytest.raises(NotCheckedError, match="as a whole"):
        names(data.train_val_leak, trace)


def test_zero_labels_of_a_detector_with_background():
    trace = Trace()
    trace.data.detections = [DetectionTrace("FasterRCNN", None, labels=9, zeros=4)]
    assert names(boxes.label_off_by_one, trace) == [("label-off-by-one", "error")]
    trace.data.detections = [DetectionTrace("FasterRCNN", None, labels=9, zeros=0)]
    assert names(boxes.label_off_by_one, trace) == []


@pytest.mark.parametrize(
    ("pairs", "count"), [({"1>2": 9, "2>1": 8}, 1), ({"1>2": 9}, 0), ({"1>2": 90, "2>1": 1}, 0)]
)
def test_covering_counts_only_in_either_order(pairs, count):
    trace = Trace()
    trace.data.classes = [ClassTrace("cross_entropy", None, spatial=True, counts=[5, 5, 5])]
    trace.data.drawings = [DrawTrace(None, shapes=20, covering=17, pixels=100, overlapped=30, pairs=pairs)]
    assert len(names(data.overlapping_labels, trace)) == count


def test_memory_that_levels_off_is_silent_and_one_that_grows_is_not():
    trace = Trace()
    steps = list(range(40))
    epochs = [1 + step // 10 for step in steps]
    holders = {"cache": [10, 400, 1 << 20]}
    trace.data.memory = MemoryTrace(
        steps, [(100 + 5 * min(step, 10)) << 20 for step in steps], epochs, holders
    )
    assert names(system.host_memory_growth, trace) == []
    trace.data.memory = MemoryTrace(steps, [(100 + 5 * step) << 20 for step in steps], epochs, holders)
    assert names(system.host_memory_growth, trace) == [("host-memory-growth", "warning")]


def test_overfitting_needs_a_rising_loss_on_new_samples():
    trace = Trace(steps=100)
    trace.data.train_loss = [(step, 1.0 / (1 + step)) for step in range(100)]
    trace.data.evaluations = [
        EvaluationTrace(step, 50, 0.5 + abs(step - 20) / 50) for step in range(0, 100, 10)
    ]
    assert names(generalisation.overfitting, trace) == [("overfitting", "warning")]
    trace.data.evaluations = [EvaluationTrace(step, 50, 1 / (1 + step)) for step in range(0, 100, 10)]
    assert names(generalisation.overfitting, trace) == []


def test_digests_are_of_the_values_alone():
    batch = torch.randn(8, 3, 9, 9)
    whole = sample_digests(batch)
    assert whole is not None
    assert torch.equal(whole[2:5], sample_digests(batch[2:5].clone()))
    assert len(set(whole.tolist())) == 8
    assert (whole != sample_digests(batch.flip(3))).all()
    assert sample_digests(torch.randn(8, 4)) is not None  # measurements hardly repeat by chance
    assert sample_digests(torch.randint(0, 9, (8, 4)).float()) is None
    assert plain_samples(torch.tensor([[0.0, 1.0] * 20, list(range(40))])).tolist() == [True, False]


@pytest.mark.parametrize(
    ("given", "made", "wrong"),
    [
        ((4, 18, 18, 3), (4, 3, 18, 18), True),
        ((4, 3, 18, 12), (4, 18, 12, 3), True),
        ((4, 30, 6), (4, 6, 30), True),
        ((4, 18, 18, 1), (4, 1, 18, 18), False),
        ((4, 6, 5, 5), (4, 3, 10, 5), False),
        ((10, 4, 32), (10, 8, 16), False),
    ],
)
def test_a_reshape_to_the_shape_of_a_permutation(given, made, wrong):
    assert (_mistaken_order(torch.Size(given), torch.Size(made)) is not None) == wrong


def test_flattened_logits():
    assert _is_flattened(torch.Size((2, 5, 8, 8)), torch.Size((128, 5)))
    assert not _is_flattened(torch.Size((2, 8, 8, 5)), torch.Size((128, 5)))


def test_gradient_tells_who_depends_on_whom():
    x = torch.randn(6, 4, requires_grad=True)
    assert _leak(x.softmax(1), [x]) == 0.0
    assert _leak(x.softmax(0), [x]) > 0.05


def test_steps_looked_at_thin_out():
    sparse = Sparse(dense=20, growth=1.1)
    looked = [step for step in range(1000) if sparse.due(step)]
    assert looked[:20] == list(range(20))
    assert 40 < len(looked) < 80
    assert all(later - earlier <= 0.12 * earlier + 1 for earlier, later in pairwise(looked[20:]))


@pytest.mark.parametrize(("shrinking", "growing", "count"), [(12, 0, 0), (12, 8, 1), (3, 0, 1)])
def test_covering_large_before_small_is_an_order(shrinking, growing, count):
    trace = Trace()
    trace.data.classes = [ClassTrace("cross_entropy", None, spatial=True, counts=[5, 5, 5])]
    drawing = DrawTrace(None, shapes=20, covering=17, pixels=100, overlapped=30, pairs={"1>2": 9, "2>1": 8})
    drawing.shrinking, drawing.growing = shrinking, growing
    trace.data.drawings = [drawing]
    assert len(names(data.overlapping_labels, trace)) == count


@pytest.mark.parametrize(("largest_first", "growing"), [(True, 0), (False, 6)])
def test_sizes_of_shapes_that_are_drawn_one_after_the_other(largest_first, growing):
    from PIL import Image, ImageDraw

    with Probe() as probe:
        for _ in range(3):
            draw = ImageDraw.Draw(Image.new("L", (64, 64)))
            for side in (60, 40, 20) if largest_first else (20, 40, 60):
                draw.rectangle((1, 1, side, side), fill=side)
    (drawn,) = probe.data.draws.drawings.values()
    assert (drawn.shapes, drawn.growing, drawn.shrinking) == (9, growing, 6 - growing)


@pytest.mark.parametrize(
    ("counts", "spatial", "expected"),
    [
        ([0, 90, 80, 70], False, [("label-off-by-one", "note")]),
        ([1, 90, 80, 70], False, []),
        ([0, 90, 0, 70], False, []),
        ([0, 9, 8, 7], False, []),
        ([0, 90, 80, 70], True, []),
    ],
)
def test_labels_that_count_from_one(counts, spatial, expected):
    trace = Trace()
    trace.data.detections = [DetectionTrace("FasterRCNN", None, labels=9, zeros=0)]
    trace.data.classes = [ClassTrace("cross_entropy", None, spatial=spatial, counts=counts)]
    assert names(boxes.label_off_by_one, trace) == expected


@pytest.mark.parametrize(("others", "severity"), [(0.9, "warning"), (0.6, "note")])
def test_rare_classes_are_a_warning_once_the_others_are_learnt(others, severity):
    trace = Trace(steps=100)
    seen = ClassTrace("cross_entropy", None, counts=[500, 480, 12], late_calls=20)
    seen.late_counts, seen.late_answers = [100, 100, 10], [110, 100, 0]
    seen.late_right = [int(100 * others), int(100 * others), 1]
    trace.data.classes = [seen]
    assert names(classes.class_imbalance, trace) == [("class-imbalance", severity)]


SEEDED = """
import random
import torch
from torch import nn
class Noisy(torch.utils.data.Dataset):
    def __init__(self):
        self.rows = torch.randn(40, 6)
        self.many = 40
    def __len__(self):
        return 40
    def __getitem__(self, i):
        random.seed(i)
        row = self.rows[i]
        return row * random.uniform(0.5, 1.5), row[:2]
model = nn.Linear(6, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(4):
    for x, y in torch.utils.data.DataLoader(Noisy(), 8, shuffle=True):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
"""


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, [12]),
        ({"        random.seed(i)\n": "        pass\n"}, []),
        ({"random.seed(i)": "random.seed(i + 40 * epoch)"}, []),
        # without samples of its own it makes them, the same in every epoch by design
        ({"self.rows = torch.randn(40, 6)": "pass", "self.rows[i]": "torch.full((6,), random.random())"}, []),
    ],
)
def test_samples_that_are_seeded_alike_in_every_epoch(changes, lines, tmp_path):
    source = SEEDED
    for old, new in changes.items():
        assert old in source
        source = source.replace(old, new)
    found = diagnose_source(source, tmp_path).findings
    assert [f.where.line for f in found if f.name == "augmentation-repeats"] == lines
