"""What the flow ``train`` says of how long a training will take."""

import logging

import pytest

from flows.train import log_duration
from genre.training.job import TrainingJob


@pytest.mark.parametrize(
    ("epoch_s", "folds", "text"),
    [
        (2.0, 0, ""),
        (9.0, 0, "mel_cnn: about 3 minutes in all (20 epochs of 9 s)"),
        (9.0, 3, "mel_cnn: about 9 minutes in all (20 epochs of 9 s, and 3 trainings for the folds)"),
    ],
)
def test_a_long_training_is_announced(epoch_s, folds, text, monkeypatch, caplog):
    monkeypatch.setattr("flows.train.get_run_logger", lambda: logging.getLogger("of the run"))
    caplog.set_level(logging.INFO)
    job = TrainingJob("mel_cnn", {"epochs": 20}, 0, ["a"], {}, "", "", "", "", ["spectrograms"], folds=folds)
    log_duration(job, epoch_s)
    assert caplog.text.endswith(f"{text}\n" if text else "") and bool(caplog.messages) == bool(text)
