"""What Keras 3 keeps of Keras 2 under private names.

Preprocessing of text, images and sequences in pure Python. Replaced by:
nothing public; Keras itself offers it to `tf.keras` alone.
"""

# ruff: isort: off
from keras.src.legacy.preprocessing.image import (
    ImageDataGenerator as ImageDataGenerator,
)
from keras.src.legacy.preprocessing.sequence import (
    TimeseriesGenerator as TimeseriesGenerator,
    make_sampling_table as make_sampling_table,
    skipgrams as skipgrams,
)
from keras.src.legacy.preprocessing.text import (
    Tokenizer as Tokenizer,
    hashing_trick as hashing_trick,
    one_hot as one_hot,
    text_to_word_sequence as text_to_word_sequence,
    tokenizer_from_json as tokenizer_from_json,
)
# ruff: isort: on
