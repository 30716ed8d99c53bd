"""Graph attention on a planted-partition graph: label the nodes from a few known ones."""
import torch
import torch.nn as nn
import torch.nn.functional as F


def planted_graph(n=120, groups=3, inside=0.2, across=0.02, seed=0):
    g = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % groups
    chance = torch.where(label[:, None] == label[None], inside, across)
    upper = (torch.rand(n, n, generator=g) < chance).triu(1)
    adjacency = upper | upper.T | torch.eye(n, dtype=torch.bool)
    features = torch.randn(n, 8, generator=g)
    features[:, :groups] += F.one_hot(label, groups) * 0.8
    return features, adjacency, label


class GraphAttention(nn.Module):
    def __init__(self, d_in, d_out, heads):
        super().__init__()
        self.heads, self.d_out = heads, d_out
        self.project = nn.Linear(d_in, heads * d_out, bias=False)
        self.attend = nn.Parameter(torch.Tensor(2, heads, d_out))
        self.bias = nn.Parameter(torch.zeros(heads * d_out))

    def forward(self, x, adjacency):
        h = self.project(x).view(-1, self.heads, self.d_out)
        source, target = (h * self.attend[0]).sum(-1), (h * self.attend[1]).sum(-1)
        score = F.leaky_relu(source[:, None] + target[None], 0.2)
        score = score.masked_fill(~adjacency[..., None], float("-inf"))
        return torch.einsum("ijh,jhd->ihd", score.softmax(1), h).flatten(1) + self.bias


class GAT(nn.Module):
    def __init__(self, d_in, classes):
        super().__init__()
        self.first = GraphAttention(d_in, 8, heads=4)
        self.second = GraphAttention(32, classes, heads=1)

    def forward(self, x, adjacency):
        return self.second(F.elu(self.first(x, adjacency)), adjacency)


if __name__ == "__main__":
    torch.manual_seed(0)
    x, adjacency, y = planted_graph()
    known = torch.arange(len(y)) < 40
    model = GAT(x.shape[1], 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=5e-4)
    for epoch in range(60):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, adjacency)[known], y[known])
        loss.backward()
        optimizer.step()
        if epoch % 20 == 19:
            model.eval()
            with torch.no_grad():
                acc = (model(x, adjacency).argmax(1) == y)[~known].float().mean().item()
            print(epoch + 1, f"{loss.item():.3f} {acc:.3f}")
