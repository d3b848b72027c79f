"""What changes weights in the step is refused on parameter servers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.unit.strategies.servers_in_process import with_servers
from tfscale.shrink import Cluster, OneShot, Prune

pytestmark = pytest.mark.own_process


@pytest.fixture(scope="module")
def servers() -> tf.distribute.Strategy:
    return with_servers()


@pytest.mark.parametrize("callback", [Prune(OneShot(0.5)), Cluster(2)], ids=["Prune", "Cluster"])
def test_workers_that_update_at_different_times_are_refused(
    servers: tf.distribute.Strategy, callback: keras.callbacks.Callback
) -> None:
    with servers.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6)])
        model.compile("sgd", "mse")
    name = type(callback).__name__
    with pytest.raises(
        ValueError, match=rf"must not contain {name} .*parameter server strategy.*mirrored_strategy"
    ):
        model.fit(np.ones([4, 4]), np.ones([4, 6]), verbose=0, callbacks=[callback])
