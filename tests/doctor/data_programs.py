"""Faulty programs about data, targets, memory and time, in the form of `programs.py`."""

from tests.doctor.programs import LOOP, Program

MAPS = """
class Maps(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1))

    def forward(self, images):
        return self.layers(images)

model = Maps()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for images, target in DataLoader(Pairs(), 8, shuffle=True):
    optimizer.zero_grad()
    F.cross_entropy(model(images), target).backward()
    optimizer.step()
"""

BLOBS = """
def blob(seed, side=16):
    g = torch.Generator().manual_seed(seed)
    r, c = torch.randint(1, 9, (2,), generator=g).tolist()
    mask = torch.zeros(side, side, dtype=torch.long)
    mask[r:r + 6, c:c + 3] = 3
    image = (mask > 0).float() + 0.2 * torch.randn(2, side, side, generator=g)
    return image, mask
"""

DATA_PROGRAMS = [
    Program(
        "samples-mixed",
        """
x = x.permute(0, 2, 3, 1).contiguous() + torch.linspace(0, 3, 8)[:, None, None]
class Scrambled(Net):
    def forward(self, images):
        images = images.view(len(images), 3, 8, 8)  # HERE
        return super().forward(images)
model = Scrambled()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("images.view(len(images), 3, 8, 8)", "images.permute(0, 3, 1, 2) - 1.5"),),
    ),
    Program(
        "samples-mixed",
        """
class Attentive(nn.Module):
    def __init__(self):
        super().__init__()
        self.key, self.head = nn.Linear(3, 1), nn.Linear(3, 4)
    def forward(self, images):
        parts = images.flatten(2).transpose(1, 2)
        share = torch.softmax(self.key(parts), 0)  # HERE
        return self.head((share * parts).sum(1))
model = Attentive()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("self.key(parts), 0)", "self.key(parts), 1)"),),
    ),
    Program(
        "mask-interpolated",
        BLOBS
        + """
class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 96
    def __getitem__(self, i):
        image, mask = blob(i, 24)
        mask = F.interpolate(mask[None, None].float(), size=(16, 16), mode="bilinear")[0, 0].long()  # HERE
        return F.interpolate(image[None], size=(16, 16), mode="bilinear")[0], mask
"""
        + MAPS,
        (('size=(16, 16), mode="bilinear")[0, 0]', 'size=(16, 16), mode="nearest")[0, 0]'),),
    ),
    Program(
        "targets-misaligned",
        BLOBS
        + """
class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 160
    def __getitem__(self, i):
        image, mask = blob(i)
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        if torch.rand(()) < 0.5:
            mask = mask.flip(1)
        return image, mask
"""
        + MAPS,
        (
            (
                "image = image.flip(2)\n        if torch.rand(()) < 0.5:\n            mask = mask.flip(1)",
                "image, mask = image.flip(2), mask.flip(1)",
            ),
        ),
    ),
    Program(
        "overlapping-labels",
        """
from PIL import Image, ImageDraw
class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        shapes = [((2, 2, 12, 12), 1), ((5, 5, 9, 9), 2)]
        order = torch.randperm(2, generator=g).tolist()
        canvas = Image.new("L", (16, 16))
        draw = ImageDraw.Draw(canvas)
        for k in order:
            draw.rectangle(shapes[k][0], fill=shapes[k][1])  # HERE
        mask = torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8).view(16, 16).long()
        return torch.randn(2, 16, 16, generator=g) + (mask > 0), mask
"""
        + MAPS,
        (("in order:", "in (0, 1):"),),
    ),
    Program(
        "box-format",
        """
from torchvision.ops import generalized_box_iou_loss
g = torch.Generator().manual_seed(1)
corner = torch.randint(2, 20, (64, 2), generator=g).float()
boxes = torch.cat([corner, torch.randint(4, 12, (64, 2), generator=g).float()], 1)
model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for i in range(30):
    optimizer.zero_grad()
    out = model(x)
    out = torch.cat([out[:, :2], out[:, :2] + F.softplus(out[:, 2:]) + 1], 1)
    loss = generalized_box_iou_loss(out, boxes, reduction="mean")  # HERE
    loss.backward()
    optimizer.step()
""",
        (("g).float()], 1)", "g).float() + corner], 1)"),),
    ),
    Program(
        "box-format",
        """
from torchvision.ops import box_convert, generalized_box_iou_loss
g = torch.Generator().manual_seed(1)
corner = 0.5 * torch.rand(64, 2, generator=g)
boxes = torch.cat([corner, corner + 0.1 + 0.3 * torch.rand(64, 2, generator=g)], 1)
model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Sigmoid())
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for i in range(30):
    optimizer.zero_grad()
    out = model(x)
    loss = F.l1_loss(out, box_convert(boxes, "xyxy", "cxcywh"))
    loss = loss + generalized_box_iou_loss(out, boxes, reduction="mean")  # HERE
    loss.backward()
    optimizer.step()
""",
        (("iou_loss(out, b", 'iou_loss(box_convert(out, "cxcywh", "xyxy"), b'),),
    ),
    Program(
        "degenerate-boxes",
        """
g = torch.Generator().manual_seed(1)
sizes = torch.randint(0, 8, (64, 2), generator=g).float()
target = torch.cat([torch.rand(64, 2, generator=g), torch.log(sizes / 4)], 1)
model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for i in range(12):
    optimizer.zero_grad()
    loss = F.smooth_l1_loss(model(x), target)  # HERE
    loss.backward()
    optimizer.step()
""",
        (("torch.randint(0, 8", "torch.randint(1, 8"),),
    ),
    Program(
        "train-val-leak",
        """
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
copies = torch.randint(0, 64, (256,))
order = torch.randperm(256)
train, val = copies[order[:192]], copies[order[192:]]  # HERE
for epoch in range(3):
    model.train()
    for i in torch.randperm(192).split(16):
        optimizer.zero_grad()
        F.cross_entropy(model(x[train[i]]), y[train[i]]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        model(x[val])
""",
        (
            (
                "copies[order[:192]], copies[order[192:]]",
                "copies[order[:192]] % 48, 48 + copies[order[192:]] % 16",
            ),
        ),
    ),
    Program(
        "augmentation-repeats",
        """
import random
class Crops(torch.utils.data.Dataset):
    def __init__(self):
        self.random = random.Random(0)  # HERE
    def __len__(self):
        return 64
    def __getitem__(self, i):
        return x[i].roll(int(self.random.random() * 8), 2), y[i]
loader = DataLoader(Crops(), 16, num_workers=2)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(2):
    for images, target in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
""",
        (("int(self.random.random() * 8)", "int(torch.randint(0, 8, ()))"),),
    ),
    Program(
        "input-normalised-twice",
        "x = (x - x.mean()) / x.std() / 255\nmodel = Net()\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        + LOOP,
        ((" / 255", ""),),
    ),
    Program(
        "loss-broadcast",
        """
model = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for images, target in batches():
    optimizer.zero_grad()
    loss = ((target.float() - model(images)) ** 2).mean()  # HERE
    loss.backward()
    optimizer.step()
""",
        (("model(images)) ** 2", "model(images)[:, 0]) ** 2"),),
    ),
    Program(
        "majority-class-collapse",
        """
target = (torch.rand(2000) < 0.03).long()
samples = torch.randn(2000, 8) + 0.3 * target[:, None]
model = nn.Linear(8, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(3):
    for i in torch.randperm(2000).split(50):
        optimizer.zero_grad()
        F.cross_entropy(model(samples[i]), target[i]).backward()  # HERE
        optimizer.step()
""",
        (("target[i])", "target[i], weight=torch.tensor([0.03, 1.0]))"),),
    ),
    Program(
        "class-imbalance",
        """
target = (torch.rand(4000) < 0.03).long()
samples = torch.randn(4000, 8) + 0.75 * target[:, None]
model = nn.Linear(8, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
for epoch in range(3):
    for i in torch.randperm(4000).split(100):
        optimizer.zero_grad()
        F.cross_entropy(model(samples[i]), target[i]).backward()  # HERE
        optimizer.step()
""",
        (("target[i])", "target[i], weight=torch.tensor([0.03, 1.0]))"),),
    ),
    Program(
        "plateau",
        """
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)  # HERE
for step in range(150):
    target = torch.randint(0, 2, (64,))
    samples = torch.randn(64, 8) + target[:, None] * 0.0
    optimizer.zero_grad()
    F.cross_entropy(model(samples), target).backward()
    optimizer.step()
""",
        (("* 0.0", "* 1.0"),),
    ),
    Program(
        "overfitting",
        """
samples, target = torch.randn(240, 20), torch.randint(0, 2, (240,))
model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)  # HERE
samples[:, 0] += target
for epoch in range(40):
    for i in torch.randperm(40).split(10):
        optimizer.zero_grad()
        F.cross_entropy(model(samples[i]), target[i]).backward()
        optimizer.step()
    with torch.no_grad():
        F.cross_entropy(model(samples[40:]), target[40:])
""",
        (("range(40)", "range(2)"),),
    ),
    Program(
        "host-memory-growth",
        """
class Cached(torch.utils.data.Dataset):
    kept = {}
    def __init__(self):
        self.kept = {}
    def __len__(self):
        return 64
    def __getitem__(self, i):
        self.kept[len(self.kept)] = torch.ones(200_000) * i  # HERE
        return x[i], y[i]
loader = DataLoader(Cached(), 8)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(5):
    for images, target in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
""",
        (("self.kept[len(self.kept)]", "self.kept[0]"),),
    ),
    Program(
        "loader-bound",
        """
import time
class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, i):
        time.sleep(0.2)
        return x[i], y[i]
loader = DataLoader(Slow(), 2)  # HERE
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for images, target in loader:
    optimizer.zero_grad()
    F.cross_entropy(model(images), target).backward()
    optimizer.step()
""",
        (("time.sleep(0.2)", "pass"),),
    ),
    Program(
        "data-order-repeats",
        """
order = torch.argsort(y)
loader = DataLoader(TensorDataset(x[order], y[order]), 8)  # HERE
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(4):
    for images, target in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
""",
        (("y[order]), 8)", "y[order]), 8, shuffle=True)"),),
    ),
    Program(
        "input-not-normalised",
        """
pixels = torch.rand(128, 3, 8, 8)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(3):
    model.train()
    for rows in torch.randperm(64).split(16):
        optimizer.zero_grad()
        F.cross_entropy(model((pixels[rows] - 0.5) / 0.29), y[rows]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for part in pixels[64:].split(32):
            model(part)  # HERE
""",
        (("model(part)", "model((part - 0.5) / 0.29)"),),
    ),
    Program(
        "batchnorm-stats-stale",
        """
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
smooth = copy.deepcopy(model)
for epoch in range(5):
    for images, target in batches(1):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    with torch.no_grad():
        for mean, new in zip(smooth.parameters(), model.parameters()):
            mean += (new - mean) / (epoch + 1)
smooth.eval()
with torch.no_grad():
    smooth(x)  # HERE
""",
        (("smooth.eval()\n", "torch.optim.swa_utils.update_bn(batches(1), smooth)\nsmooth.eval()\n"),),
    ),
    Program(
        "batchnorm-stats-stale",
        """
model = Net()
smooth = copy.deepcopy(model).eval()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    model.train()
    for images, target in batches(1):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
        with torch.no_grad():
            for mean, new in zip(smooth.parameters(), model.parameters()):
                mean.lerp_(new, 0.1)  # HERE
    model.eval()
    with torch.no_grad():
        for part in x.split(32):
            smooth(part)
""",
        (
            (
                "                mean.lerp_(new, 0.1)  # HERE\n",
                "                mean.lerp_(new, 0.1)\n"
                "            for mean, new in zip(smooth.buffers(), model.buffers()):\n"
                "                mean.copy_(new)\n",
            ),
        ),
        "smooth",
    ),
    Program(
        "train-val-leak",
        """
class Turned(torch.utils.data.Dataset):
    def __init__(self, rows, augment):
        self.rows, self.augment = rows, augment
    def __len__(self):
        return len(self.rows)
    def __getitem__(self, i):
        image = x[self.rows[i]]
        return (image.flip(-1) if self.augment and torch.rand(()) < 0.5 else image), y[self.rows[i]]
train = DataLoader(Turned(torch.arange(48), True), 8, shuffle=True)
held = DataLoader(Turned(torch.arange(16, 64), False), 32)  # HERE
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(2):
    model.train()
    for images, target in train:
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for images, target in held:
            model(images)
""",
        (("torch.arange(16, 64)", "torch.arange(48, 64)"),),
    ),
]
"""`label-off-by-one` is proven on torchvision's own detector, in `test_data_faults.py`."""
