"""KerasHub's tasks of small random backbones, extended."""

import keras_jax_ext as kje

import keras
import keras_hub
import numpy as np
import pytest
from beside_stock import assert_as_stock, same, seeded

# With stock Keras too: its `fit` hands a dataset to Keras's, and says nothing
# of `shuffle`; its `compile` cannot be called as the file was.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning"),
    pytest.mark.filterwarnings("ignore:`compile\\(\\)` was not:UserWarning"),
]
WORDS = ["the", "quick", "brown", "fox", "."]
SENTENCES = [
    "the quick brown fox.",
    "the fox",
    "brown fox quick",
    "the the",
]
TEXTS = np.array(SENTENCES * 4)
LABELS = np.array([0, 1, 1, 0] * 4)


def classifier(preprocessed=True):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=special + WORDS)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(
        tokenizer, sequence_length=6
    )
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(special + WORDS),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=6,
    )
    return keras_hub.models.BertTextClassifier(
        backbone=backbone,
        num_classes=2,
        preprocessor=preprocessor if preprocessed else None,
    )


def causal_lm():
    """A GPT-2 of eleven tokens."""
    vocabulary = ["<|endoftext|>", "a", "Ġquick", "Ġfox"]
    vocabulary += ["Ġ", "q", "u", "i", "c", "k", "Ġq", "ui", "ck"]
    vocabulary += ["uick", "f", "o", "x", "Ġf", "ox"]
    merges = ["Ġ q", "u i", "c k", "ui ck", "Ġq uick"]
    merges += ["Ġ f", "o x", "Ġf ox"]
    tokenizer = keras_hub.models.GPT2Tokenizer(
        vocabulary={token: i for i, token in enumerate(vocabulary)},
        merges=merges,
    )
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(
        tokenizer, sequence_length=8
    )
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=len(vocabulary),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=8,
    )
    return keras_hub.models.GPT2CausalLM(
        backbone=backbone, preprocessor=preprocessor
    )


def test_a_classifier_trains_on_strings(loops):
    """Its own `fit` preprocesses, validation too; `compile()` is its own."""

    def workflow(way):
        model = way(classifier())
        model.compile()
        done = model.fit(
            TEXTS,
            LABELS,
            batch_size=4,
            epochs=2,
            validation_data=(TEXTS[:4], LABELS[:4]),
            verbose=0,
        )
        results = model.evaluate(TEXTS, LABELS, batch_size=4, verbose=0)
        predicted = model.predict(TEXTS, batch_size=4, verbose=0)
        assert type(model.optimizer) is keras.optimizers.Adam
        return model, (done.history, results, predicted)

    modes = ("train", "test", "predict")
    assert_as_stock(workflow, same, kje.extend, loops, modes)


def test_a_classifier_trains_on_arrays_that_were_preprocessed(loops):
    def workflow(way):
        inputs = classifier().preprocessor(TEXTS)
        inputs = {k: np.asarray(v) for k, v in inputs.items()}
        model = way(classifier(preprocessed=False))
        model.compile(optimizer="adam")
        done = model.fit(inputs, LABELS, batch_size=4, epochs=2, verbose=0)
        return model, done.history

    assert_as_stock(workflow, same, kje.extend, loops)


def test_a_language_model_trains_and_generates(loops):
    def workflow(way):
        model = way(causal_lm())
        model.compile(optimizer=keras.optimizers.Adam(1e-2), sampler="greedy")
        texts = ["a quick fox", "a fox quick"] * 8
        done = model.fit(texts, batch_size=4, epochs=2, verbose=0)
        generated.append(model.generate(["a quick", "a"], max_length=6))
        return model, done.history

    generated = []
    assert_as_stock(workflow, same, kje.extend, loops)
    assert generated[0] == generated[1]
    assert generated[1][0].startswith("a quick")


def test_only_the_adapters_of_lora_are_trained(loops):
    def workflow(way):
        model = way(causal_lm())
        model.backbone.enable_lora(2)
        frozen = [np.copy(v) for v in model.backbone.non_trainable_weights]
        model.compile(optimizer=keras.optimizers.Adam(1e-2))
        texts = ["a quick fox", "a fox quick"] * 8
        done = model.fit(texts, batch_size=4, epochs=2, verbose=0)
        names = {v.path.split("/")[-1] for v in model.trainable_weights}
        # Beside the kernels; the bias of a layer with adapters stays free.
        assert names == {"bias", "lora_kernel_a", "lora_kernel_b"}
        after = model.backbone.non_trainable_weights
        for a, b in zip(frozen, after, strict=True):
            np.testing.assert_array_equal(a, b)
        return model, done.history

    assert_as_stock(workflow, same, kje.extend, loops)


def test_an_extended_task_stays_one_after_another_is_made(loops):
    """Each task of KerasHub's resets the bases of their common class."""
    model = kje.extend(classifier())
    stock = classifier()
    assert isinstance(model, keras_hub.models.BertTextClassifier)
    assert type(stock) is keras_hub.models.BertTextClassifier
    for one in (model, stock):
        one.compile()
    model.fit(TEXTS, LABELS, batch_size=4, verbose=0)
    stock.fit(TEXTS, LABELS, batch_size=4, verbose=0)
    assert [name for name, _ in loops] == ["train"]


@pytest.mark.parametrize("make", [classifier, causal_lm])
def test_an_extended_task_is_saved_and_loaded(make, tmp_path, loops):
    def workflow(way):
        model = way(make())
        model.save(tmp_path / "task.keras")
        return keras.saving.load_model(tmp_path / "task.keras"), ()

    stock, expected, _ = seeded(workflow, same)
    model, weights, _ = seeded(workflow, kje.extend)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(model, type(stock).__mro__[0])
