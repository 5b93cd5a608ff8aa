"""What mkdocs does besides: equations become MathML, the commands' page is made from the commands, links into the repository become names."""

import html
import logging
import re
from collections.abc import Iterator
from typing import Any

COMMANDS = "<!-- commands -->"
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")
_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_startup(**_: Any) -> None:
    """Brackets in a docstring, `[…][…]`, are lists and indices more often than links: they stay as they are, without a warning."""
    logging.getLogger("mkdocs.plugins.mkdocs_autorefs").setLevel(logging.ERROR)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files outside the documentation keep their words; the place of the commands is filled."""
    markdown = _OUTSIDE.sub(r"\1", markdown)
    return markdown.replace(COMMANDS, "\n".join(commands())) if COMMANDS in markdown else markdown


def on_page_content(content: str, **_: Any) -> str:
    """Equations as MathML, which browsers draw themselves: no script, nothing loaded."""
    return _EQUATION.sub(_mathml, content)


def _mathml(found: re.Match) -> str:
    from latex2mathml.converter import convert

    display = "block" if found[2] == "[" else "inline"
    return convert(html.unescape(found[3]).strip(), display=display)


def commands() -> Iterator[str]:
    """A section for each command of `equipot`: what it does, how it is called, its arguments and options."""
    import click
    import typer

    from equipot.cli import build

    root = typer.main.get_command(build())
    for words, command in _walk(root, ()):
        context = click.Context(command, info_name=" ".join(words))
        yield f"\n## {' '.join(words)}\n\n{_prose(command.help)}\n"
        yield "```text\n" + " ".join([*words, *command.collect_usage_pieces(context)]) + "\n```\n"
        rows = [_row(p, context) for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
        if rows:
            yield "| | | default |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    words = (*words, "equipot" if not words else command.name)
    children = getattr(command, "commands", None)
    if not children:
        yield words, command
    for child in (children or {}).values():
        yield from _walk(child, words)


def _row(parameter: Any, context: Any) -> str:
    names = ", ".join(f"`{o}`" for o in [*parameter.opts, *parameter.secondary_opts]) if parameter.param_type_name == "option" else ""
    names = names or f"`{(parameter.metavar or parameter.name).upper()}`"
    shown = getattr(parameter, "show_default", None)
    default = parameter.get_default(context)
    said = shown if isinstance(shown, str) else "" if default in (None, "", [], (), False) or shown is False else f"`{default}`"
    return f"| {names} | {_prose(getattr(parameter, 'help', '') or '')} | {_cell(said)} |"


def _prose(text: str | None) -> str:
    """Help as Markdown: its angle brackets and bars are none of a table's or of HTML."""
    return _cell(html.escape(" ".join((text or "").split()), quote=False))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")
