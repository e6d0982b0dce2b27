"""Merges small products of matrices that share an operand, for a CPU.

Heads of a few outputs each, all on one layer, make three products a head:
forward, and the gradients by kernel and by input. XLA's CPU compiler runs each
by itself, and each takes about as long as one for all heads together.

- Products with one operand in common become one product with the others side
  by side.
- A sum of products becomes one product over the joined contracted axes.
"""

import collections
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from jax import lax

# Operands with more columns than this are left alone: to join them would cost
# what one product less saves.
NARROW = 32
# Fewer products than this are left alone: one less saves little, and the
# results of two heads stay those of stock Keras to the last bit.
FEWEST = 3

# Primitives that add two arrays of one shape.
_SUMS = ("add", "add_any")

Equations = Sequence[Any]
# Makes an equation of a function and the variables that are its arguments.
Call = Callable[[Callable[..., Any], Sequence[Any]], Any]


def merged(jaxpr: Any, call: Call) -> Equations:
    """Merge products of a jaxpr.

    Args:
        jaxpr: A `Jaxpr`.
        call: Function of a function and variables. It returns an equation.

    Returns:
        Equations that compute the same but for rounding; those of the jaxpr
        itself if none is merged.
    """
    products = [p for p in map(_product, jaxpr.eqns) if p]
    if len(products) < FEWEST:
        return jaxpr.eqns
    equations = _summed(jaxpr, call)
    for side, group in list(_sharing(equations)):
        equations = _together(equations, side, group, call)
    return equations


class _Product(NamedTuple):
    """A product of two arrays with one contracted axis or several.

    Attributes:
        operands: Pair of variables, the left one and the right one.
        contracted: Pair of tuples, their axes that are contracted.
        free: Pair of tuples, their other axes.
        kind: Hashable, equal for products of the same parameters.
    """

    operands: Sequence[Any]
    contracted: tuple[tuple[int, ...], tuple[int, ...]]
    free: tuple[tuple[int, ...], tuple[int, ...]]
    kind: Any

    def sizes(self, side, axes):
        return tuple(self.operands[side].aval.shape[a] for a in axes[side])


def _product(equation):
    """The product that an equation computes; `None` for any other."""
    if equation.primitive.name != "dot_general":
        return None
    params = equation.params
    contracted, batch = params["dimension_numbers"]
    if any(batch) or params["out_sharding"] is not None:
        return None
    shapes = [v.aval.shape for v in equation.invars]
    if not all(isinstance(size, int) for size in sum(shapes, ())):
        return None
    left, right = (
        tuple(a for a in range(len(shape)) if a not in axes)
        for shape, axes in zip(shapes, contracted, strict=True)
    )
    kind = tuple(sorted((k, repr(v)) for k, v in params.items()))
    return _Product(equation.invars, contracted, (left, right), kind)


# Products that share an operand.


def _sharing(equations) -> Iterator[tuple[int, list[Any]]]:
    """Yield lists of products, and the side on which their operands differ."""
    groups = collections.defaultdict(list)
    for equation in equations:
        product = _product(equation)
        for side in (0, 1) if product else ():
            columns = product.sizes(side, product.free)
            shared = product.operands[1 - side]
            if len(columns) == 1 and columns[0] <= NARROW:
                dtype = product.operands[side].aval.dtype
                groups[side, id(shared), dtype, product.kind].append(equation)
    # Where both operands are narrow, a product is in two groups.
    taken: set[int] = set()
    for (side, *_), group in sorted(
        groups.items(), key=lambda item: -len(item[1])
    ):
        left = [each for each in group if id(each) not in taken]
        if len(left) >= FEWEST:
            taken.update(map(id, left))
            yield side, left


def _together(equations, side, group, call):
    """Compute the products of a group where the last of them was computed.

    Whatever needs one of the results moves behind it. A product that needs
    another's result stays where it is.
    """
    ids = {id(each) for each in group}
    at = [i for i, each in enumerate(equations) if id(each) in ids]
    span = equations[at[0] : at[-1] + 1]
    results: set[int] = set()
    members: list[Any] = []
    waiting: list[Any] = []
    free: list[Any] = []
    for each in span:
        needs = any(id(v) in results for v in each.invars)
        kind = waiting if needs else members if id(each) in ids else free
        kind.append(each)
        if kind is not free:
            results.update(map(id, each.outvars))
    if len(members) < FEWEST or any(each.effects for each in waiting):
        return equations
    whole = _side_by_side(members, side, call)
    before, after = equations[: at[0]], equations[at[-1] + 1 :]
    return [*before, *free, whole, *waiting, *after]


def _side_by_side(members, side, call):
    products = [_product(each) for each in members]
    others = [p.operands[side] for p in products]
    first = products[0]
    (axis,) = first.free[side]
    function = functools.partial(
        _split_product,
        side=side,
        axis=axis,
        sizes=[v.aval.shape[axis] for v in others],
        params=members[0].params,
    )
    made = call(function, [first.operands[1 - side], *others])
    return made.replace(outvars=[v for each in members for v in each.outvars])


def _split_product(shared, *others, side, axis, sizes, params):
    joined = lax.concatenate(others, axis)
    operands = (shared, joined) if side else (joined, shared)
    product = lax.dot_general_p.bind(*operands, **params)
    return lax.split(product, sizes, axis=product.ndim - 1 if side else 0)


# Sums of products.


def _summed(jaxpr, call):
    """Replace sums that have several products among their terms."""
    uses = collections.Counter(
        id(v) for each in (*jaxpr.eqns, jaxpr) for v in _read(each)
    )
    # The equations whose result nothing but one other equation needs.
    makers = {
        id(v): each
        for each in jaxpr.eqns
        for v in each.outvars
        if uses[id(v)] == 1
    }
    inner: set[int] = set()
    gone: set[int] = set()
    made = {}
    for equation in reversed(jaxpr.eqns):
        if equation.primitive.name in _SUMS and id(equation) not in inner:
            sums, terms = _flattened(equation, makers)
            inner.update(map(id, sums))
            products = _largest_group(terms, makers)
            if len(products) >= FEWEST:
                gone.update(map(id, (*sums, *products)))
                made[id(equation)] = _joined(equation, terms, products, call)
    return [
        made.get(id(each), each)
        for each in jaxpr.eqns
        if id(each) in made or id(each) not in gone
    ]


def _read(each):
    """The variables that an equation reads, or that a jaxpr returns."""
    return each.invars if hasattr(each, "primitive") else each.outvars


def _flattened(equation, makers):
    """The equations of a sum of sums, and its terms."""
    sums, terms, left = [equation], [], list(equation.invars)
    while left:
        term = left.pop()
        maker = makers.get(id(term))
        if maker is not None and maker.primitive.name in _SUMS:
            sums.append(maker)
            left.extend(maker.invars)
        else:
            terms.append(term)
    return sums, terms


def _largest_group(terms, makers):
    """The equations of products that can be joined, of all terms."""
    groups = collections.defaultdict(list)
    for term in terms:
        maker = makers.get(id(term))
        product = _product(maker) if maker is not None else None
        # Products of vectors are numbers, which nothing is gained by joining.
        if product and all(product.free) and _is_one(product.contracted):
            (columns,) = product.sizes(0, product.contracted)
            if columns <= NARROW:
                free = [product.sizes(side, product.free) for side in (0, 1)]
                types = [v.aval.dtype for v in product.operands]
                groups[product.kind, *free, *types].append(maker)
    return max(groups.values(), key=len, default=[])


def _is_one(contracted):
    return all(len(axes) == 1 for axes in contracted)


def _joined(equation, terms, members, call):
    """One call for a sum with several products among its terms."""
    products = [_product(each) for each in members]
    results = {id(v) for each in members for v in each.outvars}
    rest = [term for term in terms if id(term) not in results]
    function = functools.partial(
        _sum_of_products,
        count=len(products),
        contracted=products[0].contracted,
        params=members[0].params,
    )
    sides = [[p.operands[side] for p in products] for side in (0, 1)]
    made = call(function, [*sides[0], *sides[1], *rest])
    return made.replace(outvars=equation.outvars)


def _sum_of_products(*operands, count, contracted, params):
    sides = operands[:count], operands[count : 2 * count]
    joined = [
        lax.concatenate(side, axis)
        for side, (axis,) in zip(sides, contracted, strict=True)
    ]
    total = lax.dot_general_p.bind(*joined, **params)
    for term in operands[2 * count :]:
        total = total + term
    return total
