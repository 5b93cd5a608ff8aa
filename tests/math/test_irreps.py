import pickle

import pytest

from equipot.math import Block, Irrep, Irreps


def test_canonical_order_merging_and_dropping():
    irreps = Irreps.parse(" 2x1o + 3x0e+1e + 4x1o+0x2e ")
    assert str(irreps) == "3x0e+1x1e+6x1o"
    assert irreps == Irreps(((6, 1, -1), (3, 0, 1), (1, 1, 1)))
    assert hash(irreps) == hash(Irreps.parse(str(irreps)))
    assert Irreps.parse(irreps) is irreps


def test_offsets_cover_the_row_without_gap():
    irreps = Irreps.parse("3x0e+2x0o+1x1e+6x1o+2x3o")
    start = 0
    for block in irreps:
        assert isinstance(block, Block)
        assert block.start == start
        assert block.stop == start + block.mul * (2 * block.l + 1)
        start = block.stop
    assert start == irreps.dim == 3 + 2 + 3 + 18 + 14
    assert irreps.l_max == 3
    assert len(irreps) == 5


def test_find_and_mul_distinguish_parity():
    irreps = Irreps.parse("3x1e+5x1o")
    assert irreps.find(1, -1) == Block(5, 1, -1, 9)
    assert irreps.find(0, 1) is None
    assert (irreps.mul(1, 1), irreps.mul(1, -1), irreps.mul(2, 1)) == (3, 5, 0)


def test_restrict_gives_new_offsets():
    irreps = Irreps.parse("3x0e+2x0o+5x1o")
    assert irreps.restrict(lambda irrep: irrep.l == 1).find(1, -1).start == 0
    assert str(irreps.scalars) == "3x0e+2x0o"


@pytest.mark.parametrize(("parity", "expected"), [("natural", "4x0e+4x1o+4x2e"), ("both", "4x0e+4x0o+4x1e+4x1o+4x2e+4x2o")])
def test_uniform(parity, expected):
    assert str(Irreps.uniform(4, 2, parity)) == expected


def test_empty():
    for empty in (Irreps(), Irreps.parse(""), Irreps.parse("0x1o")):
        assert (empty.dim, empty.l_max, len(empty), str(empty)) == (0, -1, 0, "")


def test_immutable_and_picklable():
    irreps = Irreps.parse("2x1o")
    with pytest.raises(AttributeError):
        irreps.blocks = ()
    assert pickle.loads(pickle.dumps(irreps)) == irreps


@pytest.mark.parametrize(
    ("text", "where"),
    [("8x0e+8x1q", "'8x1q' at character 5"), ("8x0e++1o", "'' at character 5"), ("x1o", "'x1o' at character 0"), (5, "'5'")],
)
def test_junk_says_where_in_one_line(text, where):
    with pytest.raises(ValueError) as caught:
        Irreps.parse(text)
    assert where in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entry", [(-1, 0, 1), (1, -1, 1), (1, 0, 0)])
def test_impossible_entries_are_refused(entry):
    with pytest.raises(ValueError, match="expected mul"):
        Irreps((entry,))


def test_uniform_refuses_another_word():
    with pytest.raises(ValueError, match="'odd'"):
        Irreps.uniform(1, 1, "odd")


def test_irrep():
    assert Irrep.parse("2o") == Irrep(2, -1)
    assert (str(Irrep(2, -1)), Irrep(2, -1).dim) == ("2o", 5)
    assert [Irrep(l, p).natural for l, p in [(0, 1), (0, -1), (1, 1), (1, -1), (2, 1)]] == [True, False, False, True, True]
    with pytest.raises(ValueError, match="'2x'"):
        Irrep.parse("2x")
