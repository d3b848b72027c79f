"""The order of collectives, and what follows a failure; on the one process of MPI's own world."""

from __future__ import annotations

import numpy as np
import pytest

from strategies.collectives.ordered_collectives import OrderedCollectives

pytestmark = pytest.mark.own_process


@pytest.fixture
def collectives() -> OrderedCollectives:
    from mpi4py import MPI

    return OrderedCollectives(MPI.COMM_SELF, check_peers=lambda: None)


def test_collectives_may_be_waited_for_in_another_order(collectives: OrderedCollectives) -> None:
    assert collectives.start("all-reduce", np.arange(3.0), 0) == 1
    assert collectives.start("all-gather", np.ones((2, 1), bool), 1) == 2
    assert collectives.wait(1).tolist() == [[True], [True]]
    assert collectives.wait(0).tolist() == [0.0, 1.0, 2.0]


def test_a_start_out_of_order_is_refused_and_so_is_all_that_follows(
    collectives: OrderedCollectives,
) -> None:
    collectives.start("all-reduce", np.zeros(2), 0)
    with pytest.raises(RuntimeError, match="Received: number 2, expected: number 1"):
        collectives.start("all-reduce", np.zeros(2), 2)
    with pytest.raises(RuntimeError, match="cannot continue after an earlier failure"):
        collectives.start("all-reduce", np.zeros(2), 1)
    with pytest.raises(RuntimeError, match="cannot continue after an earlier failure"):
        collectives.wait(0)
