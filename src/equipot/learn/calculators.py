"""The labelling calculator by name: tblite, pyscf, or a function of the user's."""

import importlib
from typing import Any

from ase.calculators.calculator import BaseCalculator

from equipot.errors import MissingPackageError, UserError


def make_calculator(name: str, arguments: dict[str, Any]) -> BaseCalculator:
    """An ASE calculator: GFN2-xTB by tblite, density functionals by PySCF, or what module:function returns.

    Raises UserError where it cannot be imported or made, with the reason.
    """
    if name in _BUILT_IN:
        make = _BUILT_IN[name]
    elif ":" in name:
        make = _function(name)
    else:
        raise UserError(f"label.calculator {name!r} is not known: one of {', '.join(_BUILT_IN)}, or module:function, such as mine:make")
    try:
        found = make(**arguments)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"label.calculator {name} cannot be made: {type(error).__name__}: {_line(error)}: look at label.arguments"
        ) from error
    if not hasattr(found, "get_property"):
        raise UserError(f"label.calculator {name} gave {type(found).__name__}, which is no ASE calculator: let the function return one")
    return found


def _tblite(**arguments: Any) -> BaseCalculator:
    try:
        from tblite.ase import TBLite
    except ImportError:
        raise MissingPackageError("tblite", "data") from None
    return TBLite(**({"method": "GFN2-xTB", "verbosity": 0} | arguments))


def _pyscf(**arguments: Any) -> BaseCalculator:
    from equipot.learn.pyscf_calculator import PySCF

    return PySCF(**arguments)


_BUILT_IN = {"tblite": _tblite, "pyscf": _pyscf}


def _function(name: str) -> Any:
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except Exception as error:  # whatever the user's module does while it is imported
        raise UserError(f"label.calculator {name} cannot be imported: {type(error).__name__}: {_line(error)}") from error
    if not callable(found):
        raise UserError(f"label.calculator {name} is no function: it must return an ASE calculator")
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or "no message"
