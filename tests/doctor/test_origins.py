"""The statement that makes a value is found by reading the source."""

import runpy

import pytest

from tests.doctor.test_data_faults import diagnose_source
from trivet.doctor.origins import argument_at, keyed_at, returned_at
from trivet.doctor.source import Place

SAMPLES = """
import torch
class Scenes(torch.utils.data.Dataset):
    def __getitem__(self, i):
        picture = torch.zeros(3, 8, 8)
        picture = picture + 1  # input
        if i < 0:
            return None
        for _ in range(2):
            box = torch.zeros(4)
        box = box.clamp(0, 8)  # target
        def other():
            return 1, 2
        return picture, box

class Detections(torch.utils.data.Dataset):
    def __getitem__(self, i):
        rows, names = [], []
        for k in range(3):
            rows.append([0, 0, k, k])  # boxes
            names.append(k)  # labels
        names = torch.as_tensor(names)
        target = {"boxes": torch.tensor(rows), "labels": names, "image_id": i}
        return torch.zeros(3, 8, 8), target

class Direct(torch.utils.data.Dataset):
    def __getitem__(self, i):
        return self.rows[i] / 255, int(self.names[i])  # direct
"""


def line_of(source, mark):
    return next(i for i, line in enumerate(source.splitlines(), 1) if line.endswith(f"# {mark}"))


@pytest.mark.parametrize(
    ("name", "part", "mark"),
    [
        ("Scenes", 0, "input"),
        ("Scenes", 1, "target"),
        ("Detections", "boxes", "boxes"),
        ("Detections", "labels", "labels"),
        ("Direct", 0, "direct"),
        ("Direct", 1, "direct"),
    ],
)
def test_part_of_a_sample(name, part, mark, tmp_path):
    script = tmp_path / "samples.py"
    script.write_text(SAMPLES)
    made = returned_at(runpy.run_path(str(script))[name].__getitem__.__code__, part)
    assert made is not None
    assert (made.file, made.line) == (str(script), line_of(SAMPLES, mark))


@pytest.mark.parametrize(("name", "part"), [("Scenes", "boxes"), ("Scenes", 2), ("Direct", "labels")])
def test_what_a_sample_does_not_hold_is_not_found(name, part, tmp_path):
    script = tmp_path / "samples.py"
    script.write_text(SAMPLES)
    assert returned_at(runpy.run_path(str(script))[name].__getitem__.__code__, part) is None


def test_key_of_a_dictionary_that_one_place_makes(tmp_path):
    script = tmp_path / "scenes.py"
    script.write_text(SAMPLES)
    made = keyed_at([str(script)], "labels")
    assert made is not None
    assert made.line == line_of(SAMPLES, "labels")
    script.write_text(SAMPLES + 'def more():\n    return {"labels": 1}\n')
    assert keyed_at([str(script)], "labels") is None


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a, b = split(x)\nmodel(b)", 1),
        ("x = load()\nkept = choose(x)\nmodel(x[kept])", 2),
        ("x = load()\nmodel(x[100:])", None),
        ("x = load()\nfor i in order:\n    model(x[i])", 1),
        ("held = Loader(x)\nfor v, w in held:\n    model(v.float())", 1),
        ("x = load()\ndef evaluate():\n    print(model(x).argmax(1) == 3)", 1),
        ("def evaluate(x):\n    return model(x)", None),
    ],
)
def test_argument_is_followed_to_where_it_is_chosen(source, expected, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(source)
    line = 1 + next(i for i, text in enumerate(source.splitlines()) if "model(" in text)
    made = argument_at(Place(str(script), line))
    assert (made.line if made is not None else None) == expected


def test_parts_are_known_of_a_loader_that_nobody_holds(tmp_path):
    source = """
import torch
from torch import nn
class Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, i):
        picture = torch.rand(3, 16, 16)
        return picture / 255, i % 2
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for epoch in range(3):
    for x, t in torch.utils.data.DataLoader(Pictures(), 16):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), t).backward()
        optimizer.step()
"""
    found = {f.name: f for f in diagnose_source(source, tmp_path).findings}
    assert found["input-normalised-twice"].where.line == 9
