import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

OPTIONS = {"norm": {"momentum": 0.999}, "rates": [1, 2, 3], "width": 12, "epochs": 4, "lr": 0.02}


class Atrous(nn.Module):
    def __init__(self, cin, cout, rate, norm):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 3, padding=rate, dilation=rate, bias=False)
        self.norm = nn.BatchNorm2d(cout, **norm)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self, options):
        super().__init__()
        width, norm = options["width"], options["norm"]
        self.stem = Atrous(1, width, 1, norm)
        self.branches = nn.ModuleList([Atrous(width, width, rate, norm) for rate in options["rates"]])
        self.head = nn.Linear(width * len(options["rates"]), 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.cat([branch(x).mean((2, 3)) for branch in self.branches], 1))


def weave(n, seed):
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (n,), generator=g)
    period = torch.tensor([1.6, 0.8, 0.4])[label][:, None, None]
    axis = torch.arange(20.0)
    shift = 6.3 * torch.rand(n, 2, 1, 1, generator=g)
    image = torch.sin(period * axis[:, None] + shift[:, 0]) + torch.sin(period * axis + shift[:, 1])
    gain = 0.5 + torch.rand(n, 1, 1, generator=g)
    return TensorDataset((gain * image + 0.4 * torch.randn(n, 20, 20, generator=g)).unsqueeze(1), label)


torch.manual_seed(0)
net = Net(OPTIONS)
optimizer = torch.optim.SGD(net.parameters(), lr=OPTIONS["lr"], momentum=0.9)
val = DataLoader(weave(150, 1), batch_size=50)
for epoch in range(OPTIONS["epochs"]):
    net.train()
    for x, y in DataLoader(weave(480, 0), batch_size=16, shuffle=True, drop_last=True):
        loss = nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        right = sum((net(x).argmax(1) == y).sum().item() for x, y in val)
    print(epoch, f"{loss.item():.3f} {right / 150:.3f}")
