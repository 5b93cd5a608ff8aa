"""`from equipot.ase import Calculator`: the ASE calculator under the name users look for."""

from equipot.interfaces.ase_calculator import Calculator, NoStressError

__all__ = ["Calculator", "NoStressError"]
