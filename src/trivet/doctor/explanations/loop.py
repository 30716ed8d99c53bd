"""Explanations of findings about the training loop."""

from trivet.doctor.explanations.explanation import Explanation

LOOP = {
    "missing-zero-grad": Explanation(
        "`backward()` adds to the gradients: every step follows the sum of all gradients since the start, which acts "
        "like a momentum of 1.",
        """
        for values, target in loader:
            F.cross_entropy(model(values), target).backward()
            optimizer.step()""",
        """
        for values, target in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(values), target).backward()
            optimizer.step()""",
        "Clear once a step; when accumulating, once for each `step()`.",
    ),
    "accumulation-cancelled": Explanation(
        "All but the last of the accumulated backward passes are thrown away: the effective batch is one micro-batch, "
        "at the cost of many.",
        """
        for i, (values, target) in enumerate(loader):
            optimizer.zero_grad()
            (F.cross_entropy(model(values), target) / 2).backward()
            if i % 2:
                optimizer.step()""",
        """
        for i, (values, target) in enumerate(loader):
            (F.cross_entropy(model(values), target) / 2).backward()
            if i % 2:
                optimizer.step()
                optimizer.zero_grad()""",
        "`zero_grad()` belongs right after `step()`, and the loss is divided by the number of micro-batches.",
    ),
    "trains-in-eval-mode": Explanation(
        "Dropout is off, and batch norm normalises by statistics that no longer follow the weights: training goes on, "
        "worse and worse matched.",
        """
        def validate():
            model.eval()


        for values, target in loader:
            F.cross_entropy(model(values), target).backward()
            validate()""",
        """
        def validate():
            model.eval()


        for values, target in loader:
            model.train()
            F.cross_entropy(model(values), target).backward()
            validate()""",
        "`model.train()` at the beginning of every epoch, not only once before the loop.",
    ),
    "validates-in-train-mode": Explanation(
        "Dropout makes the score noisy and too low, batch norm scores each batch by its own statistics, and the "
        "validation data leaks into the running averages. `no_grad` does not switch the mode.",
        """
        with torch.no_grad():
            for values, target in val_loader:
                output = model(values)""",
        """
        model.eval()
        with torch.no_grad():
            for values, target in val_loader:
                output = model(values)
        model.train()""",
        "Switch with `eval()` before and `train()` after every evaluation.",
    ),
    "random-in-eval": Explanation(
        "Scores are lower than they could be, and differ from run to run: something is still drawn at random when the "
        "model is in eval mode.",
        """
        def forward(values):
            return F.dropout(values, 0.5)


        output = forward(images)""",
        """
        def forward(values, training):
            return F.dropout(values, 0.5, training=training)


        output = forward(images, model.training)""",
        "`nn.Dropout` as a layer made in `__init__`, or `training=self.training`: the function's default is True.",
    ),
    "scheduler-collapses-lr": Explanation(
        "The learning rate is used up long before training ends: the rest changes nothing.",
        """
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10, gamma=0.1)
        for values, target in loader:
            optimizer.step()
            scheduler.step()  # ten batches, not ten epochs""",
        """
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10, gamma=0.1)
        for epoch in range(2):
            for values, target in loader:
                optimizer.step()
            scheduler.step()""",
        "Count what the schedule's length counts: epochs or batches. A scheduler is made once, not in each epoch.",
    ),
    "scheduler-never-steps": Explanation(
        "The rate stays at its first value; with a warm-up that is the lowest one.",
        """
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        for values, target in loader:
            optimizer.step()""",
        """
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(loader))
        for values, target in loader:
            optimizer.step()
            scheduler.step()""",
        "`scheduler.step()` after `optimizer.step()`; a scheduler that was made for another optimizer steps that one.",
    ),
    "clip-before-unscale": Explanation(
        "The bound is compared with gradients that are still multiplied by the scaler, 65536 times too large: every "
        "step is clipped to almost nothing.",
        """
        scaler = torch.amp.GradScaler("cpu")
        scaler.scale(F.cross_entropy(model(images), labels)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()""",
        """
        scaler = torch.amp.GradScaler("cpu")
        scaler.scale(F.cross_entropy(model(images), labels)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()""",
        "`scaler.unscale_(optimizer)` before anything looks at the gradients.",
    ),
    "graph-retained": Explanation(
        "Memory grows with every step until it runs out: something keeps the loss, and with it the graph and all "
        "activations of its step.",
        """
        total = 0.0
        for values, target in loader:
            loss = F.cross_entropy(model(values), target)
            loss.backward()
            total += loss""",
        """
        total = 0.0
        for values, target in loader:
            loss = F.cross_entropy(model(values), target)
            loss.backward()
            total += loss.item()""",
        "`.item()` for what is logged, `.detach()` for tensors that are kept (a hidden state, a memory bank).",
    ),
    "data-order-repeats": Explanation(
        "Every epoch shows the same batches in the same order, with the same dropout masks: the order is learned, too.",
        """
        for epoch in range(2):
            torch.manual_seed(0)
            for values, target in DataLoader(dataset, 4, shuffle=True):
                pass""",
        """
        torch.manual_seed(0)
        for epoch in range(2):
            for values, target in DataLoader(dataset, 4, shuffle=True):
                pass""",
        "Seed once, before the loop. A `DistributedSampler` wants `set_epoch(epoch)`.",
    ),
    "overfitting": Explanation(
        "The last weights are worse on new data than earlier ones: since the turning point the model learns the "
        "training samples themselves.",
        """
        for epoch in range(4):
            for values, target in loader:
                optimizer.step()""",
        """
        best, kept = float("inf"), None
        for epoch in range(4):
            for values, target in loader:
                optimizer.step()
            with torch.no_grad():
                loss = sum(F.cross_entropy(model(values), target).item() for values, target in val_loader)
            if loss < best:
                best, kept = loss, {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(kept)""",
        "Keep the weights of the best validation; then more or augmented data, weight decay, a smaller or pretrained "
        "model. A rising loss beside a steady accuracy is over-confidence: label smoothing or calibration.",
    ),
    "host-memory-growth": Explanation(
        "The process is ended by the system, hours later, mostly without a message.",
        """
        losses = []
        for values, target in loader:
            losses.append(F.cross_entropy(model(values), target))""",
        """
        losses = []
        for values, target in loader:
            losses.append(F.cross_entropy(model(values), target).item())""",
        "Keep numbers, not tensors; bound caches; in data sets use arrays rather than lists of objects, which each "
        "worker copies piece by piece.",
    ),
    "loader-bound": Explanation(
        "The processor that trains stands idle while it waits for batches.",
        "slow = DataLoader(dataset, batch_size=4, num_workers=0)  # decodes and augments between the steps",
        "fast = DataLoader(dataset, batch_size=4, num_workers=2, persistent_workers=True)",
        "More workers (about one a core), smaller pictures on disk, decoding once into an array, augmentation on the "
        "device. On a CPU that trains too, workers take its cores.",
    ),
    "plateau": Explanation(
        "The loss stays at that of guessing: nothing in the input is used.",
        "hidden = torch.where(torch.rand(images.shape) < 0.97, 0.0, images)  # an augmentation that leaves nothing",
        "hidden = torch.where(torch.rand(images.shape) < 0.10, 0.0, images)",
        "Look at one batch as the model gets it, with its targets. Then try to learn that batch by heart: what cannot "
        "do that has a fault in model, loss or optimizer; what can has one in the data.",
    ),
    "script-failed": Explanation(
        "The script did not come to its end.",
        do="The traceback stands above the findings. `trivet doctor` tells well-known messages in other words.",
    ),
}
