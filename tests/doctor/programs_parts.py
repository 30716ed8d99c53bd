"""Faulty programs about parts of a step, of a target and of a sample, in the form of `programs.py`."""

from tests.doctor.data_programs import MAPS
from tests.doctor.programs import LOOP, Program

PART_PROGRAMS = [
    Program(
        "graph-retained",
        """
cell, head = nn.GRU(24, 16, batch_first=True), nn.Linear(16, 4)
optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=1e-3)
for images, target in batches(4):
    rows = images.flatten(2).transpose(1, 2).reshape(16, 8, 24)
    state = None
    optimizer.zero_grad()
    for part in rows.chunk(4, dim=1):
        outputs, state = cell(part, state)
        loss = F.cross_entropy(head(outputs[:, -1]), target) / 4
        loss.backward(retain_graph=True)  # HERE
    optimizer.step()
""",
        (
            (
                "/ 4\n        loss.backward(retain_graph=True)",
                "/ 4\n        loss.backward()\n        state = state.detach()",
            ),
        ),
    ),
    Program(
        "overlapping-labels",
        """
class Pairs(torch.utils.data.Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        r, c = torch.randint(0, 8, (2,), generator=g).tolist()
        mask = torch.zeros(4, 16, 16)
        mask[1, r:r + 8, c:c + 8] = 1
        mask[2, r + 2:r + 5, c + 2:c + 5] = 1
        mask[0] = 1 - mask[1:].amax(0)  # HERE
        return torch.randn(2, 16, 16, generator=g) + mask[1:3], mask
"""
        + MAPS,
        (
            (
                "mask[2, r + 2:r + 5, c + 2:c + 5] = 1",
                "mask[:, r + 2:r + 5, c + 2:c + 5] = torch.tensor([0.0, 0, 1, 0])[:, None, None]",
            ),
        ),
    ),
    Program(
        "samples-mixed",
        """
class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(3, 12, (8, 3), padding=(0, 1)), nn.ReLU())
        self.rnn, self.head = nn.LSTM(12, 10), nn.Linear(10, 4)
    def forward(self, images):
        maps = self.maps(images).squeeze(2)
        b, c, w = maps.shape
        outputs, _ = self.rnn(maps.view(w, b, c))  # HERE
        return self.head(outputs[-1])
model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("maps.view(w, b, c)", "maps.permute(2, 0, 1)"),),
    ),
    Program(
        "loss-broadcast",
        """
model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
for images, target in batches():
    answer, goal = model(images), target.float()
    optimizer.zero_grad()
    loss = 0
    for i, quantile in enumerate((0.1, 0.5, 0.9)):
        error = goal - answer[:, i:i + 1]  # HERE
        loss = loss + torch.maximum((quantile - 1) * error, quantile * error).mean()
    loss.backward()
    optimizer.step()
""",
        (("answer[:, i:i + 1]", "answer[:, i]"),),
    ),
    Program(
        "targets-misaligned",
        """
from torchvision import tv_tensors
from torchvision.transforms import v2
class Pairs(torch.utils.data.Dataset):
    def __init__(self):
        self.move = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(16)])
    def __len__(self):
        return 64
    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        image = tv_tensors.Image(torch.randn(2, 20, 20, generator=g))
        mask = tv_tensors.Mask((image[0] > 0).long())
        image = self.move(image)
        mask = self.move(mask)  # HERE
        return image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)
"""
        + MAPS,
        (
            (
                "        image = self.move(image)\n        mask = self.move(mask)",
                "        image, mask = self.move(image, mask)",
            ),
        ),
    ),
    Program(
        "frozen-part-changes",
        """
class Pupil(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher, self.student = Net(), Net()
        self.teacher.eval().requires_grad_(False)
    def loss(self, images, target):
        aim = self.teacher(images).softmax(1)
        answer = self.student(images)
        return F.cross_entropy(answer, aim) + F.cross_entropy(answer, target)
both = Pupil()
optimizer = torch.optim.Adam(both.student.parameters(), lr=1e-3)
both.train()  # HERE
for images, target in batches():
    optimizer.zero_grad()
    both.loss(images, target).backward()
    optimizer.step()
""",
        (("both.train()", "both.train()\nboth.teacher.eval()"),),
    ),
]
