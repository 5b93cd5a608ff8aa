"""From a YAML file and KEY=VALUE words to a checked `RunConfig`, with the file's line in every complaint."""

import difflib
import io
import os
import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from equipot.errors import UserError
from equipot.model.file import write_whole
from equipot.spec import nonlinear_because
from equipot.train.config import RunConfig
from equipot.train.model_config import Mistake, build_spec, model_schema, resolved_model

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_COMMAND_LINE = "command line"
_KEYS = "model and data; `equipot preset nequip` prints one"
_WORDS = dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "dataclass_type"), "should be a section of keys")
_WORDS |= {"too_short": "is empty: leave it out, or fill it"}
Path_ = tuple[str | int, ...]


class Source:
    """Raw data with the place of every key: a line of the file, or the command line."""

    def __init__(self, data: Any, file: str):
        self.data, self.file = data, file
        self.overridden: list[Path_] = []

    def where(self, path: Path_) -> str:
        """ "file, line 7" of the innermost key of `path` that is there."""
        if any(path[: len(p)] == p for p in self.overridden if p):
            return _COMMAND_LINE
        node, line = self.data, None
        for key in path:
            line = _line(node, key) or line
            try:
                node = node[key]
            except (KeyError, IndexError, TypeError):
                break
        return self.file if line is None else f"{self.file}, line {line}"


def _line(node: Any, key: str | int) -> int | None:
    try:
        if isinstance(node, CommentedMap):
            return node.lc.key(key)[0] + 1
        if isinstance(node, CommentedSeq):
            return node.lc.item(key)[0] + 1
    except (KeyError, IndexError, TypeError, AttributeError):
        pass
    return None


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in a YAML file with KEY=VALUE words over it. Raises UserError naming key, line and the nearest valid key."""
    source = read_source(Path(path), "configuration", "`equipot preset nequip` prints one", _KEYS)
    return _overridden(source, overrides)


def read_source(path: Path, what: str, help_: str, keys: str) -> Source:
    """The raw data of a YAML file. Raises UserError where there is no file (`help_` says what to do), and for what is no mapping of `keys`."""
    if not path.is_file():
        raise UserError(f"{path}: no such {what}; {help_}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file, so not a {what}") from None
    return parse_source(text, str(path), what, keys)


def parse_source(text: str, file: str, what: str, keys: str) -> Source:
    """The same from the text of a file."""
    source = Source(load_yaml(text, file), file)
    if not isinstance(source.data, dict):
        raise UserError(f"{file}: not a {what}: it must hold keys such as {keys}")
    return source


def parse_config(text: str, file: str = "configuration", overrides: Sequence[str] = ()) -> RunConfig:
    """The same from the text of a file."""
    return _overridden(parse_source(text, file, "configuration", _KEYS), overrides)


def _overridden(source: Source, overrides: Sequence[str]) -> RunConfig:
    for word in overrides:
        override(source, word)
    return checked_config(source)


def checked_config(source: Source) -> RunConfig:
    """The configuration of raw data. Raises UserError at the place that the source gives."""
    data = plain(source.data)
    _fill(data, source.file)
    try:
        config = RunConfig.model_validate(expand_variables(data, source))
    except ValidationError as error:
        raise user_error(_mistake(error, data), source) from None
    try:
        spec = build_spec(config.model)
    except Mistake as mistake:
        raise user_error(Mistake(("model", *mistake.path), mistake.message, mistake.valid), source) from None
    if config.train.fit == "least-squares" and (reason := nonlinear_because(spec)):
        message = (
            f"least-squares needs a model that is linear in its parameters, and of this one {reason}: take preset ace, or fit: gradient"
        )
        raise user_error(Mistake(("train", "fit"), message), source)
    return config


def load_yaml(text: str, where: str) -> Any:
    """What a YAML text holds, with the line of every key. Raises UserError for what is not YAML."""
    try:
        return YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line}: not valid YAML: {' '.join(str(error.problem or error.context).split())}") from None
    except YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())[:160]}") from None


def override(source: Source, word: str) -> None:
    """Set KEY=VALUE in the raw data; VALUE is YAML. Raises UserError for another word."""
    key, equals, value = word.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise UserError(f"{_COMMAND_LINE}: {word!r} is not KEY=VALUE, such as train.max_time=00:15:00")
    node = source.data
    for depth, part in enumerate(path[:-1]):
        if node.get(part) is None:
            node[part] = CommentedMap()
        node = node[part]
        if not isinstance(node, dict):
            raise UserError(f"{_COMMAND_LINE}: {word!r}: {'.'.join(path[: depth + 1])} is not a section")
    node[path[-1]] = load_yaml(value, f"{_COMMAND_LINE}: {word!r}") if value.strip() else None
    source.overridden.append(path)


def plain(node: Any) -> Any:
    """Plain dict, list, str, int, float, bool of ruamel's decorated ones."""
    if isinstance(node, dict):
        return {str(k): plain(v) for k, v in node.items()}
    if isinstance(node, list):
        return [plain(v) for v in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _fill(data: dict[str, Any], file: str) -> None:
    """Name and folder of a run that does not say them; empty sections are left out."""
    for key in ("name", "out", "loss", "train"):
        if key in data and data[key] is None:
            del data[key]
    data.setdefault("name", Path(file).stem)
    data.setdefault("out", f"runs/{data['name']}")


def expand_variables(data: dict[str, Any], source: Source, sections: Sequence[str] = ("data", "out")) -> dict[str, Any]:
    """${VARIABLE} in the names of files, in the sections that hold such, replaced."""

    def expand(node: Any, path: Path_) -> Any:
        if isinstance(node, dict):
            return {k: expand(v, (*path, k)) for k, v in node.items()}
        if isinstance(node, list):
            return [expand(v, (*path, i)) for i, v in enumerate(node)]
        if not isinstance(node, str):
            return node
        for name in _VARIABLE.findall(node):
            if name not in os.environ:
                raise UserError(
                    f"{source.where(path)}: {_dotted(path)}: the environment variable {name} is not set: set it, or write the path out"
                )
        return _VARIABLE.sub(lambda m: os.environ[m[1]], node)

    return {k: expand(v, (k,)) if k in sections else v for k, v in data.items()}


def _mistake(error: ValidationError, data: dict[str, Any]) -> Mistake:
    """The first error in words, with all that the same key could have been."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    path = _known_path(first, data)
    if first["type"] == "extra_forbidden":
        return Mistake(path, f"not a key of {_dotted(path[:-1]) or 'a configuration'}", _keys_at(path[:-1]))
    if path == ("data", "train") and first["input"] is None or first["type"] == "missing" and path[-1] in ("data", "train"):
        return Mistake(path if path[-1] == "train" else ("data", "train"), "name the file to train on, such as data.train=frames.xyz")
    if first["type"] == "missing":
        return Mistake(path, "is missing")
    message = _words(first)
    described = _description(path)
    if described and len([e for e in errors if _known_path(e, data) == path]) > 1:
        message = f"should be {described}"
    shown = f", not {first['input']!r}" if path and not isinstance(first["input"], dict) else ""
    return Mistake(path, message + shown)


def complaint(error: ValidationError, data: dict[str, Any], source: Source, model: type[BaseModel], whole: str) -> UserError:
    """The first mistake of data that are no `model`, in words; `whole` is what messages call the model."""
    errors = error.errors()
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    path = _known_path(first, data)
    if first["type"] == "missing":
        return user_error(Mistake(path, "is missing"), source)
    if first["type"] == "extra_forbidden":
        return user_error(Mistake(path, f"not a key of {_dotted(path[:-1]) or whole}", _keys_at(path[:-1], model)), source)
    shown = f", not {first['input']!r}" if not isinstance(first["input"], dict) else ""
    return user_error(Mistake(path, _words(first) + shown), source)


def _words(error: Any) -> str:
    return _WORDS.get(error["type"]) or error["msg"].removeprefix("Value error, ").replace("Input should be", "should be")


def _known_path(error: Any, data: Any) -> Path_:
    """The location of a pydantic error without the names of union members behind it."""
    path: list[str | int] = []
    for key in error["loc"]:
        known = isinstance(data, dict) and key in data or isinstance(data, list) and isinstance(key, int) and key < len(data)
        if not known:
            return (*path, key) if error["type"] == "missing" else tuple(path)
        path.append(key)
        data = data[key]
    return tuple(path)


def _section_at(path: Path_, model: type[BaseModel] = RunConfig) -> type[BaseModel] | None:
    here: Any = model
    for key in path:
        if get_origin(here) is dict:
            here = get_args(here)[1]
        elif isinstance(key, str):
            here = here.model_fields[key].annotation if _is_section(here) and key in here.model_fields else None
        while get_origin(here) in (types.UnionType, typing.Union, list):
            here = next((a for a in get_args(here) if _is_section(a) or get_origin(a) in (list, dict)), None)
    return here if _is_section(here) else None


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _keys_at(path: Path_, model: type[BaseModel] = RunConfig) -> list[str]:
    section = _section_at(path, model)
    return list(section.model_fields) if section else []


def _description(path: Path_) -> str:
    section = _section_at(path[:-1]) if path else None
    field = section.model_fields.get(path[-1]) if section else None
    return field.description or "" if field else ""


def user_error(mistake: Mistake, source: Source) -> UserError:
    """A mistake with its place and the nearest valid key."""
    hint = ""
    if mistake.valid:
        wrong = mistake.path[-1] if mistake.path[-1] != "preset" else _value(source, mistake.path)
        near = difflib.get_close_matches(str(wrong), mistake.valid, 1, 0.5)
        hint = f": did you mean {near[0]!r}?" if near else f": it takes {', '.join(mistake.valid)}"
    where = source.where(mistake.path)
    dotted = _dotted(mistake.path)
    return UserError(" ".join(f"{where}: {dotted}{': ' if dotted else ''}{mistake.message}{hint}".split()))


def _value(source: Source, path: Path_) -> Any:
    node = source.data
    for key in path:
        node = node[key]
    return node


def _dotted(path: Path_) -> str:
    return ".".join(str(key) for key in path)


def dump_config(config: RunConfig) -> str:
    """YAML of the configuration with every default written out; it can be read again."""
    data = config.model_dump(mode="json")
    data["model"] = resolved_model(config.model)
    if config.train.max_time is not None:
        data["train"]["max_time"] = DoubleQuotedScalarString(config.train.max_time)  # bare, YAML 1.1 readers make seconds of it
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 140
    buffer = io.StringIO()
    yaml.dump(data, buffer)
    return buffer.getvalue()


def write_config(config: RunConfig, path: Path) -> None:
    """`dump_config` into a file."""
    write_whole(path, dump_config(config).encode())


def json_schema() -> dict[str, Any]:
    """JSON Schema of the configuration, for editors."""
    schema = RunConfig.model_json_schema()
    model, definitions = model_schema()
    schema["properties"]["model"] = model
    schema["$defs"] = schema.get("$defs", {}) | definitions
    schema["required"] = ["model", "data"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "equipot configuration", **schema}
