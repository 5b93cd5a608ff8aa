"""The `model` section of a configuration: a preset, its arguments, and any axis of the spec on top."""

import inspect
import types
import typing
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, Strict, TypeAdapter, ValidationError, create_model
from pydantic.dataclasses import is_pydantic_dataclass

from equipot.presets import PRESETS, preset_options
from equipot.spec import LayerSpec, ModelSpec

_WHOLE = ("radial_basis", "embedding", "energy", "pair", "isolated_atom", "initialisation")
AXES = (*_WHOLE, "pair_cutoff", "layers", "first_layer", "last_layer")
_HIGHEST = {"cutoff": 100.0, "n_layers": 100}  # beyond them a slip of the pen or of the unit, which would use the machine up
_PER_LAYER = ("layers", "first_layer", "last_layer")


class Mistake(Exception):
    """A mistake at a path of the configuration, in words; `valid` are the keys that would have been possible there."""

    def __init__(self, path: tuple[str | int, ...], message: str, valid: list[str] | None = None):
        super().__init__(message)
        self.path, self.message, self.valid = path, message, valid


def build_spec(model: dict[str, Any]) -> ModelSpec:
    """The point of the design space that the section describes. Raises Mistake with the path below `model` of what is wrong."""
    preset = model.get("preset")
    if preset not in PRESETS:
        what = "which model? give a preset" if preset is None else f"{preset!r} is not a preset"
        raise Mistake(("preset",), f"{what}; there are {', '.join(PRESETS)}", list(PRESETS) if isinstance(preset, str) else None)
    arguments = _checked_arguments(preset, model)
    try:
        spec = PRESETS[preset](**arguments)
    except ValidationError as error:
        raise _from_spec(error, model) from None
    except ValueError as error:
        raise Mistake((), str(error)) from None
    return _with_axes(spec, {k: v for k, v in model.items() if k in AXES}, model)


def resolved_model(model: dict[str, Any]) -> dict[str, Any]:
    """The section with every argument of the preset written out."""
    defaults = {k: p.default for k, p in preset_options(model["preset"]).items()}
    return {
        "preset": model["preset"],
        **{k: list(v) if isinstance(v, tuple) else v for k, v in (defaults | model).items() if k != "preset"},
    }


def _checked_arguments(preset: str, model: dict[str, Any]) -> dict[str, Any]:
    options = preset_options(preset)
    valid = [*options, *AXES]
    for key in model:
        if key != "preset" and key not in valid:
            raise Mistake((key,), f"not a key of the {preset} preset", valid)
    given = {k: v for k, v in model.items() if k in options}
    try:
        checked = preset_model(preset)(**given)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].replace("Input should be", "should be").replace("a valid tuple", "a list such as [64, 64]")
        raise Mistake(tuple(first["loc"]), f"{message}, not {first['input']!r}") from None
    return {k: getattr(checked, k) for k in given}


@cache
def preset_model(preset: str) -> type[BaseModel]:
    """The arguments of a preset as a checked section."""
    fields = {k: (_bounded(k, p), p.default) for k, p in preset_options(preset).items()}
    return create_model(preset, __config__=ConfigDict(extra="forbid", strict=True), **fields)


def _bounded(name: str, parameter: inspect.Parameter) -> Any:
    """The annotation of a preset's argument with the bounds that its name says."""
    kind = parameter.annotation
    if get_origin(kind) is tuple:
        return Annotated[tuple[Annotated[int, Strict(), Field(gt=0)], ...], Strict(False)]
    if any(get_origin(k) is tuple for k in get_args(kind)):
        return Annotated[tuple[Annotated[float, Field(gt=0)], ...], Strict(False)] | None
    if name.startswith("n_"):
        return Annotated[kind, Field(ge=1, le=_HIGHEST.get(name))]
    if name.startswith("l_"):
        degree = Annotated[int, Field(ge=0, le=8)]
        return degree | None if type(None) in get_args(kind) else degree
    return Annotated[kind, Field(gt=0, le=_HIGHEST.get(name), allow_inf_nan=False)] if kind is float else kind


def _with_axes(spec: ModelSpec, axes: dict[str, Any], model: dict[str, Any]) -> ModelSpec:
    if not axes:
        return spec
    data = spec.to_dict()
    for key in _WHOLE:
        if key in axes:
            data[key] = _merged(data[key], axes[key], (key,))
    if "pair_cutoff" in axes:
        data["elements"], data["pair_cutoff"] = _pair_cutoffs(axes["pair_cutoff"], spec.cutoff)
    if isinstance(axes.get("layers"), list):
        data["layers"] = axes["layers"]
    for key, chosen in (("layers", slice(None)), ("first_layer", slice(0, 1)), ("last_layer", slice(-1, None))):
        if key in axes and not isinstance(axes[key], list):
            data["layers"][chosen] = [_merged(layer, axes[key], (key,)) for layer in data["layers"][chosen]]
    try:
        return ModelSpec.from_dict(data)
    except ValidationError as error:
        raise _from_spec(error, model) from None


def _pair_cutoffs(given: Any, cutoff: float) -> tuple[list[int], list[list[float]]]:
    """Elements and the matrix of cutoffs from {H-O: 3.0, …}; pairs not named have the model's cutoff."""
    from ase.data import atomic_numbers

    if not isinstance(given, dict) or not given:
        raise Mistake(("pair_cutoff",), f"a mapping of pairs of elements such as {{H-O: 3.0}}, not {given!r}")
    found: dict[tuple[int, ...], float] = {}
    for pair, value in given.items():
        symbols = str(pair).split("-")
        if len(symbols) != 2 or any(s not in atomic_numbers for s in symbols):
            raise Mistake(("pair_cutoff", pair), "a pair of elements such as H-O")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Mistake(("pair_cutoff", pair), f"a cutoff in Å, not {value!r}")
        found[tuple(sorted(atomic_numbers[s] for s in symbols))] = float(value)
    elements = sorted({z for pair in found for z in pair})
    return elements, [[found.get((min(a, b), max(a, b)), cutoff) for b in elements] for a in elements]


def _merged(old: Any, new: Any, path: tuple[str, ...]) -> Any:
    """`new` over `old`, key by key where both are mappings."""
    if isinstance(old, dict) and not isinstance(new, dict):
        raise Mistake(path, f"a mapping of {', '.join(old)}, not {new!r}")
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return old | {k: _merged(old.get(k), v, (*path, k)) if isinstance(v, dict) else v for k, v in new.items()}


def _from_spec(error: ValidationError, model: dict[str, Any]) -> Mistake:
    """The first error of a spec, at the place of the section that it comes from."""
    first = error.errors()[0]
    loc = tuple(first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    path = _origin(loc, model)
    if first["type"] == "unexpected_keyword_argument":
        return Mistake(path, "not a key of the design space", _fields_at(loc[:-1]))
    if first["type"] == "missing":
        return Mistake(path, "is missing")
    return Mistake(path, f"{message}, not {first['input']!r}" if isinstance(first["input"], str | int | float | None) else message)


def _origin(loc: tuple[str | int, ...], model: dict[str, Any]) -> tuple[str | int, ...]:
    """The path below `model` of a place in the spec: a layer's may have been written in any of three sections."""
    if len(loc) < 2 or loc[0] != "layers":
        return _existing(loc, model)
    if isinstance(model.get("layers"), list):
        return _existing(loc, model)
    for key in reversed(_PER_LAYER):
        found = _existing((key, *loc[2:]), model)
        if len(found) > 1:
            return found
    return ()


def _existing(path: tuple[str | int, ...], data: Any) -> tuple[str | int, ...]:
    """As much of a path as is there: what follows is a name of a type, not of a key."""
    for depth, key in enumerate(path):
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return path[:depth]
    return path


def _fields_at(loc: tuple[str | int, ...]) -> list[str]:
    """Names of the fields of the part of the spec at `loc`."""
    here: Any = ModelSpec
    for key in loc:
        here = _inner(here) if isinstance(key, int) else _inner(typing.get_type_hints(here)[key]) if is_pydantic_dataclass(here) else here
    return list(here.__dataclass_fields__) if is_pydantic_dataclass(here) else []


def _inner(kind: Any) -> Any:
    """The dataclass inside Optional[...] or tuple[..., ...]."""
    if get_origin(kind) in (types.UnionType, typing.Union, tuple):
        return next((a for a in get_args(kind) if is_pydantic_dataclass(a)), kind)
    return kind


def model_schema() -> tuple[dict[str, Any], dict[str, Any]]:
    """JSON Schema of the section and its definitions, for editors."""
    definitions = TypeAdapter(ModelSpec).json_schema(ref_template="#/$defs/{model}")
    parts = definitions.pop("$defs")
    for part in parts.values():
        part.pop("required", None)
    axes = {k: v for k, v in definitions["properties"].items() if k in AXES and k != "layers"}
    layer = {"$ref": f"#/$defs/{LayerSpec.__name__}"}
    axes["pair_cutoff"] = {
        "type": "object",
        "patternProperties": {"^[A-Z][a-z]?-[A-Z][a-z]?$": {"type": "number"}},
        "additionalProperties": False,
    }
    axes |= {"layers": {"anyOf": [layer, {"type": "array", "items": layer}]}, "first_layer": layer, "last_layer": layer}
    variants = []
    for name in PRESETS:
        own = preset_model(name).model_json_schema()
        properties = {"preset": {"const": name}, **own["properties"], **axes}
        variants.append({"type": "object", "title": name, "properties": properties, "required": ["preset"], "additionalProperties": False})
    return {"oneOf": variants}, parts
