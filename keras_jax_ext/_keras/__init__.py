"""The only module that touches Keras's private names.

Each private name has a line on why it is needed and what would replace it, so
that a new Keras release is adapted here and nowhere else.
"""

# ruff: isort: off
# First: chooses the JAX backend, before anything else imports keras.
from keras_jax_ext._keras.activation import check_fresh as check_fresh

from keras_jax_ext._keras.calling import (
    TrainingMode as TrainingMode,
    entered as entered,
    has_call as has_call,
    in_mode as in_mode,
    modes_by_name as modes_by_name,
    was_called as was_called,
)
from keras_jax_ext._keras.compiling import (
    check_one_output as check_one_output,
    clear_compiled as clear_compiled,
    compiled_loss as compiled_loss,
    compiled_step as compiled_step,
    get_loss as get_loss,
    get_metric as get_metric,
    has_stock_metrics as has_stock_metrics,
    layout_for as layout_for,
    reduce_weighted_values as reduce_weighted_values,
    set_compiled_loss as set_compiled_loss,
    stock_loss_name as stock_loss_name,
    stock_metric_names as stock_metric_names,
    take_loss_weight as take_loss_weight,
    untracked as untracked,
    update_metrics as update_metrics,
)
from keras_jax_ext._keras.declaring import (
    Functional as Functional,
    PathName as PathName,
    current_scope as current_scope,
    default as default,
    fresh_names as fresh_names,
    functional_init_arguments as functional_init_arguments,
    get_keras_mask as get_keras_mask,
    has_value as has_value,
    in_compiled_step as in_compiled_step,
    in_symbolic_scope as in_symbolic_scope,
    is_eager as is_eager,
    lock as lock,
    no_call_context as no_call_context,
    own_variables as own_variables,
    register_like as register_like,
    running_layer as running_layer,
    set_keras_mask as set_keras_mask,
    snapshot as snapshot,
    stored_dtype as stored_dtype,
    sublayers as sublayers,
    to_snake_case as to_snake_case,
    track as track,
    uninitialized_variables as uninitialized_variables,
    unlock as unlock,
)
from keras_jax_ext._keras.drawing import draw_by_size as draw_by_size
from keras_jax_ext._keras.ordering import (
    groups_of_sublayers as groups_of_sublayers,
)
from keras_jax_ext._keras.summarizing import (
    bold_text as bold_text,
    count_params as count_params,
    highlight_number as highlight_number,
    highlight_symbol as highlight_symbol,
    layer_bounds as layer_bounds,
    print_msg as print_msg,
    readable_memory_size as readable_memory_size,
    weight_memory_size as weight_memory_size,
)
from keras_jax_ext._keras.losing import (
    add_computed_loss as add_computed_loss,
    computed_losses as computed_losses,
)
from keras_jax_ext._keras.mixing import Mixin as Mixin
from keras_jax_ext._keras.optimizing import (
    Several as Several,
    UpdatesAtOnce as UpdatesAtOnce,
    made_on_host as made_on_host,
)
from keras_jax_ext._keras.recurring import carry_states as carry_states
from keras_jax_ext._keras.saving import (
    custom_objects as custom_objects,
    entry_of as entry_of,
    file_shapes as file_shapes,
    is_store as is_store,
    is_whole as is_whole,
    loader_of as loader_of,
    saved_shapes as saved_shapes,
    sign as sign,
    weights_file as weights_file,
    write_class as write_class,
)
from keras_jax_ext._keras.sharing import (
    copy_slots as copy_slots,
    knows as knows,
    share_scalars as share_scalars,
    sibling as sibling,
    take_on as take_on,
)
from keras_jax_ext._keras.streams import (
    Alone as Alone,
    set_streams as set_streams,
    streams as streams,
)
from keras_jax_ext._keras.structures import (
    register_dataclasses as register_dataclasses,
    register_node as register_node,
)
from keras_jax_ext._keras.reading import (
    CACHED as CACHED,
    ArrayDataAdapter as ArrayDataAdapter,
    EpochIterator as EpochIterator,
    GeneratorDataAdapter as GeneratorDataAdapter,
    GrainDatasetAdapter as GrainDatasetAdapter,
    PyDatasetAdapter as PyDatasetAdapter,
    epoch_number as epoch_number,
    set_epoch_number as set_epoch_number,
    train_validation_split as train_validation_split,
)
from keras_jax_ext._keras.trainer import (
    BuiltFromBatches as BuiltFromBatches,
    begin_with_epoch as begin_with_epoch,
    build as build,
    build_compiled as build_compiled,
    build_layers as build_layers,
    cache_iterator as cache_iterator,
    cached_iterator as cached_iterator,
    BuiltWithoutCall as BuiltWithoutCall,
    check_compiled as check_compiled,
    disown_state as disown_state,
    first_epoch as first_epoch,
    forget_first_epoch as forget_first_epoch,
    forget_iterator as forget_iterator,
    forget_losses as forget_losses,
    held_state as held_state,
    hold_state as hold_state,
    in_order as in_order,
    is_built as is_built,
    is_compiled_built as is_compiled_built,
    is_default as is_default,
    know_direction as know_direction,
    knows_direction as knows_direction,
    metrics_result as metrics_result,
    monitored as monitored,
    own_state as own_state,
    pythonify_logs as pythonify_logs,
    release_state as release_state,
    rows_seen as rows_seen,
    running_fit as running_fit,
    replaced as replaced,
    should_validate as should_validate,
    unsynced as unsynced,
    write as write,
    written as written,
)
# ruff: isort: on
