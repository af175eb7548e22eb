import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvgM

from pocketrank_federated.server_step import server_step
from tests.federated.flower import request_to


def flower_steps(means: list[np.ndarray], learning_rate: float, momentum: float) -> np.ndarray:
    """Parameters after FedAvgM of Flower, where one client answers with params + mean."""
    strategy = FedAvgM(server_learning_rate=learning_rate, server_momentum=momentum)
    params = np.zeros_like(means[0])
    strategy.current_arrays = ArrayRecord([params])
    for server_round, mean in enumerate(means, start=1):
        content = RecordDict({"arrays": ArrayRecord([params + mean]), "metrics": MetricRecord({"num-examples": 1})})
        arrays, _ = strategy.aggregate_train(server_round, [Message(content, reply_to=request_to(7))])
        assert arrays is not None
        params = arrays.to_numpy_ndarrays()[0]
    return params


@pytest.mark.parametrize(("learning_rate", "momentum"), [(1.0, 0.5), (0.5, 0.9), (2.0, 0.0)])
def test_steps_are_those_of_flowers_fedavgm(learning_rate: float, momentum: float) -> None:
    means = list(np.random.default_rng(5).normal(size=(4, 6)))
    params, velocity = np.zeros(6, np.float32), np.zeros(6, np.float32)
    for mean in means:
        params, velocity = server_step(params, velocity, mean, learning_rate, momentum)
    assert params.dtype == velocity.dtype == np.float32
    np.testing.assert_allclose(params, flower_steps(means, learning_rate, momentum), rtol=1e-5, atol=1e-6)


def test_a_step_leaves_its_arguments() -> None:
    params, velocity, mean = np.ones(2, np.float32), np.ones(2, np.float32), np.ones(2)
    server_step(params, velocity, mean, 1.0, 0.5)
    for array in (params, velocity, mean):
        np.testing.assert_array_equal(array, np.ones(2))
