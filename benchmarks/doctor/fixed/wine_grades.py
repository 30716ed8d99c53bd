# notebook: wine.ipynb, exported
# %%
import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

torch.manual_seed(3)

# %% data
X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train = torch.tensor(scaler.transform(X_train), dtype=torch.float32)
X_test = torch.tensor(scaler.transform(X_test), dtype=torch.float32)
y_train, y_test = torch.tensor(y_train), torch.tensor(y_test)
n_classes = int(y_train.max()) + 1


# %% model
class Backbone(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.inp = nn.Linear(13, 32)
        self.mid = nn.Linear(32, 32)
        self.out = nn.Linear(32, n_outputs)

    def forward(self, x):
        x = torch.relu(self.inp(x))
        x = torch.relu(self.mid(x))
        return self.out(x)


net = Backbone(n_outputs=10)
net.out = nn.Linear(32, n_classes)
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
loss_fn = nn.CrossEntropyLoss()

# %% training
for epoch in range(12):
    net.train()
    order = torch.randperm(len(X_train))
    for start in range(0, len(order), 16):
        idx = order[start:start + 16]
        opt.zero_grad()
        loss = loss_fn(net(X_train[idx]), y_train[idx])
        loss.backward()
        opt.step()

    net.eval()
    with torch.no_grad():
        acc = (net(X_test).argmax(1) == y_test).float().mean().item()
    if epoch % 4 == 3:
        print(epoch, f"loss {loss.item():.3f}  test acc {acc:.3f}")
