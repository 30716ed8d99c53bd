"""Explanations of findings about data and targets."""

from trivet.doctor.explanations.explanation import Explanation

DATA = {
    "samples-mixed": Explanation(
        "`view` and `reshape` do not move axes: they cut the same numbers up anew. The network is given noise, or the "
        "samples of a batch are mixed into each other.",
        """
        pictures = torch.rand(8, 16, 16, 3)  # as files hold them: channels last
        output = model(pictures.view(8, 3, 16, 16))""",
        """
        pictures = torch.rand(8, 16, 16, 3)
        output = model(pictures.permute(0, 3, 1, 2))""",
        "`permute` or `transpose` to move axes; `flatten(1)`, never `view(-1, n)`, to keep the samples apart; "
        "`softmax` over axis 1, not 0.",
    ),
    "targets-misaligned": Explanation(
        "What the network is to find is not where the target says: it learns blurred means at best.",
        """
        def turned(values):
            return values.flip(-1) if torch.rand(()) < 0.5 else values


        picture, mask = turned(images[0]), turned(images[0, 0])  # two draws""",
        """
        def turned(picture, mask):
            return (picture.flip(-1), mask.flip(-1)) if torch.rand(()) < 0.5 else (picture, mask)


        picture, mask = turned(images[0], images[0, 0])""",
        "Draw once, apply to both. Pair files by their stem, not by the order of `os.listdir`, which is none.",
    ),
    "mask-interpolated": Explanation(
        "Between class 1 and class 3 a bilinear resize writes class 2: borders are labelled with things that are not "
        "there.",
        """
        mask = torch.randint(0, 4, (1, 1, 16, 16)).float()
        target = F.interpolate(mask, (8, 8), mode="bilinear").long()""",
        """
        mask = torch.randint(0, 4, (1, 1, 16, 16)).float()
        target = F.interpolate(mask, (8, 8), mode="nearest").long()""",
        "Nearest neighbour for every mask, in resizes, rotations and warps alike; PNG, not JPEG, on disk.",
    ),
    "overlapping-labels": Explanation(
        "Where shapes overlap, the last one drawn wins: the same scene is labelled in different ways, by the order of "
        "a list.",
        """
        shapes = [(slice(0, 4), 1), (slice(2, 16), 2)]
        mask = torch.zeros(16, dtype=torch.long)
        for where, label in shapes:
            mask[where] = label""",
        """
        shapes = [(slice(0, 4), 1), (slice(2, 16), 2)]
        mask = torch.zeros(16, dtype=torch.long)
        for where, label in sorted(shapes, key=lambda shape: shape[0].start - shape[0].stop):  # the largest first
            mask[where] = label""",
        "Fix a rule (large before small, or by class), or give each class a mask of its own and use a binary loss.",
    ),
    "box-format": Explanation(
        "x, y, width and height are read as two corners, or the reverse: the network learns boxes that are not there.",
        "boxes = torch.tensor([[10.0, 10.0, 5.0, 4.0]])  # COCO's x, y, width, height",
        """
        boxes = torch.tensor([[10.0, 10.0, 5.0, 4.0]])
        boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)  # x1, y1, x2, y2""",
        "Convert once, where the file is read, and draw a few images with their boxes.",
    ),
    "degenerate-boxes": Explanation(
        "A box without an area has an infinite or undefined loss; some detectors refuse the batch.",
        "boxes = torch.tensor([[3.0, 3.0, 3.0, 9.0], [20.0, 2.0, 30.0, 9.0]]).clamp(0, 16)",
        """
        boxes = torch.tensor([[3.0, 3.0, 3.0, 9.0], [20.0, 2.0, 30.0, 9.0]]).clamp(0, 16)
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        boxes = boxes[kept]  # and the labels with them""",
        "Filter after cropping and clamping, and look where such boxes come from: often it is the format.",
    ),
    "label-off-by-one": Explanation(
        "In torchvision's detectors class 0 is the background: the first class is learned as background and never "
        "found.",
        'targets = {"boxes": torch.rand(1, 4), "labels": torch.tensor([0])}',
        'targets = {"boxes": torch.rand(1, 4), "labels": torch.tensor([1])}',
        "Begin at 1 and make the model for one class more; or the reverse where a model has no background class.",
    ),
    "train-val-leak": Explanation(
        "The validation score is measured on what was trained: it says nothing about new data, and early stopping "
        "stops too late.",
        """
        enlarged = torch.cat([images, images.flip(-1)])
        train, val = enlarged[:12], enlarged[12:]""",
        """
        train, val = images[:6], images[6:]
        train = torch.cat([train, train.flip(-1)])""",
        "Split before anything is copied or cut into pieces, and by group: patient, scene, video, recording.",
    ),
    "augmentation-repeats": Explanation(
        "Every worker, or every epoch, draws the same numbers: the network sees far fewer variants than it seems.",
        """
        class Pictures(torch.utils.data.Dataset):
            rng = np.random.default_rng(0)

            def __len__(self):
                return 8

            def __getitem__(self, i):
                return images[i] + self.rng.normal()


        loader = DataLoader(Pictures(), 4, num_workers=2)""",
        """
        class Pictures(torch.utils.data.Dataset):
            def __len__(self):
                return 8

            def __getitem__(self, i):
                return images[i] + torch.randn(())


        loader = DataLoader(Pictures(), 4, num_workers=2)""",
        "Draw from torch's generator, which the loader seeds for each worker and epoch, or seed your own from "
        "`torch.initial_seed()` in `worker_init_fn`.",
    ),
}
