"""BayesFlow's approximators train as with stock Keras once extended."""

import keras_jax_ext as kje

import bayesflow
import numpy as np
from beside_stock import assert_as_stock, same

SIZE, BATCH = 64, 8


def simulated(seed=0):
    """Two parameters, and two noisy looks at them."""
    random = np.random.default_rng(seed)
    theta = random.normal(size=(SIZE, 2)).astype("float32")
    noise = random.normal(scale=0.1, size=(SIZE, 2)).astype("float32")
    return {"theta": theta, "x": theta + noise}


def adapter():
    adapter = bayesflow.Adapter().convert_dtype("float64", "float32")
    adapter = adapter.concatenate(["theta"], into="inference_variables")
    return adapter.concatenate(["x"], into="inference_conditions")


def coupling():
    return bayesflow.networks.CouplingFlow(
        depth=2,
        subnet=bayesflow.networks.MLP,
        subnet_kwargs={"widths": (8,), "dropout": None},
    )


def dataset(adapter, **options):
    return bayesflow.OfflineDataset(
        simulated(), batch_size=BATCH, adapter=adapter, **options
    )


def history(of):
    return {k: v for k, v in of.history.items() if "loss" in k}


def test_an_approximator_trains_from_an_offline_dataset(loops):
    def workflow(way):
        model = way(
            bayesflow.ContinuousApproximator(
                inference_network=coupling(), adapter=adapter()
            )
        )
        model.compile("adam")
        done = model.fit(
            dataset=dataset(model.adapter),
            validation_data=dataset(model.adapter, shuffle=False),
            epochs=2,
            verbose=0,
        )
        return model, history(done)

    model = assert_as_stock(
        workflow, same, kje.extend, loops, ("train", "test")
    )
    samples = model.sample(num_samples=3, conditions={"x": np.ones((1, 2))})
    assert samples["theta"].shape == (1, 3, 2)


def test_a_workflow_keeps_its_own_fit(loops):
    def workflow(way):
        flow = bayesflow.BasicWorkflow(
            inference_network=coupling(),
            inference_variables=["theta"],
            inference_conditions=["x"],
            initial_learning_rate=1e-3,
        )
        flow.approximator = way(flow.approximator)
        done = flow.fit_offline(
            simulated(), epochs=2, batch_size=BATCH, verbose=0
        )
        return flow.approximator, history(done)

    assert_as_stock(workflow, same, kje.extend, loops)
