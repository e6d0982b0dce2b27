"""Input that goes wrong: ported right, or refused by line with a reason."""

import re

import pytest

pytest.importorskip("libcst")

from keras_jax_ext.port.before import ALREADY, NOTHING
from keras_jax_ext.port.convert import port

KJE = "import keras_jax_ext as kje  # first: it selects the JAX backend\n"
TF = "import tensorflow as tf\n"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("x = (\n", 2, "it is no Python 3.*: '\\(' was never closed"),
        ("x = '\0'\n", 1, "it is no Python 3.*null bytes"),
        (f"x = {'(' * 400}1{')' * 400}\n", 2, "it is no Python 3.*nested"),
        (f"x = {'+'.join('1' * 3000)}\n", 1, "LibCST cannot read it: maximum"),
        ("%matplotlib inline\n", 2, "it has magics of a notebook"),
        ("!ls\n", 2, "it has magics of a notebook"),
        ("print 'a'\n", 2, "it is Python 2$"),
        ("try:\n  pass\nexcept IOError, e:\n  pass\n", 4, "it is Python 2$"),
        ("raise ValueError, 'a'\n", 2, "it is Python 2$"),
        ("x = `3`\n", 2, "it is Python 2$"),
        ("if 1 <> 2: pass\n", 2, "it is Python 2$"),
        ("x = 0777\n", 2, "it is Python 2$"),
        ("x = 3L\n", 2, "it is Python 2$"),
        ("x = ur'a'\n", 2, "it is Python 2$"),
    ],
)
def test_what_cannot_be_read_is_refused_by_line(text, line, reason):
    text = TF + text
    ported = port(text)
    (finding,) = ported.left
    assert (ported.text, finding.line) == (text, line)
    assert re.search(reason, finding.text)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("for i in xrange(3): pass", "`xrange` is of Python 2"),
        ("print >>err, 'x'", "`print >>` is of Python 2"),
        ("import cPickle", "`cPickle` is of Python 2"),
        ("from StringIO import StringIO", "`StringIO` is of Python 2"),
        ("for k in d.iteritems(): pass", "`iteritems` is of Python 2"),
    ],
)
def test_python_2_that_python_3_can_read_is_refused(line, what):
    (finding,) = port(f"import keras\n{line}\n").left
    assert (finding.line, finding.text) == (2, what)


def test_python_2_beside_python_3_is_no_fault():
    text = (
        "import keras\ntry:\n    import cPickle\n    xrange\n"
        "except (ImportError, NameError):\n"
        "    import pickle as cPickle\n    xrange = range\n"
    )
    assert port(text).left == []


@pytest.mark.parametrize(
    "text",
    [
        "import keras\nx = keras.ops.square(2)\n",
        "from keras import ops, layers\nlayers.Dense(2)(ops.ones((2, 2)))\n",
        "import keras\nx = keras.ops.square(2)\nf = keras.Model.fit\n",
        "import os\nos.environ['KERAS_BACKEND'] = 'tensorflow'\n"
        "import keras\nx = keras.random.normal((2,))\n",
        "import os\nos.environ['KERAS_BACKEND'] = 'jax'\n"
        "import keras\nmodel = keras.Sequential()\n",
        "import keras_jax_ext as kje\nimport keras\nm = keras.Sequential()\n",
    ],
)
def test_a_script_of_keras_3_is_left_alone(text):
    assert port(text) == (text, [], ALREADY)


@pytest.mark.parametrize(
    "text",
    [
        "# as keras.ops and keras_jax_ext\nimport keras\n{}",
        "import keras\nx = keras.ops.square(2)\n{}",
        "import keras_jax_ext as kje\nimport keras\n{}",
        "import os\nos.environ['KERAS_BACKEND'] = 'theano'\nimport keras\n{}",
        "import keras\nf = keras.saving.register_keras_serializable\n{}",
    ],
)
def test_a_script_that_only_looks_like_keras_3_is_ported(text):
    ported = port(text.format("keras.optimizers.Adam(lr=1)\n"))
    assert "Adam(learning_rate=1)" in ported.text
    assert "theano" not in ported.text  # another backend would be an error
    assert (ported.left, ported.note) == ([], "")


def test_a_name_that_is_gone_is_none_of_keras_3():
    text = "import keras\nx = keras.ops.square(keras.utils.np_utils.y)\n"
    (finding,) = port(text).left
    assert finding.text == "Keras 3 has no `keras.utils.y`"


def test_tensorflow_in_an_earlier_port_is_refused():
    (finding,) = port(f'"""\nimport tensorflow\n"""\n{KJE}{TF}').left
    assert (finding.line, finding.what) == (5, TF.strip())
    assert finding.text == "TensorFlow is still imported"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("import importlib as i\nimport importlib\n"
         "tf = importlib.import_module('tensorflow')\n",
         3, "`tensorflow` is imported by a string"),
        ("k = __import__('tf_keras.layers')\n",
         1, "`tf_keras.layers` is imported by a string"),
        ("from common import tf\n", 1, "`tf` is imported from another file"),
        ("from .common import keras\nimport keras\n",
         1, "`keras` is imported from another file"),
        ("from common import *\nx = tf.square(2)\n",
         2, "`tf` is imported nowhere"),
    ],
)  # fmt: skip
def test_tensorflow_from_elsewhere_is_refused(text, line, reason):
    finding = port(text).left[0]
    assert (finding.line, finding.text) == (line, reason)


@pytest.mark.parametrize(
    "line",
    [
        "if (k := tf.keras.optimizers): k.Adam(lr=1)",
        "k, n = tf.keras.optimizers, 3",
        "getattr(tf.keras.optimizers, 'Adam')(lr=1)",
        "f(tf.keras.optimizers)",
        "x.k = tf.keras.optimizers",
        "def f(k=tf.keras.optimizers): k.Adam(lr=1)",
        "f = {'k': tf.keras.optimizers}",
    ],
)
def test_a_module_that_is_handed_on_is_refused(line):
    (finding,) = port(f"{TF}{line}\n").left
    assert finding.line == 2
    assert "the module `keras.optimizers` is handed on" in finding.text


@pytest.mark.parametrize(
    "line",
    [
        "k = l = tf.keras.optimizers\nl.Adam(lr=1)",
        "class A:\n    k = tf.keras.optimizers\n    a = k.Adam(lr=1)",
        "k = tf.keras\no = k.optimizers\nA = o.Adam\nB = A\nB(lr=1)",
        "if hasattr(tf.keras, 'x') or tf.keras is None: pass\n"
        "tf.keras.optimizers.Adam(lr=1)",
    ],
)
def test_an_alias_of_an_alias_is_followed(line):
    ported = port(f"{TF}{line}\n")
    assert "learning_rate=1" in ported.text
    assert ported.left == []


@pytest.mark.parametrize(
    "line",
    [
        "f = partial(tf.keras.optimizers.Adam, lr=1)",
        "tf.keras.optimizers.Adam(**{'lr': 1})",
        "o = dict(lr=1)\ntf.keras.optimizers.Adam(**o)",
        "o = {'lr': 1}\ntf.keras.optimizers.Adam(**o)",
    ],
)
def test_arguments_that_are_handed_over_otherwise_are_seen(line):
    (finding,) = port(f"{TF}{line}\n").left
    assert finding.text == "`keras.optimizers.Adam` has no argument `lr=`"
    assert port(f"{TF}{line}\n".replace("lr", "beta_1")).left == []


@pytest.mark.parametrize(
    "shadow",
    [
        "tf = 3\n{}",
        "class tf: pass\n{}",
        "with open('a') as tf:\n    {}",
        "def f():\n    tf = 3\n    {}",
        "def f(tf):\n    {}",
        "x = lambda tf: 3\nfor y in (tf.square for tf in z): pass\n",
    ],
)
def test_a_name_that_is_surely_something_else_is_left(shadow):
    text = shadow.format("print(tf.square(2))\n")
    ported = port(TF + text)
    assert ported.text.endswith(text)
    assert ported.left == []


@pytest.mark.parametrize(
    "shadow",
    [
        "for tf in [1, 2]:\n    {}",
        "if x:\n    tf = 3\n{}",
        "if (tf := 3): {}",
        "try:\n    pass\nexcept IOError as tf:\n    {}",
        "def f():\n    global tf\n    tf = 3\nf()\n{}",
        "try:\n    pass\nexcept ImportError:\n    tf = 3\n{}",
    ],
)
def test_a_name_that_may_be_something_else_is_refused(shadow):
    text = TF + shadow.format("print(tf.square(2))\n")
    (finding,) = port(text).left
    assert finding.text == "`tf` means several things here"
    assert finding.line == text.count("\n")


def test_a_name_that_a_loop_takes_for_something_else_is_refused():
    text = f"{TF}for i in range(3):\n    tf.square(i)\n    tf = i\n"
    (finding,) = port(text).left
    assert (finding.line, finding.what) == (3, "tf.square")


def test_an_import_of_everything_hides_builtins():
    ported = port("from keras.backend import *\ny = 3\nx = sum(y, axis=1)\n")
    assert "x = keras.ops.sum(y, axis=1)\n" in ported.text
    assert ported.left == []
    plain = port("from keras.layers import *\nx = sum([3])\n")
    assert "x = sum([3])\n" in plain.text


def test_the_last_import_of_everything_counts():
    imports = ["from keras.layers import *\n", "from keras.backend import *\n"]
    text = "x = dot(a, b)\n"
    assert "keras.ops.dot(a, b)" in port("".join([*imports, text])).text
    assert text in port("".join([*reversed(imports), text])).text


def test_an_import_of_everything_brings_no_name_that_is_gone():
    ported = port("from keras.layers import *\nx = CuDNNLSTM(3)\ny = GRU(3)\n")
    assert ported.text.endswith("x = keras.layers.LSTM(3)\ny = GRU(3)\n")


@pytest.mark.parametrize(
    "text",
    [
        "import tensorflow.keras.backend as K\nx = K.square(y)\n",
        "import tensorflow.keras.backend\n"
        "x = tensorflow.keras.backend.square(y)\n",
        "def f():\n    import tensorflow as tf\nimport os, tensorflow as tf\n"
        "x = tf.square(y)\n",
        "import tensorflow as tf; x = tf.square(y)\n",
        "from tensorflow_core.python.keras import backend\n"
        "x = backend.square(y)\n",
    ],
)
def test_imports_of_any_form_are_read(text):
    ported = port(text)
    assert ported.text.endswith("x = keras.ops.square(y)\n")
    assert "tensorflow" not in ported.text
    assert ported.left == []


@pytest.mark.parametrize("text", ["", "\n", "# tensorflow\n"])
def test_an_empty_script_is_left_alone(text):
    assert port(text) == (text, [], NOTHING)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\x0c\n", ""])
def test_ends_of_lines_stay(end):
    ported = port(TF.replace("\n", end or "\n") + f"x = tf.square(2){end}")
    assert ported.text.endswith(f"x = keras.ops.square(2){end}")
    assert ported.text.count("\r\n") == (4 - 1 if end == "\r\n" else 0)


def test_a_layer_of_keras_3_that_needs_tensorflow_is_refused():
    (finding,) = port(f"{TF}x = tf.keras.layers.TextVectorization()\n").left
    assert finding.text == "it works on strings, which need TensorFlow"


def test_a_call_of_tf_function_is_the_function():
    ported = port(f"{TF}g = tf.function(abs)\n")
    assert ported.text.endswith("\ng = abs\n")
    assert ported.left == []
