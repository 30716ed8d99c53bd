import os
import pickle

import pytest

from tests.data.tiny_cifar import CLASSES, write_pickles
from trivet.data.sources import read_dataset
from trivet.errors import DataError


def test_batches_are_read_in_order(tmp_path):
    images = write_pickles(tmp_path)
    splits = read_dataset(tmp_path, val_share=0.0)
    assert (splits.format, splits.labels.names) == ("cifar-python", CLASSES)
    assert (len(splits.train), len(splits.test)) == (10, 2)
    for i in range(10):
        assert (splits.train.image(i) == images[i]).all()
    assert splits.train.class_labels.tolist() == [0, 1, 1, 2, 2, 0, 0, 1, 1, 2]
    assert splits.train.name(3) == "train/1_1.png"


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_code_in_a_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pickles(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps({b"labels": Evil()}))
    with pytest.raises(
        DataError, match=r"data_batch_2: the file is not one of CIFAR's: it calls for \w+\.mkdir"
    ):
        read_dataset(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not one of CIFAR's"),
        (pickle.dumps([1]), "'labels' as list is wanted, got NoneType"),
        (pickle.dumps({b"labels": [9], b"filenames": [b"x"]}), "a label from 0 to 2"),
    ],
)
def test_other_content_is_refused(tmp_path, content, message):
    write_pickles(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path)


def test_the_number_of_images_is_that_of_the_labels(tmp_path):
    write_pickles(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    batch = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({**batch, b"data": batch[b"data"][:1]}, protocol=2))
    with pytest.raises(DataError, match="there are 2 labels and 1 images"):
        read_dataset(tmp_path).test.image(0)
