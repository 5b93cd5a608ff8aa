"""`--profile`: the parts add up to the update, and time spent in a part is shown as that part's."""

import time

import pytest

from equipot.ops import native
from equipot.train import profile

if native.library() is None:
    pytest.skip("the C++ library was not built", allow_module_level=True)


def test_parts_add_up(make_config):
    found = profile.profile_updates(make_config(), n=4)
    assert found.backend == "cpu" and {
        "edge convolution",
        "perceptrons",
        "linear maps of features",
        profile.OPTIMISER,
        profile.REST,
    } <= set(found.parts)
    assert 0.3 < sum(found.parts.values()) / found.update_ms < 3  # means of some updates beside the median of others


def test_a_slow_part_is_seen(make_config, monkeypatch):
    find, pause = native.function, 0.002

    def slow(name, suffix):
        function = find(name, suffix)
        return (lambda *args: (time.sleep(pause), function(*args))[1]) if name == "convolution" else function

    monkeypatch.setattr(native, "function", slow)
    parts = profile.profile_updates(make_config(), n=4).parts
    assert parts["edge convolution"] >= 1e3 * pause and native.function is slow
