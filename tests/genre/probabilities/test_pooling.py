import numpy as np

from genre.probabilities import pooling, tables
from tests.support.simulation import two_models


def test_the_better_model_has_most_of_the_weight():
    good, guessing = two_models(np.random.default_rng(0), n_clips=600, n_genres=4, skills=(3.0, 0.0), shared=0.0)
    weights = pooling.fit_pool_weights([tables.proba_of(t) for t in (good, guessing)], tables.labels_of(good))
    assert weights[0] > 8 * weights[1] and weights[1] >= 0.05
