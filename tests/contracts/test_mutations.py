"""No defect of the mutation table survives: every test named for it fails."""

import pytest
from contract_checks import CHECKS
from mutations import KILLERS, MUTATIONS
from oracle_checks import ORACLES

from equipot.math import clebsch_gordan


@pytest.fixture(autouse=True)
def fresh_couplings():
    """What is computed under a mutation is not kept."""
    clebsch_gordan.cache_clear()
    yield
    clebsch_gordan.cache_clear()


@pytest.mark.parametrize("name", KILLERS)
def test_killer_passes_on_sound_code(name):
    KILLERS[name].run()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.what)
def test_mutation_is_killed(mutation, monkeypatch):
    assert mutation.killers
    mutation.apply(monkeypatch)
    for killer in mutation.killers:
        with pytest.raises(AssertionError):
            killer.run()
            pytest.fail(f"{mutation.what!r} survives {killer.name}")


def test_every_check_kills_something():
    """A check that cannot fail is a defect."""
    killers = {name.split("[")[0] for name in KILLERS}
    assert not {check.__name__ for check in (*CHECKS, *ORACLES)} - killers
