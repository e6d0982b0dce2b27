"""keras-rs: ranking with crossed features, and retrieval by two towers."""

import keras_jax_ext as kje

import keras
import keras_rs
import numpy as np
import pytest
from beside_stock import assert_as_stock, same

IDS, WIDTH = 12, 8


def ratings():
    random = np.random.default_rng(3)
    ids = random.integers(0, IDS, (64, 2)).astype("int32")
    return ids, (ids.sum(-1, keepdims=True) % 5 / 5).astype("float32")


def crossed(base):
    """A deep & cross network, of layers made beforehand."""

    class Ranking(base):
        def __init__(self):
            super().__init__()
            self.embedding = keras.layers.Embedding(IDS, WIDTH)
            self.first = keras_rs.layers.FeatureCross()
            self.second = keras_rs.layers.FeatureCross(projection_dim=4)
            self.score = keras.layers.Dense(1)

        def call(self, ids):
            h = keras.ops.reshape(self.embedding(ids), (-1, 2 * WIDTH))
            return self.score(self.second(h, self.first(h, h)))

    return Ranking()


def network(ids, layers, cross):
    """The same network, of layers made where they are used."""
    h = layers.Embedding(IDS, WIDTH)(ids)
    h = keras.ops.reshape(h, (-1, 2 * WIDTH))
    first = cross()(h, h)
    second = cross(projection_dim=4)(h, first)
    return layers.Dense(1)(second)


def functional(_):
    ids = keras.Input((2,), dtype="int32")
    cross = keras_rs.layers.FeatureCross
    return keras.Model(ids, network(ids, keras.layers, cross))


def inline(_):
    class Ranking(kje.Model):
        def call(self, ids):
            cross = kje.inline(keras_rs.layers.FeatureCross)
            return network(ids, kje.layers, cross)

    return Ranking()


WAYS = {
    "model": (crossed, lambda _: crossed(kje.Model)),
    "extend": (crossed, lambda base: kje.extend(crossed(base))),
    # FeatureCross draws seeds when it is built, and so in another order than
    # where all layers are made before.
    "inline": (functional, inline),
}


@pytest.mark.parametrize(("stock", "way"), WAYS.values(), ids=WAYS)
def test_crossed_features_rank_as_in_stock(stock, way, loops):
    def workflow(make):
        model = make(keras.Model)
        model.compile(keras.optimizers.Adagrad(0.1), loss="mse")
        done = model.fit(
            *ratings(), batch_size=8, epochs=2, validation_split=0.25, verbose=0
        )
        return model, done.history

    assert_as_stock(workflow, stock, way, loops, ("train", "test"))


def test_lists_are_ranked_with_its_loss_and_metric(loops):
    random = np.random.default_rng(4)
    x = random.normal(size=(32, 5, 3)).astype("float32")
    y = random.integers(0, 3, (32, 5)).astype("float32")

    def workflow(sequential):
        model = sequential(
            [
                keras.Input((5, 3)),
                keras.layers.Dense(4, activation="relu"),
                keras.layers.Dense(1),
                keras.layers.Reshape((5,)),
            ]
        )
        model.compile(
            "adam",
            loss=keras_rs.losses.PairwiseHingeLoss(),
            metrics=[keras_rs.metrics.NDCG(k=3, name="ndcg")],
        )
        done = model.fit(x, y, batch_size=8, epochs=2, verbose=0)
        return model, done.history

    assert_as_stock(workflow, keras.Sequential, kje.Sequential, loops)


def test_two_towers_retrieve_as_in_stock(loops):
    class Retrieval(keras.Model):
        def __init__(self):
            super().__init__()
            self.users = keras.layers.Embedding(IDS, WIDTH)
            self.items = keras.layers.Embedding(IDS, WIDTH)
            self.find = keras_rs.layers.BruteForceRetrieval(k=3)

        def build(self, shape):
            self.users.build(shape)
            self.items.build(shape)
            self.find.candidate_embeddings = self.items.embeddings
            self.find.build(shape)
            super().build(shape)

        def call(self, ids, training=False):
            found = {"query": self.users(ids[:, 0])}
            if not training:
                found["scores"], found["ids"] = self.find(found["query"])
            return found

        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            logits = y_pred["query"] @ keras.ops.transpose(self.items(x[:, 1]))
            return keras.ops.mean(
                keras.losses.sparse_categorical_crossentropy(
                    keras.ops.arange(logits.shape[0]), logits, from_logits=True
                )
            )

    def workflow(way):
        model = way(Retrieval())
        model.compile(keras.optimizers.Adagrad(0.1))
        ids, _ = ratings()
        done = model.fit(ids, batch_size=8, epochs=2, verbose=0)
        return model, (done.history, model.predict(ids, verbose=0)["ids"])

    modes = ("train", "predict")
    assert_as_stock(workflow, same, kje.extend, loops, modes)
