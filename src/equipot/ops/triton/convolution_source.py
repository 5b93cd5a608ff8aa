"""Writes the Triton kernels of `edge_convolution` for one plan: forward, backward, double backward.

A program (see `convolution_parts`) walks over one receiver's edges and keeps its sums in registers: nothing is added to memory, so no result
depends on the order of programs. The gradient of h is written per edge and summed over the sender order by `segments`; that of Y is a sum over
channels and parts, and is written per program.

In the generated text: h, y, w are the arguments, g the cotangent of the output, a, b, c the cotangents of the gradients of h, y, w; dh … dg are
results. h{block}_{m1}, y{m}, g{path}_{m3} are components, one number per thread and channel (y: one number). `s` is a coupling Σ_m2 C[m1, m2, m3] Y[m2]
and `v` the same of b; r and q are the weights w and c of one path. Coefficients are literals.
"""

from collections.abc import Callable
from typing import NamedTuple

from equipot.ops.triton.convolution_parts import LANES, KernelPath, KernelPlan, Part, Tuning, make_parts
from equipot.ops.triton.source import HEADER, Source, scaled, total

_TAIL = "sender, receiver_start, n_atoms, n_edges"


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
    """out[i] = Σ_e w Σ C h Y."""
    return _Forward(plan, tuning, dtype).text()


def backward_source(plan: KernelPlan, tuning: Tuning, dtype: str, need: Need) -> str:
    """Per edge: dh, dy (one row per program), dw."""
    return _Backward(plan, tuning, dtype, need).text()


def double_backward_source(plan: KernelPlan, tuning: Tuning, dtype: str, given: Given, need: Need) -> str:
    """The backward of the backward in one pass: dg per receiver; dh, dy, dw per edge."""
    return _DoubleBackward(plan, tuning, dtype, given, need).text()


class _Kernel:
    """What the three have in common: parts, loads and stores."""

    arguments: str

    def __init__(self, plan: KernelPlan, tuning: Tuning, dtype: str):
        self.plan, self.tuning, self.dtype = plan, tuning, dtype
        self.parts = make_parts(plan, tuning)
        self.n_slots = sum(part.n_programs for part in self.parts)
        self.source = Source()

    def text(self) -> str:
        """The module: a function per part, and the kernel that chooses among them."""
        for number, part in enumerate(self.parts):
            self._write_part(number, part)
        out = self.source
        out.add('@triton.jit(do_not_specialize=["n_atoms", "n_edges"])')
        with out.block(f"def kernel({self.arguments}, {_TAIL}):"):
            out.add("program = tl.program_id(0)")
            out.add(f"slot = program % {self.n_slots}")
            out.add(f"i = (program // {self.n_slots}).to(tl.int64)")
            first = 0
            for number, part in enumerate(self.parts):
                with out.block(f"if (slot >= {first}) & (slot < {first + part.n_programs}):"):
                    out.add(f"part_{number}({self.arguments}, {_TAIL}, i, slot, slot - {first})")
                first += part.n_programs
        return f"{HEADER}\n\n{out.text()}"

    def _write_part(self, number: int, part: Part) -> None:
        out = self.source
        self.mask = f", mask=k < {part.n_channels}" if part.n_channels % part.width else ""
        self.zero = f"tl.zeros([{LANES}, {part.channels}], {self.dtype})"
        out.add("@triton.jit")
        with out.block(f"def part_{number}({self.arguments}, {_TAIL}, i, slot, block):"):
            threads = f"tl.arange(0, {LANES})[:, None] * {part.channels} + tl.arange(0, {part.channels})[None, :]"
            out.add(f"k = block * {part.width} + {threads}")
            out.add("begin = tl.load(receiver_start + i)")
            out.add("end = tl.load(receiver_start + i + 1)")
            self.write(part)
        out.add()
        out.add()

    def write(self, part: Part) -> None:
        """The function of one part."""
        raise NotImplementedError

    def walk(self, body: Callable[[Part], None], part: Part) -> None:
        """The loop over the receiver's edges: `body` writes what happens on edge e with sender s."""
        out = self.source
        if self.tuning.prefetch:
            out.add("following = tl.load(sender + begin, mask=begin < end, other=0)")
        pipeline = f", num_stages={self.tuning.stages}" if self.tuning.stages else ""
        with out.block(f"for e in tl.range(begin, end{pipeline}):"):
            if self.tuning.prefetch:
                out.add("s_e = following")
                out.add("following = tl.load(sender + e + 1, mask=e + 1 < end, other=0)")
            else:
                out.add("s_e = tl.load(sender + e)")
            body(part)

    def load(self, name: str, row: str, length: int, places: list[tuple[str, int]], mask: str) -> None:
        """`name``suffix` for every (suffix, place) of a row."""
        self.source.add(f"{name}_row = {name} + {row} * {length}")
        for suffix, place in places:
            self.source.add(f"{name}{suffix} = tl.load({name}_row + {place}{mask})")

    def load_features(self, part: Part, *names: str) -> None:
        """Rows of the sender."""
        for name in names:
            self.load(name, "s_e", self.plan.h_dim, [(suffix, f"{place} + k") for suffix, place in part.h_rows], self.mask)

    def load_harmonics(self, part: Part, *names: str) -> None:
        """Rows of the edge, the same for every channel."""
        for name in names:
            self.load(name, "e", self.plan.y_dim, [(str(m), m) for m in part.harmonics], "")

    def load_cotangent(self, part: Part, now: bool) -> None:
        """The receiver's row of g: once, or on each edge."""
        if now == self.tuning.hoist:
            self.load("g", "i", self.plan.out_dim, [(suffix, f"{place} + k") for suffix, place in part.out_rows], self.mask)

    def load_weight(self, name: str, array: str, path: KernelPath) -> None:
        """One path's weights on the edge."""
        once = ', eviction_policy="evict_first"' if self.tuning.stream else ""
        self.source.add(f"{name} = tl.load({array} + e * {self.plan.w_dim} + {path.w_start} + k{self.mask}{once})")

    def store_output(self, part: Part, name: str, array: str) -> None:
        """The receiver's row."""
        self.source.add(f"{array}_row = {array} + i * {self.plan.out_dim} + k")
        for suffix, place in part.out_rows:
            self.source.add(f"tl.store({array}_row + {place}, {name}{suffix}{self.mask})")

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
        with out.block("for e in range(tl.load(receiver_start + n_atoms) + i, n_edges, n_atoms):"):
            out.clear()
            self.store_edge(part, need)
            for path in part.paths if need.w else ():
                out.add(f"tl.store(dw + e * {self.plan.w_dim} + {path.w_start} + k, {self.zero}{self.mask})")
            if not any(need[:3]):
                out.add("pass")

    def add_to_harmonics(self, product: str, terms: list[tuple[int, float]], part: Part) -> None:
        """dy += C Σ_channels product, over this thread's channels for now."""
        self.source.add(f"z = tl.sum({product}, 1)")
        for m, c in terms:
            self.source.accumulate(f"dy{m}", scaled(c, "z"))


def _coupling(name: str, terms: list[tuple[int, float]]) -> str:
    """Σ_m2 C Y[m2] for one pair (m1, m3)."""
    return total(scaled(c, f"{name}{m}") for m, c in terms)


class _Forward(_Kernel):
    arguments = "h, y, w, result"

    def write(self, part: Part) -> None:
        for suffix, _ in part.out_rows:
            self.source.add(f"sum{suffix} = {self.zero}")
        self.walk(self._edge, part)
        self.store_output(part, "sum", "result")

    def _edge(self, part: Part) -> None:
        self.load_features(part, "h")
        self.load_harmonics(part, "y")
        for number, path in enumerate(part.paths):
            self.load_weight("r", "w", path)
            for m3 in path.components:
                coupled = " + ".join(f"{_coupling('y', terms)} * h{path.h_start}_{m1}" for m1, terms in path.pairs(m3))
                self.source.add(f"sum{number}_{m3} += r * ({coupled})")


class _Backward(_Kernel):
    arguments = "g, h, y, w, dh, dy, dw"

    def __init__(self, plan: KernelPlan, tuning: Tuning, dtype: str, need: Need):
        super().__init__(plan, tuning, dtype)
        self.need = need

    def write(self, part: Part) -> None:
        self.load_cotangent(part, True)
        self.walk(self._edge, part)
        self.zero_padding(part, self.need)

    def _edge(self, part: Part) -> None:
        self.source.clear()
        self.load_cotangent(part, False)
        self.load_features(part, "h")
        self.load_harmonics(part, "y")
        for number, path in enumerate(part.paths):
            self._path(number, path, part)
        self.store_edge(part, self.need)

    def _path(self, number: int, path: KernelPath, part: Part) -> None:
        out, need = self.source, self.need
        self.load_weight("r", "w", path)
        for m3 in path.components:
            out.add(f"f = r * g{number}_{m3}")
            for m1, terms in path.pairs(m3):
                out.add(f"s = {_coupling('y', terms)}")
                if need.h:
                    out.accumulate(f"dh{path.h_start}_{m1}", "s * f")
                if need.w:
                    out.accumulate("t", f"s * h{path.h_start}_{m1}")
                if need.y:
                    self.add_to_harmonics(f"h{path.h_start}_{m1} * f", terms, part)
            if need.w:
                out.accumulate("dw_e", f"g{number}_{m3} * t")
                out.forget("t")
        if need.w:
            out.add(f"tl.store(dw + e * {self.plan.w_dim} + {path.w_start} + k, dw_e{self.mask})")
            out.forget("dw_e")


class _DoubleBackward(_Kernel):
    """d⟨a, gh⟩ + ⟨b, gy⟩ + ⟨c, gw⟩ with gh, gy, gw the backward's results: every term of each result is a term of the forward or backward."""

    arguments = "a, b, c, g, h, y, w, dg, dh, dy, dw"

    def __init__(self, plan: KernelPlan, tuning: Tuning, dtype: str, given: Given, need: Need):
        super().__init__(plan, tuning, dtype)
        self.given, self.need = given, need

    def write(self, part: Part) -> None:
        self.load_cotangent(part, True)
        for suffix, _ in part.out_rows if self.need.g else ():
            self.source.add(f"sum{suffix} = {self.zero}")
        self.walk(self._edge, part)
        if self.need.g:
            self.store_output(part, "sum", "dg")
        self.zero_padding(part, self.need)

    def _edge(self, part: Part) -> None:
        self.source.clear()
        self.load_cotangent(part, False)
        self.load_features(part, *(["h", "a"] if self.given.a else ["h"]))
        self.load_harmonics(part, *(["y", "b"] if self.given.b else ["y"]))
        for number, path in enumerate(part.paths):
            self._path(number, path, part)
        self.store_edge(part, self.need)

    def _path(self, number: int, path: KernelPath, part: Part) -> None:
        out = self.source
        self.load_weight("r", "w", path)
        if self.given.c:
            self.load_weight("q", "c", path)
        for m3 in path.components:
            self._component(number, path, m3, part)
        if self.need.w:
            value = "dw_e" if out.defined("dw_e") else self.zero
            out.add(f"tl.store(dw + e * {self.plan.w_dim} + {path.w_start} + k, {value}{self.mask})")
            out.forget("dw_e")

    def _component(self, number: int, path: KernelPath, m3: int, part: Part) -> None:
        """t = T(a, Y) + T(h, b) and u = T(h, Y), with T the coupling; f = r g, o = q g."""
        out, given, need = self.source, self.given, self.need
        out.add(f"f = r * g{number}_{m3}")
        if given.c:
            out.add(f"o = q * g{number}_{m3}")
        for m1, terms in path.pairs(m3):
            self._pair(f"{path.h_start}_{m1}", terms, part)
        if out.defined("t") and need.g:
            out.add(f"sum{number}_{m3} += r * t")
        if out.defined("t") and need.w:
            out.accumulate("dw_e", f"g{number}_{m3} * t")
        if out.defined("u"):
            out.add(f"sum{number}_{m3} += q * u")
        out.forget("t", "u")

    def _pair(self, row: str, terms: list[tuple[int, float]], part: Part) -> None:
        out, given, need = self.source, self.given, self.need
        out.add(f"s = {_coupling('y', terms)}")
        if given.b:
            out.add(f"v = {_coupling('b', terms)}")
        if need.g or need.w:
            if given.a:
                out.accumulate("t", f"s * a{row}")
            if given.b:
                out.accumulate("t", f"v * h{row}")
        if need.g and given.c:
            out.accumulate("u", f"s * h{row}")
        if need.h and given.c:
            out.accumulate(f"dh{row}", "s * o")
        if need.h and given.b:
            out.accumulate(f"dh{row}", "v * f")
        products = [f"h{row} * o"] * given.c + [f"a{row} * f"] * given.a
        if need.y and products:
            self.add_to_harmonics(" + ".join(products), terms, part)
