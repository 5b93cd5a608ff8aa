"""Straight-line programs of sums of products, their reverse and their tangent: all derivatives of a polynomial from one description.

A program is a list of statements target += coefficient · Π factors with one or two factors; a target is read only after its last term. Then

* reverse:  bar(f1) += c · bar(target) · f2 for each factor, statements taken backwards;
* tangent:  dot(target) += c · (dot(f1) · f2 + f1 · dot(f2)) beside each statement;

so the double backward of a map is the tangent of its reverse. `wanted` keeps only what results depend on.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Statement(NamedTuple):
    """target += coefficient · Π factors."""

    target: str
    coefficient: float
    factors: tuple[str, ...]


def bar(name: str) -> str:
    """The cotangent of a value.

    >>> bar("x3"), dot(bar("x3"))
    ('bar_x3', 'dot_bar_x3')
    """
    return f"bar_{name}"


def dot(name: str) -> str:
    """The tangent of a value."""
    return f"dot_{name}"


def reverse(program: list[Statement]) -> list[Statement]:
    """Cotangents of everything a program reads, from those of its results."""
    return [Statement(bar(factor), c, (bar(s.target), *rest)) for s in reversed(program) for factor, c, rest in _one_factor(s)]


def tangent(program: list[Statement], moving: Iterable[str]) -> list[Statement]:
    """The program with, after each statement, that of its tangent; `moving` are the inputs that have one."""
    known = set(moving)
    result = []
    for statement in program:
        result.append(statement)
        for factor, c, rest in _one_factor(statement):
            if factor in known:
                result.append(Statement(dot(statement.target), c, (dot(factor), *rest)))
                known.add(statement.target)
    return result


def wanted(program: list[Statement], results: Iterable[str]) -> list[Statement]:
    """The statements that results depend on, in order."""
    needed = set(results)
    kept = []
    for statement in reversed(program):
        if statement.target in needed:
            kept.append(statement)
            needed.update(statement.factors)
    return kept[::-1]


def _one_factor(statement: Statement) -> Iterator[tuple[str, float, tuple[str, ...]]]:
    """The derivative of a product: each factor, with the coefficient and the factors that stay; a square has one, twice."""
    factors, c = statement.factors, statement.coefficient
    if len(factors) == 2 and factors[0] == factors[1]:
        yield factors[0], 2.0 * c, factors[1:]
        return
    for place, factor in enumerate(factors):
        yield factor, c, factors[:place] + factors[place + 1 :]
