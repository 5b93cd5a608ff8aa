"""Writes the Triton kernels of `edge_convolution` for one plan: forward, backward, double backward.

A program (see `convolution_parts`) walks over edges of one receiver and keeps its sums in registers: nothing is added to memory, so no result
depends on the order of programs. Of a small graph several programs share a receiver's edges: `split` of them, whose sums over edges are added
afterwards. The gradient of h is written per edge and summed over the sender order by `segments`; that of Y is a sum over channels and parts, and
is written per program.

In the generated text: h, y, w are the arguments, g the cotangent of the output, a, b, c the cotangents of the gradients of h, y, w; dh … dg are
results. h{block}_{m1}, y{m}, g{path}_{m3} are components, one number per thread and channel (y: one number); r and q are the weights w and c of a
path. Coefficients are literals. A group is the paths from one block with one degree of Y; for each pair (m1, m2) of a group, x is a product of
h and Y, and u the cotangent of that product, Σ_{path, m3} C[m1, m2, m3] r g: both are used as soon as they are made.
"""

from collections.abc import Callable
from typing import NamedTuple

from equipot.ops.triton.convolution_parts import Group, KernelPath, KernelPlan, Part, Tuning, make_parts
from equipot.ops.triton.source import HEADER, Source, scaled, total


class Need(NamedTuple):
    """Which gradients are wanted."""

    h: bool
    y: bool
    w: bool
    g: bool = False


class Given(NamedTuple):
    """Which cotangents a double backward has."""

    a: bool
    b: bool
    c: bool


def forward_source(plan: KernelPlan, tuning: Tuning, dtype: str) -> str:
    """out[i] = Σ_e w Σ C h Y, a row per split."""
    return _Forward(plan, tuning, dtype).text()


def backward_source(plan: KernelPlan, tuning: Tuning, dtype: str, need: Need, by_sender: bool = False) -> str:
    """Per edge: dh, dy (a row per program), dw. By sender, dh is a sum over the sender's edges, a row per split."""
    return (_BackwardBySender if by_sender else _Backward)(plan, tuning, dtype, need).text()


def double_backward_source(plan: KernelPlan, tuning: Tuning, dtype: str, given: Given, need: Need) -> str:
    """The backward of the backward in one pass: dg per receiver, a row per split; dh, dy, dw per edge."""
    return _DoubleBackward(plan, tuning, dtype, given, need).text()


class _Kernel:
    """What the three have in common: parts, loads and stores."""

    arguments: str
    indices = "sender, receiver_start"
    start = "receiver_start"  # of an atom's edges

    def __init__(self, plan: KernelPlan, tuning: Tuning, dtype: str):
        self.plan, self.tuning, self.dtype = plan, tuning, dtype
        self.parts = make_parts(plan, tuning)
        self.n_slots = sum(part.n_programs for part in self.parts)
        self.source = Source()

    def text(self) -> str:
        """The module: a function per part, and the kernel that chooses among them."""
        self.all = f"{self.arguments}, {self.indices}, n_atoms, n_edges, n_split"
        for number, part in enumerate(self.parts):
            self._write_part(number, part)
        out = self.source
        out.add('@triton.jit(do_not_specialize=["n_atoms", "n_edges", "n_split"])')
        with out.block(f"def kernel({self.all}):"):
            self._place()
            first = 0
            for number, part in enumerate(self.parts):
                with out.block(f"if (slot >= {first}) & (slot < {first + part.n_programs}):"):
                    out.add(f"part_{number}({self.all}, i, split, slot, slot - {first})")
                first += part.n_programs
        return f"{HEADER}\n\n{out.text()}"

    def _place(self) -> None:
        """Which atom, split and slot a program has."""
        out = self.source
        out.add("program = tl.program_id(0)")
        if self.tuning.by_part:
            out.add("slot = program // (n_atoms * n_split)")
            out.add("split = program // n_atoms % n_split")
            out.add("i = (program % n_atoms).to(tl.int64)")
        else:
            out.add(f"slot = program % {self.n_slots}")
            out.add(f"split = program // {self.n_slots} % n_split")
            out.add(f"i = (program // ({self.n_slots} * n_split)).to(tl.int64)")

    def _write_part(self, number: int, part: Part) -> None:
        out = self.source
        self.mask = f", mask=k < {part.n_channels}" if part.n_channels % part.width else ""
        self.zero = f"tl.zeros([{part.width}], {self.dtype})"
        out.add("@triton.jit(noinline=True)")  # compiled by itself: Triton's passes take more than a proportional time
        with out.block(f"def part_{number}({self.all}, i, split, slot, block):"):
            out.add(f"k = block * {part.width} + tl.arange(0, {part.width})")
            out.add(f"begin = tl.load({self.start} + i) + split")
            out.add(f"end = tl.load({self.start} + i + 1)")
            self.write(part)
        out.add()
        out.add()

    def write(self, part: Part) -> None:
        """The function of one part."""
        raise NotImplementedError

    def walk(self, body: Callable[[Part], None], part: Part) -> None:
        """The loop over the receiver's edges: `body` writes what happens on edge e with sender s, which is read one edge ahead."""
        out = self.source
        out.add("following = tl.load(sender + begin, mask=begin < end, other=0)")
        with out.block("for e in range(begin, end, n_split):"):
            out.add("s = following")
            out.add("following = tl.load(sender + e + n_split, mask=e + n_split < end, other=0)")
            body(part)

    def load(self, name: str, row: str, length: int, places: list[tuple[str, int]], mask: str) -> None:
        """`name``suffix` for every (suffix, place) of a row."""
        self.source.add(f"{name}_row = {name} + {row} * {length}")
        for suffix, place in places:
            self.source.add(f"{name}{suffix} = tl.load({name}_row + {place}{mask})")

    def load_features(self, part: Part, *names: str, row: str = "s") -> None:
        """Rows of the sender."""
        for name in names:
            self.load(name, row, self.plan.h_dim, [(suffix, f"{place} + k") for suffix, place in part.h_rows], self.mask)

    def load_harmonics(self, part: Part, *names: str) -> None:
        """Rows of the edge, the same for every channel."""
        for name in names:
            self.load(name, "e", self.plan.y_dim, [(str(m), m) for m in part.harmonics], "")

    def load_cotangent(self, part: Part, row: str = "i") -> None:
        """The receiver's row of g."""
        self.load("g", row, self.plan.out_dim, [(suffix, f"{place} + k") for suffix, place in part.out_rows], self.mask)

    def load_weight(self, name: str, array: str, path: KernelPath) -> None:
        """One path's weights on the edge."""
        self.source.add(f"{name} = tl.load({array} + e * {self.plan.w_dim} + {path.w_start} + k{self.mask})")

    def zero_output(self, part: Part) -> None:
        """The sums over edges."""
        for suffix, _ in part.out_rows:
            self.source.add(f"sum{suffix} = {self.zero}")

    def store_output(self, part: Part, array: str) -> None:
        """The receiver's row of this split."""
        self.source.add(f"{array}_row = {array} + (split * n_atoms + i) * {self.plan.out_dim} + k")
        for suffix, place in part.out_rows:
            self.source.add(f"tl.store({array}_row + {place}, sum{suffix}{self.mask})")

    def store_edge(self, part: Part, need: Need) -> None:
        """An edge's gradients of h and y; a component that nothing couples to is zero."""
        out = self.source
        if need.h:
            out.add(f"dh_row = dh + e * {self.plan.h_dim} + k")
            for suffix, place in part.h_rows:
                out.add(f"tl.store(dh_row + {place}, {f'dh{suffix}' if out.defined(f'dh{suffix}') else self.zero}{self.mask})")
        if need.y:
            width = 1 << (self.plan.y_dim - 1).bit_length()
            out.add(f"m = tl.arange(0, {width})")
            out.add(f"row = tl.zeros([{width}], {self.dtype})")
            for m in part.harmonics:
                if out.defined(f"dy{m}"):
                    out.add(f"row = tl.where(m == {m}, tl.sum(dy{m}, 0), row)")
            out.add(f"tl.store(dy + (e * {self.n_slots} + slot) * {self.plan.y_dim} + m, row, mask=m < {self.plan.y_dim})")

    def zero_padding(self, part: Part, need: Need) -> None:
        """Edges past the last receiver's, the padding of a captured graph, get zeros: each receiver's programs write a share of them."""
        out = self.source
        with out.block(f"for e in range(tl.load({self.start} + n_atoms) + i * n_split + split, n_edges, n_atoms * n_split):"):
            out.clear()
            self.store_edge(part, need)
            for path in part.paths if need.w else ():
                out.add(f"tl.store(dw + e * {self.plan.w_dim} + {path.w_start} + k, {self.zero}{self.mask})")
            if not any(need[:3]):
                out.add("pass")


class _Forward(_Kernel):
    arguments = "h, y, w, result"

    def write(self, part: Part) -> None:
        self.zero_output(part)
        self.walk(self._edge, part)
        self.store_output(part, "result")

    def _edge(self, part: Part) -> None:
        self.load_features(part, "h")
        self.load_harmonics(part, "y")
        for number, path in enumerate(part.paths):
            self.load_weight("r", "w", path)
            for m3 in path.components:
                pairs = (f"{_sum(c, 'y', path.y_start)} * h{path.h_start}_{m1}" for m1, c in path.by_h(m3))
                self.source.add(f"sum{number}_{m3} += r * ({' + '.join(pairs)})")


def _sum(terms: list[tuple[int, float]], name: str, first: int = 0) -> str:
    return total(scaled(c, f"{name}{first + m}") for m, c in terms)


class _Backward(_Kernel):
    arguments = "g, h, y, w, dh, dy, dw"

    def __init__(self, plan: KernelPlan, tuning: Tuning, dtype: str, need: Need):
        super().__init__(plan, tuning, dtype)
        self.need = need

    def write(self, part: Part) -> None:
        self.load_cotangent(part)
        self.walk(self._edge, part)
        self.zero_padding(part, self.need)

    def _edge(self, part: Part) -> None:
        self.source.clear()
        self.load_features(part, "h")
        self.load_harmonics(part, "y")
        for group in part.groups:
            self._group(group)
        self.store_edge(part, self.need)

    def _group(self, group: Group) -> None:
        out, need = self.source, self.need
        for number, path in group.paths:
            self.load_weight("r", "w", path)
            for m3 in path.components if need.h or need.y else ():
                out.add(f"f{number}_{m3} = r * g{number}_{m3}")
        for m1, m2, terms in group.pairs():
            h, y = f"h{group.h_start}_{m1}", f"y{m2}"
            if need.w:
                out.add(f"x = {h} * {y}")
                _spread(out, "t", "x", terms)
            if need.h or need.y:
                out.add(f"u = {_gather('f', terms)}")
            if need.h:
                out.accumulate(f"d{h}", f"u * {y}")
            if need.y:
                out.accumulate(f"d{y}", f"u * {h}")
        for number, path in group.paths if need.w else ():
            value = " + ".join(f"g{number}_{m3} * t{number}_{m3}" for m3 in path.components)
            out.add(f"tl.store(dw + e * {self.plan.w_dim} + {path.w_start} + k, {value}{self.mask})")


class _BackwardBySender(_Backward):
    """The same with the edges of a sender, whose dh is then a sum in registers; g is gathered."""

    indices = "by_sender, receiver, sender_start"
    start = "sender_start"

    def write(self, part: Part) -> None:
        out = self.source
        self.load_features(part, "h", row="i")
        for suffix, _ in part.h_rows:
            out.add(f"dh{suffix} = {self.zero}")
        self.walk(self._edge, part)
        out.add(f"dh_row = dh + (split * n_atoms + i) * {self.plan.h_dim} + k")
        for suffix, place in part.h_rows:
            out.add(f"tl.store(dh_row + {place}, dh{suffix}{self.mask})")
        self.zero_padding(part, self.need._replace(h=False))

    def walk(self, body: Callable[[Part], None], part: Part) -> None:
        """The loop over the sender's edges: edge e goes to atom t; both are read one edge ahead."""
        out = self.source
        out.add("following = tl.load(by_sender + begin, mask=begin < end, other=0)")
        out.add("target = tl.load(receiver + following, mask=begin < end, other=0)")
        with out.block("for j in range(begin, end, n_split):"):
            out.add("e = following")
            out.add("t = target")
            out.add("following = tl.load(by_sender + j + n_split, mask=j + n_split < end, other=0)")
            out.add("target = tl.load(receiver + following, mask=j + n_split < end, other=0)")
            body(part)

    def _edge(self, part: Part) -> None:
        self.source.clear()
        self.source.define(*(f"dh{suffix}" for suffix, _ in part.h_rows))
        self.load_cotangent(part, "t")
        self.load_harmonics(part, "y")
        for group in part.groups:
            self._group(group)
        self.store_edge(part, self.need._replace(h=False))


def _spread(out: Source, name: str, value: str, terms: list[tuple[str, float]]) -> None:
    """Adds C · value to `name` of every (path, m3) that it couples to."""
    for suffix, c in terms:
        out.accumulate(f"{name}{suffix}", scaled(c, value))


def _gather(name: str, terms: list[tuple[str, float]]) -> str:
    """Σ C · `name` over every (path, m3)."""
    return " + ".join(scaled(c, f"{name}{suffix}") for suffix, c in terms)


class _DoubleBackward(_Kernel):
    """The backward of ⟨a, gh⟩ + ⟨b, gy⟩ + ⟨c, gw⟩ with gh, gy, gw the backward's results.

    With x = h Y and z = a Y + h b:  dg = Σ_e r C z + q C x,  dw = Σ g C z;  with u and v the cotangents of x from r g and q g:
    dh = v Y + u b,  dY = v h + u a.
    """

    arguments = "a, b, c, g, h, y, w, dg, dh, dy, dw"

    def __init__(self, plan: KernelPlan, tuning: Tuning, dtype: str, given: Given, need: Need):
        super().__init__(plan, tuning, dtype)
        self.given, self.need = given, need

    def write(self, part: Part) -> None:
        self.load_cotangent(part)
        if self.need.g:
            self.zero_output(part)
        self.walk(self._edge, part)
        if self.need.g:
            self.store_output(part, "dg")
        self.zero_padding(part, self.need)

    def _edge(self, part: Part) -> None:
        self.source.clear()
        self.load_features(part, *(["h", "a"] if self.given.a else ["h"]))
        self.load_harmonics(part, *(["y", "b"] if self.given.b else ["y"]))
        for group in part.groups:
            self._group(group)
        self.store_edge(part, self.need)

    def _group(self, group: Group) -> None:
        out = self.source
        for number, path in group.paths:
            self.load_weight(f"r{number}", "w", path)
            if self.given.c:
                self.load_weight(f"q{number}", "c", path)
            for m3 in path.components if self.need.h or self.need.y else ():
                out.add(f"f{number}_{m3} = r{number} * g{number}_{m3}")
                if self.given.c:
                    out.add(f"o{number}_{m3} = q{number} * g{number}_{m3}")
        for m1, m2, terms in group.pairs():
            self._products(group.h_start, m1, m2, terms)
            self._cotangents(f"{group.h_start}_{m1}", m2, terms)
        for number, path in group.paths:
            self._finish(number, path)

    def _products(self, block: int, m1: int, m2: int, terms: list[tuple[str, float]]) -> None:
        """x and z, into p… and t…, the couplings of each."""
        out, given, need = self.source, self.given, self.need
        if need.g and given.c:
            out.add(f"x = h{block}_{m1} * y{m2}")
            _spread(out, "p", "x", terms)
        products = [f"a{block}_{m1} * y{m2}"] * given.a + [f"h{block}_{m1} * b{m2}"] * given.b
        if (need.g or need.w) and products:
            out.add(f"z = {' + '.join(products)}")
            _spread(out, "t", "z", terms)

    def _cotangents(self, row: str, m2: int, terms: list[tuple[str, float]]) -> None:
        """u and v, into dh and dy."""
        out, given, need = self.source, self.given, self.need
        if (need.h and given.b) or (need.y and given.a):
            out.add(f"u = {_gather('f', terms)}")
        if given.c and (need.h or need.y):
            out.add(f"v = {_gather('o', terms)}")
        for wanted, is_given, target, value in (
            (need.h, given.c, f"dh{row}", f"v * y{m2}"),
            (need.h, given.b, f"dh{row}", f"u * b{m2}"),
            (need.y, given.c, f"dy{m2}", f"v * h{row}"),
            (need.y, given.a, f"dy{m2}", f"u * a{row}"),
        ):
            if wanted and is_given:
                out.accumulate(target, value)

    def _finish(self, number: int, path: KernelPath) -> None:
        """A path's part of dg, and its dw."""
        out, need = self.source, self.need
        for m3 in path.components:
            suffix = f"{number}_{m3}"
            if need.g and out.defined(f"t{suffix}"):
                out.add(f"sum{suffix} += r{number} * t{suffix}")
            if need.g and out.defined(f"p{suffix}"):
                out.add(f"sum{suffix} += q{number} * p{suffix}")
        if need.w:
            terms = [f"g{number}_{m3} * t{number}_{m3}" for m3 in path.components if out.defined(f"t{number}_{m3}")]
            value = " + ".join(terms) or self.zero
            out.add(f"tl.store(dw + e * {self.plan.w_dim} + {path.w_start} + k, {value}{self.mask})")
