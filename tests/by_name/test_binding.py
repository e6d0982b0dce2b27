"""Arguments are bound by name, once, and what cannot be bound is explained."""

import functools

from keras_jax_ext._by_name.binding import NAMES, bind, takes_labels_and_outputs

import keras
import pytest

GIVEN = {name: name for name in NAMES}


class Callable:
    """An object with a `__call__`, and a method."""

    def __call__(self, x, training):
        return x, training

    def method(self, states, *args, parameters=None, extra=1, **kwargs):
        return states, parameters, args, extra, kwargs


def after_one(scale, /, y_pred, y_true=None):
    return scale, y_pred, y_true


@pytest.mark.parametrize(
    ("function", "returned"),
    [
        (lambda x, y_true: (x, y_true), ("x", "y_true")),
        (lambda y_pred, /, *, x: (y_pred, x), ("y_pred", "x")),
        (lambda: (), ()),
        (Callable(), ("x", "training")),
        (Callable().method, ("states", "parameters", (), 1, {})),
        (functools.partial(after_one, 2), (2, "y_pred", "y_true")),
        (functools.partial(lambda x, rate: (x, rate), rate=2), ("x", 2)),
    ],
)
def test_a_callable_is_given_the_names_it_asks_for(function, returned):
    assert bind(function, "The loss")(GIVEN) == returned


def test_a_signature_is_read_once(monkeypatch):
    binding = bind(lambda x: x, "The loss")
    monkeypatch.setattr("inspect.signature", None)
    assert binding(GIVEN) == "x"


def test_a_default_stays_where_there_is_nothing_to_give():
    binding = bind(lambda y_true=0, class_weight=1: (y_true, class_weight), "")
    assert binding({"y_true": None, "class_weight": None}) == (0, 1)


def test_weights_that_are_asked_for_may_be_absent():
    binding = bind(lambda sample_weight, class_weight: sample_weight, "")
    assert binding({"sample_weight": None}) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("y_true", "The loss asks for `y_true`, and there are no labels"),
        ("x", r"only a model of keras_jax_ext knows it.*extend\(model\)"),
        ("parameters", "only a model of keras_jax_ext knows it"),
    ],
)
def test_what_is_asked_for_and_absent_is_explained(name, message):
    scope = {}
    exec(f"def function({name}): return {name}", scope)
    with pytest.raises(ValueError, match=message):
        bind(scope["function"], "The loss")({name: None})


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda y_tru: 0, "`y_tru` in .* Did you mean `y_true`"),
        (lambda x, paramters: 0, "Did you mean `parameters`"),
        (lambda x, /, temperature: 0, "The names are: x, y_true, y_pred"),
    ],
)
def test_an_unknown_name_is_refused_with_the_near_ones(function, message):
    with pytest.raises(ValueError, match=message):
        bind(function, "The loss")


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (keras.losses.mean_squared_error, True),
        (keras.metrics.sparse_categorical_accuracy, True),
        (lambda y_true, y_pred: 0, True),
        (lambda y_pred, y_true: 0, True),
        (lambda labels, outputs: 0, True),
        (lambda labels, outputs, scale=1: 0, True),
        (lambda *args: 0, True),
        (max, True),  # has no signature to read
        (lambda y_true, y_pred, x: 0, False),
        (lambda y_true, y_pred, sample_weight: 0, False),
        (lambda x, y_pred: 0, False),
        (lambda y_pred: 0, False),
        (lambda y_pred, sample_weight=None: 0, False),
        (lambda: 0, False),
        (lambda *, y_true, y_pred: 0, False),
    ],
)
def test_functions_that_keras_can_call_are_left_to_it(function, expected):
    assert takes_labels_and_outputs(function) is expected
