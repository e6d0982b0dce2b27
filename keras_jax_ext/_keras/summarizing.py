"""What Keras's printed summary is made of."""

# ruff: isort: off
# The look of `keras.Model.summary`: its numbers, colours and units, and which
# rows `layer_range` means. Replaced by: a public function that prints rows.
from keras.src.utils.summary_utils import (
    bold_text as bold_text,
    count_params as count_params,
    get_layer_index_bound_by_layer_name as layer_bounds,  # noqa: F401
    highlight_number as highlight_number,
    highlight_symbol as highlight_symbol,
    readable_memory_size as readable_memory_size,
    weight_memory_size as weight_memory_size,
)

# Where Keras prints when interactive logging is off; the switch is public.
from keras.src.utils.io_utils import (
    print_msg as print_msg,
)
# ruff: isort: on
