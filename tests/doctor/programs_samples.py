"""Faulty programs about how samples are made, batched and split, and how signals and gradients flow; each with its repair."""

from tests.doctor.programs import ADAM, LOOP, Program

SEGMENT = """
model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(4):
    for images, maps in DataLoader(Scenes(), 8, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(images), maps).backward()
        optimizer.step()
"""

EVALUATED = """
for _ in range(3):
    model.train()
    for images, target in batches(1):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for part in torch.randn(64, 3, 8, 8).split(16):
            model(part)
"""

SAMPLE_PROGRAMS = [
    Program(
        "mask-interpolated",
        """
import cv2
import numpy as np
class Scenes(torch.utils.data.Dataset):
    def __len__(self):
        return 48
    def __getitem__(self, i):
        picture, labels = np.zeros((24, 24, 3), np.float32), np.zeros((24, 24), np.uint8)
        labels[4:12, 3 + i % 9 : 14 + i % 9], labels[12:20, i % 7 : 8 + i % 7] = 3, 1
        picture[..., 0], picture[..., 1] = labels == 3, labels == 1
        turn = cv2.getRotationMatrix2D((12, 12), 7.0 * i, 1.1)
        picture = cv2.warpAffine(picture, turn, (24, 24))
        labels = cv2.warpAffine(labels, turn, (24, 24))  # HERE
        return torch.from_numpy(picture).permute(2, 0, 1), torch.from_numpy(labels).long()
"""
        + SEGMENT,
        (
            (
                "cv2.warpAffine(labels, turn, (24, 24))",
                "cv2.warpAffine(labels, turn, (24, 24), flags=cv2.INTER_NEAREST)",
            ),
        ),
    ),
    Program(
        "targets-misaligned",
        """
from torch.nn.utils.rnn import pad_sequence
class Words(torch.utils.data.Dataset):
    def __len__(self):
        return 96
    def __getitem__(self, i):
        draw = torch.Generator().manual_seed(i)
        return torch.randint(1, 9, (9 + i % 7,), generator=draw) + 9 * (i % 3), i % 3
def gather(samples):
    words, kinds = zip(*samples)
    words = sorted(words, key=len, reverse=True)  # HERE
    return pad_sequence(words, batch_first=True), torch.tensor(kinds)
class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(40, 16), nn.Linear(16, 3)
    def forward(self, words):
        return self.head(self.table(words).mean(1))
model = Bag()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(3):
    for words, kinds in DataLoader(Words(), 16, shuffle=True, collate_fn=gather):
        optimizer.zero_grad()
        F.cross_entropy(model(words), kinds).backward()
        optimizer.step()
""",
        (
            ("    words, kinds = zip(*samples)\n", ""),
            (
                "    words = sorted(words, key=len, reverse=True)  # HERE\n",
                "    words, kinds = zip(*sorted(samples, key=lambda sample: len(sample[0]), reverse=True))\n",
            ),
        ),
    ),
    Program(
        "targets-misaligned",
        """
import random
from torchvision import transforms as T
moves = [T.RandomCrop(16), T.RandomHorizontalFlip()]
of_pictures, of_maps = T.Compose([T.ColorJitter(0.4), *moves]), T.Compose(moves)
class Scenes(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, i):
        labels = torch.zeros(24, 24, dtype=torch.long)  # HERE
        labels[3 : 9 + i % 8, i % 9 : 9 + i % 9] = 1 + i % 3
        picture = torch.stack([(labels == k).float() for k in (1, 2, 3)])
        seed = random.randint(0, 1 << 30)
        torch.manual_seed(seed)
        picture = of_pictures(picture)
        torch.manual_seed(seed)
        return picture, of_maps(labels[None])[0]
"""
        + SEGMENT,
        (("[T.ColorJitter(0.4), *moves]", "[*moves, T.ColorJitter(0.4)]"),),
    ),
    Program(
        "targets-misaligned",
        """
import random
from torchvision import transforms as T
both = T.Compose([T.RandomCrop(6), T.RandomHorizontalFlip()])
class Scenes(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, i):
        seed = random.randint(0, 1 << 30)
        random.seed(seed)  # HERE
        picture = both(x[i])
        random.seed(seed)
        return picture, both((x[i].mean(0, keepdim=True) > 0).long())[0]
model = nn.Conv2d(3, 4, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(4):
    for images, maps in DataLoader(Scenes(), 8, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(images), maps).backward()
        optimizer.step()
""",
        (("        random.seed(seed)", "        torch.manual_seed(seed)"),),
    ),
    Program(
        "samples-mixed",
        """
class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 2, 2)
        self.mark = nn.Parameter(torch.zeros(1, 1, 16))
        self.mix = nn.MultiheadAttention(16, 2, batch_first=True)  # HERE
        self.head = nn.Linear(16, 4)
    def forward(self, images):
        parts = self.stem(images).flatten(2).permute(2, 0, 1)
        parts = torch.cat([self.mark.expand(-1, len(images), -1), parts])
        return self.head((parts + self.mix(parts, parts, parts)[0])[0])
model = Patches()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
"""
        + LOOP,
        (("batch_first=True", "batch_first=False"),),
    ),
    Program(
        "augmentation-repeats",
        """
class Noisy(torch.utils.data.Dataset):
    def __len__(self):
        return len(x)
    def __getitem__(self, i):
        draw = torch.Generator().manual_seed(5)
        noise = torch.randn(x[i].shape, generator=draw)  # HERE
        return x[i] + 0.1 * noise, y[i]
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(3):
    for images, target in DataLoader(Noisy(), 16, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
""",
        (("torch.Generator().manual_seed(5)", "None"),),
    ),
    Program(
        "samples-mixed",
        """
class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(3, 2 * 4, 3, padding=1)
    def forward(self, images):
        return self.maps(images).reshape(len(images), -1, 4)  # HERE
model, boxes = Head(), torch.randn(64, 144, 4)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
x = F.interpolate(x, (8, 9))
for _ in range(4):
    for rows in torch.arange(64).split(16):
        optimizer.zero_grad()
        F.smooth_l1_loss(model(x[rows]), boxes[rows]).backward()
        optimizer.step()
""",
        (("self.maps(images).reshape", "self.maps(images).permute(0, 2, 3, 1).reshape"),),
    ),
    Program(
        "train-val-leak",
        """
import numpy as np
from sklearn.model_selection import train_test_split
kept = np.arange(64)
again = np.r_[kept, kept[40:], kept[40:]]
train, held = train_test_split(again, test_size=0.25, random_state=0)  # HERE
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(4):
    for rows in np.array_split(train, 4):
        shift = 0.01 * torch.randn(len(rows), 3, 8, 8)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows] + shift), y[rows]).backward()
        optimizer.step()
""",
        (("again = np.r_[kept, kept[40:], kept[40:]]", "again = kept"),),
    ),
    Program(
        "degenerate-boxes",
        """
def drawn(i):
    draw = torch.Generator().manual_seed(i)
    corner = 20 * torch.rand(8, 2, generator=draw)
    return torch.cat([corner, corner + 3 + 6 * torch.rand(8, 2, generator=draw)], 1)
class Cells(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, i):
        boxes = drawn(i) - 6
        boxes[:, :] = boxes.clamp(0, 16)  # HERE
        boxes = boxes[((boxes[:, 2:] - boxes[:, :2]) >= 0).all(1)]
        return x[i].repeat(1, 2, 2), boxes
def gather(samples):
    return torch.stack([image for image, _ in samples]), [boxes for _, boxes in samples]
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(3):
    for images, boxes in DataLoader(Cells(), 8, collate_fn=gather):
        mean = torch.stack([part.mean(0) for part in boxes]) / 16
        optimizer.zero_grad()
        (model(images) - mean).square().mean().backward()
        optimizer.step()
""",
        ((">= 0).all(1)", "> 0).all(1)"),),
    ),
    Program(
        "random-in-eval",
        """
from torchvision.ops import stochastic_depth
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 3, 3, padding=1)
    def forward(self, images):
        return images + stochastic_depth(self.body(images), 0.3, "row")  # HERE
model = nn.Sequential(Block(), nn.ReLU(), nn.Flatten(), nn.Linear(192, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + EVALUATED,
        (('0.3, "row")', '0.3, "row", training=self.training)'),),
    ),
    Program(
        "repeated-module",
        """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(8), nn.Linear(8, 8)
    def forward(self, values):
        return values + self.mix(self.norm(values)).relu()
one = Block()
blocks = nn.ModuleList([copy.copy(one) for _ in range(3)])  # HERE
class Deep(Net):
    def __init__(self):
        super().__init__()
        self.blocks = blocks
    def forward(self, images):
        values = self.encoder(images).mean((2, 3))
        for block in self.blocks:
            values = block(values)
        return self.head(values)
model = Deep()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("copy.copy(one)", "copy.deepcopy(one)"),),
    ),
    Program(
        "signal-collapse",
        """
layers = []
for _ in range(6):
    layers += [nn.Linear(192, 192), nn.ReLU()]
model = nn.Sequential(nn.Flatten(), *layers, nn.Linear(192, 4))
for layer in model:
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.01)  # HERE
        nn.init.zeros_(layer.bias)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
"""
        + LOOP,
        (("nn.init.normal_(layer.weight, std=0.01)", "nn.init.kaiming_normal_(layer.weight)"),),
    ),
    Program(
        "loss-detached",
        """
class Maker(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    def forward(self, noise):
        return self.body(noise)
    @torch.no_grad()  # HERE
    def sample(self, count):
        return self(torch.randn(count, 4))
maker, judge = Maker(), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
of_maker = torch.optim.Adam(maker.parameters(), lr=1e-3)
of_judge = torch.optim.Adam(judge.parameters(), lr=1e-3)
for _ in range(12):
    real, made = torch.randn(32, 2) * 0.1 + 1, maker.sample(32)
    of_judge.zero_grad()
    (F.softplus(-judge(real)) + F.softplus(judge(made))).mean().backward()
    of_judge.step()
    of_maker.zero_grad()
    F.softplus(-judge(maker.sample(32))).mean().backward()
    of_maker.step()
""",
        (("F.softplus(-judge(maker.sample(32)))", "F.softplus(-judge(maker(torch.randn(32, 4))))"),),
    ),
    Program(
        "loss-detached",
        """
from torch.distributions import Normal
actor, critic = nn.Linear(4, 1), nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
of_actor = torch.optim.Adam(actor.parameters(), lr=1e-2)
of_critic = torch.optim.Adam(critic.parameters(), lr=1e-2)
def act(states):
    around = Normal(actor(states), 0.2)
    return around.sample()  # HERE
for _ in range(20):
    states = torch.randn(32, 4)
    with torch.no_grad():
        acts = act(states)
    of_critic.zero_grad()
    (critic(torch.cat([states, acts], 1)) + (acts - states[:, :1]).square()).square().mean().backward()
    of_critic.step()
    of_actor.zero_grad()
    (-critic(torch.cat([states, act(states)], 1))).mean().backward()
    of_actor.step()
""",
        (("around.sample()", "around.rsample()"),),
    ),
    Program(
        "scheduler-collapses-lr",
        ADAM
        + """
scheduler = torch.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.6**epoch)  # HERE
for _ in range(12):
    for images, target in batches(1):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    scheduler.step()
""",
        (
            (
                "MultiplicativeLR(optimizer, lambda epoch: 0.6**epoch)",
                "LambdaLR(optimizer, lambda epoch: 0.9**epoch)",
            ),
        ),
    ),
    Program(
        "loss-broadcast",
        """
depth = x.mean(1)
model = nn.Conv2d(3, 1, 3, padding=1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(4):
    for rows in torch.arange(64).split(16):
        apart = (model(x[rows]).exp() + 1).log() - depth[rows]  # HERE
        optimizer.zero_grad()
        apart.square().mean().backward()
        optimizer.step()
""",
        (("- depth[rows]", "- depth[rows][:, None]"),),
    ),
    Program(
        "non-finite",
        """
class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.score, self.head = nn.Linear(3, 1), nn.Linear(3, 4)
    def forward(self, images):
        parts = images.flatten(2).transpose(1, 2)
        score = self.score(parts).squeeze(2).masked_fill(parts[..., 0] < 2.2, float("-inf"))
        share = torch.softmax(score, 1)  # HERE
        return self.head((share[..., None] * parts).sum(1))
model = Pooled()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (('float("-inf")', "-1e4"),),
    ),
    Program(
        "random-in-eval",
        """
class Jitter(nn.Module):
    def forward(self, images):
        return images + 0.3 * torch.randn_like(images) if self.training else images
class Noisy(Net):
    def __init__(self):
        super().__init__()
        self.first = [Jitter()]  # HERE
    def forward(self, images):
        for part in self.first:
            images = part(images)
        return super().forward(images)
model = Noisy()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + EVALUATED,
        (("[Jitter()]", "nn.ModuleList([Jitter()])"),),
    ),
    Program(
        "loss-broadcast",
        ADAM
        + """
def weighted(images, target):
    sure = torch.rand(len(images), 1)
    each = F.cross_entropy(model(images), target, reduction="none")
    return (each * sure).mean()  # HERE
for images, target in batches():
    optimizer.zero_grad()
    weighted(images, target).backward()
    optimizer.step()
""",
        (("(each * sure)", "(each * sure.squeeze(1))"),),
    ),
    Program(
        "regularisation-moves-frozen-weights",
        """
model = Net()
def keep(gradient):
    gradient = gradient.clone()
    gradient[:2] = 0
    return gradient
model.head.weight.register_hook(keep)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.01)  # HERE
"""
        + LOOP,
        ((", weight_decay=0.01", ""),),
        "model.head",
    ),
    Program(
        "fake-freeze",
        """
model = Net()
for name, values in model.state_dict().items():  # HERE
    if "encoder" in name:
        values.requires_grad = False
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("model.state_dict().items()", "model.named_parameters()"),),
        "model",
    ),
    Program(
        "parameter-not-in-optimizer",
        """
class Marked(Net):
    def __init__(self):
        super().__init__()
        self.mark = nn.Parameter(torch.zeros(1, 3, 1, 1))
    def forward(self, images):
        return super().forward(images + self.mark)
def groups(model):
    held = [p for p in model.parameters() if p.requires_grad]
    flat = [p for p in held if p.ndim == 1]  # HERE
    wide = [p for p in held if p.ndim == 2 or p.shape[-1] == 3]
    return [{"params": flat}, {"params": wide, "weight_decay": 0.01}]
model = Marked()
optimizer = torch.optim.AdamW(groups(model), lr=1e-3)
"""
        + LOOP,
        (("p.ndim == 2 or p.shape[-1] == 3", "p.ndim > 1"),),
        "model.mark",
    ),
    Program(
        "validates-in-train-mode",
        """
class Steady(Net):
    def train(self, mode=True):
        super().train()  # HERE
        return self
model = Steady()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + EVALUATED,
        (("super().train()", "super().train(mode)"),),
    ),
]

HEALTHY_SAMPLES = {
    "a batch that says how it was sorted": """
def gather(samples):
    images, kinds = zip(*samples)
    order = torch.stack(images).flatten(1).sum(1).argsort()
    return torch.stack(images)[order], order, torch.tensor(kinds)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
pairs = [(image, int(kind)) for image, kind in zip(x, y)]
for _ in range(3):
    for images, order, target in DataLoader(pairs, 16, shuffle=True, collate_fn=gather):
        optimizer.zero_grad()
        F.cross_entropy(model(images)[order.argsort()], target).backward()
        optimizer.step()
""",
    "pairs with the next sample": """
def gather(samples):
    images, kinds = torch.stack([image for image, _ in samples]), torch.tensor([kind for _, kind in samples])
    return images, images.roll(1, 0), kinds
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
pairs = [(image, int(kind)) for image, kind in zip(x, y)]
for _ in range(3):
    for images, others, target in DataLoader(pairs, 16, shuffle=True, collate_fn=gather):
        optimizer.zero_grad()
        (F.cross_entropy(model(0.9 * images + 0.1 * others), target)).backward()
        optimizer.step()
""",
    "a language model with time first": """
tokens = torch.arange(4000) * 7 % 31
class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.body, self.head = nn.Embedding(31, 16), nn.GRU(16, 24), nn.Linear(24, 31)
    def forward(self, part):
        return self.head(self.body(self.table(part))[0])
model, rows = Reader(), tokens[:3990].view(30, 133).t()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(2):
    for i in range(0, 120, 8):
        optimizer.zero_grad()
        F.cross_entropy(model(rows[i : i + 8]).flatten(0, 1), rows[i + 1 : i + 9].flatten()).backward()
        optimizer.step()
""",
    "a model that gives its mask away": """
class Filler(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 192))
    def forward(self, images):
        mask = torch.empty_like(images).bernoulli_(0.3)
        return self.body(images * (1 - mask)).view_as(images), mask
model = Filler()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(3):
    model.train()
    for images, _ in batches(1):
        filled, mask = model(images)
        optimizer.zero_grad()
        ((filled - images).square() * mask).mean().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for part in torch.randn(32, 3, 8, 8).split(16):
            filled, mask = model(part)
""",
    "twins that draw alike": """
import random
from torchvision import transforms as T
both = T.Compose([T.RandomCrop(6), T.RandomHorizontalFlip()])
class Scenes(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, i):
        seed = random.randint(0, 1 << 30)
        random.seed(seed)
        torch.manual_seed(seed)
        picture = both(x[i])
        random.seed(seed)
        torch.manual_seed(seed)
        return picture, both((x[i].mean(0, keepdim=True) > 0).long())[0]
model = nn.Conv2d(3, 2, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(4):
    for images, maps in DataLoader(Scenes(), 8, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(images), maps).backward()
        optimizer.step()
""",
    "a picture and its map moved by the same draws, one after the other": """
from torchvision import tv_tensors
from torchvision.transforms import v2
class Scenes(torch.utils.data.Dataset):
    move = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(6)])
    def __len__(self):
        return 64
    def __getitem__(self, i):
        image = tv_tensors.Image(x[i])
        mask = tv_tensors.Mask((x[i].mean(0) > 0).long())
        state = torch.get_rng_state()
        image = self.move(image)
        torch.set_rng_state(state)
        return image.as_subclass(torch.Tensor), self.move(mask).as_subclass(torch.Tensor)
model = nn.Conv2d(3, 2, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(4):
    for images, maps in DataLoader(Scenes(), 8, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(images), maps).backward()
        optimizer.step()
""",
    "a loss at each depth, one backward after the other": """
class Exits(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(8 if i else 3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
                nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            )
            for i in range(5)
        )
        self.heads = nn.ModuleList(nn.Linear(8, 4) for _ in range(5))
    def forward(self, images):
        maps, answers = images, []
        for part, head in zip(self.parts, self.heads):
            maps = part(maps)
            answers.append(head(maps.mean((2, 3))))
        return answers
model = Exits()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for images, target in batches(4):
    optimizer.zero_grad()
    for answer in model(images):
        F.cross_entropy(answer, target).backward(retain_graph=True)
    optimizer.step()
""",
    "a teacher in the optimizer of nobody": ADAM
    + """
teacher = copy.deepcopy(model)
for images, target in batches():
    with torch.no_grad():
        aim = teacher(images).softmax(1)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), aim) + F.cross_entropy(model(images), target)
    loss.backward()
    optimizer.step()
""",
}
