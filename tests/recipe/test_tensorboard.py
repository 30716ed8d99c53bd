import pytest

from tests.train.tiny import tiny_job, tiny_model
from trivet.recipe.tensorboard import TensorBoard, installed
from trivet.train.loop import train


@pytest.mark.skipif(not installed(), reason="TensorBoard is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_row_is_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, history = train(tiny_model(), tiny_job(tmp_path, listeners=[TensorBoard(tmp_path)]))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    written = events.Scalars("training/loss")
    assert [event.step for event in written] == [row["step"] for row in history.rows]
    assert [event.value for event in written] == pytest.approx([row["loss"] for row in history.rows])
    assert "validation/val_map" in events.Tags()["scalars"]
