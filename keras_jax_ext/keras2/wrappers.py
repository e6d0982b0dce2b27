"""Models behind the interface of scikit-learn, made by a function."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

_ACCURACIES = ("accuracy", "acc")


class _Wrapper:
    """What both have: a function that makes a model, and what it is given."""

    _estimator_type = ""

    def __init__(
        self, build_fn: Callable[..., Any] | None = None, **sk_params: Any
    ) -> None:
        self.build_fn = build_fn
        self.sk_params = sk_params
        self._check(sk_params)

    def _maker(self) -> Callable[..., Any]:
        """The function that makes the model; that of a subclass is its own."""
        maker: Any = self if self.build_fn is None else self.build_fn
        if inspect.isfunction(maker) or inspect.ismethod(maker):
            return maker
        return maker.__call__

    def _check(self, params: dict[str, Any]) -> None:
        methods = keras.Model.fit, keras.Model.predict, keras.Model.evaluate
        known: set[str] = {"build_fn"}
        for each in (*methods, self._maker()):
            known |= {*inspect.signature(each).parameters}
        for name in params:
            if name not in known:
                raise ValueError(
                    "A wrapper takes arguments of its `build_fn`, and of "
                    f"`fit`, `predict` and `evaluate`. Received: {name}=. "
                    "Give `build_fn` an argument of that name, or leave it "
                    "out."
                )

    def _of(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Those of the arguments that a function takes."""
        known = inspect.signature(function).parameters
        return {k: v for k, v in self.sk_params.items() if k in known}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments, as scikit-learn asks for them.

        Args:
            deep: Boolean, ignored.

        Returns:
            Dict of the arguments by their names, with `build_fn`.
        """
        return {**self.sk_params, "build_fn": self.build_fn}

    def set_params(self, **params: Any) -> Any:
        """Set arguments.

        Args:
            **params: Arguments of `build_fn`, `fit`, `predict` or `evaluate`.

        Returns:
            The wrapper itself.

        Raises:
            ValueError: If none of them takes an argument of that name.
        """
        self._check(params)
        self.build_fn = params.pop("build_fn", self.build_fn)
        self.sk_params.update(params)
        return self

    def fit(self, x: Any, y: Any, **kwargs: Any) -> Any:
        """Make a model, and train it.

        Args:
            x: Array of shape `(rows, ...)`.
            y: Labels, of shape `(rows,)` or `(rows, outputs)`.
            **kwargs: Arguments of `Model.fit`.

        Returns:
            The `History`.
        """
        maker = self._maker()
        self.model = maker(**self._of(maker))
        y = self._labels(y)
        return self.model.fit(x, y, **{**self._of(self.model.fit), **kwargs})

    def _labels(self, y: Any) -> Any:
        """Labels as the loss takes them."""
        loss = self.model.loss
        name = getattr(loss, "__name__", getattr(loss, "name", loss))
        if name == "categorical_crossentropy" and np.ndim(y) != 2:
            return keras.utils.to_categorical(y)
        return y

    def _predicted(self, x: Any, kwargs: dict[str, Any]) -> Any:
        known = self._of(self.model.predict)
        return self.model.predict(x, **{**known, **kwargs})

    def _evaluated(self, x: Any, y: Any, kwargs: dict[str, Any]) -> Any:
        known = {**self._of(self.model.evaluate), **kwargs}
        return self.model.evaluate(x, y, **{**known, "return_dict": True})

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a model."""
        return hasattr(self, "model")

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn has to know of it."""
        from sklearn import utils

        classifies = self._estimator_type == "classifier"
        return utils.Tags(
            estimator_type=self._estimator_type,
            target_tags=utils.TargetTags(required=True),
            classifier_tags=utils.ClassifierTags() if classifies else None,
            regressor_tags=None if classifies else utils.RegressorTags(),
            input_tags=utils.InputTags(),
        )


class KerasClassifier(_Wrapper):
    """A classifier of scikit-learn's interface, as Keras 2 had it.

    Each `fit` calls `build_fn` and trains a new model. scikit-learn copies
    it, searches its arguments and votes among several.

    Example:

    ```python
    def build(units=4):
        model = kje.Sequential(
            [keras.layers.Dense(units), keras.layers.Dense(3, "softmax")]
        )
        loss = "sparse_categorical_crossentropy"
        model.compile("sgd", loss, metrics=["accuracy"])
        return model

    classifier = kje.keras2.KerasClassifier(build, units=8, verbose=0)
    classifier.fit(np.ones((4, 2)), np.array([0, 1, 2, 1]))
    classifier.predict(np.ones((5, 2))).shape  # (5,)
    ```

    Args:
        build_fn: Function that returns a compiled model. Defaults to `None`,
            where a class derived from this one has a `__call__` that does.
        **sk_params: Arguments of `build_fn`, and of the model's `fit`,
            `predict` and `evaluate`.

    Raises:
        ValueError: If none of them takes an argument of that name.
    """

    _estimator_type = "classifier"

    def fit(self, x: Any, y: Any, **kwargs: Any) -> Any:
        """Make a model, and train it.

        Args:
            x: Array of shape `(rows, ...)`.
            y: Classes, of shape `(rows,)` or `(rows, 1)`, or one-hot of shape
                `(rows, classes)`.
            **kwargs: Arguments of `Model.fit`.

        Returns:
            The `History`.

        Raises:
            ValueError: If `y` is of another shape.
        """
        y = np.asarray(y)
        if y.ndim == 2 and y.shape[1] > 1:
            self.classes_ = np.arange(y.shape[1])
        elif y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1):
            self.classes_ = np.unique(y)
            y = np.searchsorted(self.classes_, y)
        else:
            raise ValueError(
                "Labels are of shape (rows,) or (rows, classes). Received: "
                f"y.shape={y.shape}. Give one label a row."
            )
        self.n_classes_ = len(self.classes_)
        return super().fit(x, y, **kwargs)

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """The class of each row.

        Args:
            x: Array of shape `(rows, ...)`.
            **kwargs: Arguments of `Model.predict`.

        Returns:
            Array of labels: of shape `(rows,)`, or `(rows, 1)` of a model of
            one output.
        """
        found = self._predicted(x, kwargs)
        if found.shape[-1] > 1:
            return self.classes_[found.argmax(axis=-1)]
        return self.classes_[(found > 0.5).astype("int32")]

    def predict_proba(self, x: Any, **kwargs: Any) -> Any:
        """The probability of each class.

        Args:
            x: Array of shape `(rows, ...)`.
            **kwargs: Arguments of `Model.predict`.

        Returns:
            Array of shape `(rows, classes)`.
        """
        found = self._predicted(x, kwargs)
        if found.shape[1] == 1:
            return np.hstack([1 - found, found])
        return found

    def score(self, x: Any, y: Any, **kwargs: Any) -> float:
        """The accuracy.

        Args:
            x: Array of shape `(rows, ...)`.
            y: Labels, as `fit` takes them.
            **kwargs: Arguments of `Model.evaluate`.

        Returns:
            Float in `[0, 1]`.

        Raises:
            ValueError: If the model was compiled without an accuracy.
        """
        y = self._labels(np.searchsorted(self.classes_, y))
        found = self._evaluated(x, y, kwargs)
        for name in _ACCURACIES:
            if name in found:
                return found[name]
        raise ValueError(
            "A score is the accuracy that the model counts. Received: "
            f"metrics={list(found)}. Compile it with metrics=['accuracy']."
        )


class KerasRegressor(_Wrapper):
    """A regressor of scikit-learn's interface, as Keras 2 had it.

    Each `fit` calls `build_fn` and trains a new model.

    Example:

    ```python
    def build():
        model = kje.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    regressor = kje.keras2.KerasRegressor(build, epochs=2, verbose=0)
    regressor.fit(np.ones((4, 2)), np.ones(4))
    regressor.predict(np.ones((5, 2))).shape  # (5,)
    ```

    Args:
        build_fn: Function that returns a compiled model. Defaults to `None`,
            where a class derived from this one has a `__call__` that does.
        **sk_params: Arguments of `build_fn`, and of the model's `fit`,
            `predict` and `evaluate`.

    Raises:
        ValueError: If none of them takes an argument of that name.
    """

    _estimator_type = "regressor"

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """The output of each row.

        Args:
            x: Array of shape `(rows, ...)`.
            **kwargs: Arguments of `Model.predict`.

        Returns:
            Array of shape `(rows,)`, or `(rows, outputs)` of several.
        """
        return np.squeeze(self._predicted(x, kwargs))

    def score(self, x: Any, y: Any, **kwargs: Any) -> float:
        """The loss, below zero: scikit-learn takes the largest score.

        Args:
            x: Array of shape `(rows, ...)`.
            y: Labels.
            **kwargs: Arguments of `Model.evaluate`.

        Returns:
            Float.
        """
        return -self._evaluated(x, y, kwargs)["loss"]
