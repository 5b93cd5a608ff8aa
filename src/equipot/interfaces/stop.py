"""Ending a run between two steps when the user or the queue asks for it."""

import signal
import threading
from types import FrameType
from typing import Self


class StopRequest:
    """As a context: the first SIGINT or SIGTERM makes this true instead of ending the program; a second one ends it as usual."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, object] = {}

    def __bool__(self) -> bool:
        return self._asked

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
