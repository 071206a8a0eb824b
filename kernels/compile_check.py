"""Compile every kernel at every committed block size, without a GPU, and check its resources.

``python -m ungan_dist.kernels.compile_check`` is part of ``make check``. Shared memory must fit a block's limit, and no
register may spill to the stack. It must not run in Triton's interpreter.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ungan_dist.kernels import blocks
from ungan_dist.kernels.blocks import Blocks

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Maximum shared memory per block in bytes, on A100, H100/H200 and B200."""

REGISTERS = 64 * 1024
"""Registers of one multiprocessor, on each of them."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One kernel with its compile-time constants."""

    module: str
    kernel: str
    dtype: str
    """Triton's name of the operands' element type."""
    constants: Mapping[str, int | str | bool]
    num_warps: int
    num_stages: int = 2
    max_registers: int | None = None
    min_resident: int = 1
    sizes_of_16: bool = False
    """Sizes are multiples of 16, for which Triton compiles another version with wider loads."""

    def __str__(self) -> str:
        constants = ", ".join(f"{name}={value}" for name, value in self.constants.items())
        sizes = "; sizes of 16" if self.sizes_of_16 else ""
        return f"{self.kernel}[{self.dtype}; {constants}; {self.num_warps} warps, {self.num_stages} stages{sizes}]"


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """Resources of one compiled variant on one architecture."""

    variant: Variant
    architecture: int
    shared_bytes: int
    stack_bytes: int
    registers: int

    @property
    def num_resident(self) -> int:
        """Number of blocks whose registers fit on one multiprocessor; a warp gets them in units of 8 a thread."""
        per_thread = -(-self.registers // 8) * 8
        return REGISTERS // (per_thread * 32 * self.variant.num_warps)

    def find_violation(self) -> str | None:
        """Return the exceeded limit, or None."""
        limit = SHARED_LIMIT[self.architecture]
        if self.shared_bytes > limit:
            return f"sm_{self.architecture} {self.variant}: {self.shared_bytes} bytes of shared memory exceed {limit}"
        if self.stack_bytes:
            return f"sm_{self.architecture} {self.variant}: {self.stack_bytes} bytes of registers spill to the stack"
        if self.num_resident < self.variant.min_resident:
            return (
                f"sm_{self.architecture} {self.variant}: {self.registers} registers leave room for "
                f"{self.num_resident} blocks, fewer than {self.variant.min_resident}"
            )
        return None


def compiler_fails(variant: Variant, architecture: int) -> bool:
    """Return whether Triton 3.6 ends with a failed assertion; there the self-check takes the reference."""
    is_wide = variant.kernel == "mean_kernel" and variant.dtype == "bf16" and not variant.constants["DIRECT"]
    return is_wide and architecture == 100 and triton.__version__.startswith("3.6.")


FLOAT32 = {"values", "sums", "loss", "row_loss", "partial", "flat", "table", "log_odds", "arriving"}
"""Pointers that are float32 for every type of operand."""
REALS = ("surrogate_scale", "penalty_scale", "scale", "weight", "learning_rate", "weight_decay")
SCALARS = dict.fromkeys(REALS, "fp32") | {"seed": "i64"}
POINTERS = {
    "embed_kernel": "z_unseen z_forget z_forget2 epsilon w1 b1 w2 b2 w3 b3 r0 r1 r2 h:fp32",
    "critic_kernel": "w1 w2 w3 r0 r1 r2 h:fp32 p1 p2 p3 row_loss",
    "backward_kernel": "w1 w2 w3 r1 r2 p1 p2 p3 dz:fp32",
    "surrogate_kernel": "h_unseen:fp32 h_forget:fp32 h_forget2:fp32 row_loss d_unseen d_forget d_forget2",
    "weights_kernel": "r0 r1 r2 p1 p2 p3 partial",
    "reduce_kernel": "partial flat row_loss loss",
    "descend_kernel": "partial w1 b1 w2 b2 w3 b3 row_loss loss",
    "mean_kernel": "x y centre:fp32 x_sizes:fp32 y_sizes:fp32 partial",
    "slope_kernel": "x y centre:fp32 x_sizes:fp32 y_sizes:fp32 out:fp32",
    "log_odds_kernel": "logits labels:i64 log_odds",
    "group_kernel": "values groups:i64 sums",
    "augment_kernel": "images:u8 indices:i64 table out",
}


def variants() -> Iterator[Variant]:
    """Yield every launchable variant: any size, and multiples of 16 at the default precision."""
    for variant in _variants_of_any_size():
        yield variant
        if variant.constants.get("PRECISION", "tf32x3") == "tf32x3" or variant.dtype == "bf16":
            yield replace(variant, sizes_of_16=True)


def _variants_of_any_size() -> Iterator[Variant]:
    for dtype, precision in (("fp32", "tf32x3"), ("fp32", "ieee"), ("bf16", "tf32")):
        yield with_dots("critic.fused_rows", "embed_kernel", dtype, precision, blocks.CRITIC_ROWS)
        for input_gradient in (True, False):
            yield with_dots(
                "critic.fused_rows", "backward_kernel", dtype, precision, blocks.CRITIC_ROWS,
                INPUT_GRADIENT=input_gradient,
            )  # fmt: skip
        for of_critic in (True, False):
            yield with_dots(
                "critic.fused_terms", "critic_kernel", dtype, precision, blocks.CRITIC_ROWS,
                CRITIC=of_critic, SQUARED=of_critic, GRADIENT=True,
            )  # fmt: skip
        for direct in (True, False):
            fixed = {"SPLITS": 8, "DIRECT": direct, "CENTRED": dtype == "fp32"}
            some_dim = blocks.DIRECT_DIM + (not direct)
            forward, backward = (blocks.select_distance_blocks(some_dim, backward=which) for which in (False, True))
            yield with_dots("energy_distance.fused_pairs", "mean_kernel", dtype, precision, forward, **fixed)
            for first, dim in itertools.product((True, False), (16, 32) if direct else (32,)):
                yield with_dots(
                    "energy_distance.fused_pairs", "slope_kernel", dtype, precision, backward,
                    FIRST=first, FEATURES=blocks.select_distance_columns(dim), **fixed,
                )  # fmt: skip
        for table in (blocks.CRITIC_WEIGHTS_NARROW, blocks.CRITIC_WEIGHTS_WIDE):
            yield with_dots(
                "critic.fused_weights", "weights_kernel", dtype, precision, table, SPLIT=blocks.CRITIC_SPLIT_ROWS
            )
    for dtype in ("fp32", "bf16"):
        table = blocks.CRITIC_ROWS
        for generator in (True, False):
            yield Variant(
                module="critic.fused_terms", kernel="surrogate_kernel", dtype=dtype, num_warps=table.num_warps,
                constants={"GENERATOR": generator, "ROWS": table.rows, "COLUMNS": table.columns},
            )  # fmt: skip
    table = blocks.DISTANCE_GROUPS
    yield Variant(
        module="energy_distance.fused_groups", kernel="group_kernel", dtype="fp32", num_warps=table.num_warps,
        num_stages=table.num_stages, min_resident=table.min_resident,
        constants={"SPLITS": 8, "ROWS": table.rows, "COLUMNS": table.columns},
    )  # fmt: skip
    for dtype in ("fp32", "bf16", "fp16"):
        yield Variant(
            module="log_odds.fused", kernel="log_odds_kernel", dtype=dtype,
            constants={"ROWS": blocks.LOG_ODDS_ROWS, "CLASSES": blocks.LOG_ODDS_CLASSES}, num_warps=4,
        )  # fmt: skip
        yield Variant(
            module="augment.fused", kernel="augment_kernel", dtype=dtype, constants={"BLOCK": blocks.AUGMENT_PIXELS},
            num_warps=4,
        )  # fmt: skip
    yield Variant(
        module="critic.fused_weights", kernel="reduce_kernel", dtype="fp32",
        constants={"BLOCK": blocks.CRITIC_REDUCE}, num_warps=4,
    )  # fmt: skip
    for dtype in ("fp32", "bf16"):
        yield Variant(
            module="critic.fused_weights", kernel="descend_kernel", dtype=dtype,
            constants={"BLOCK": blocks.CRITIC_REDUCE}, num_warps=4,
        )  # fmt: skip


def with_dots(module: str, kernel: str, dtype: str, precision: str, table: Blocks, **constants: int | bool) -> Variant:
    """Return a variant with the block sizes of a table line."""
    sizes = {"ROWS": table.rows, "COLUMNS": table.columns, "INNER": table.inner, "PRECISION": precision}
    return Variant(
        module=module,
        kernel=kernel,
        dtype=dtype,
        constants={**constants, **sizes},
        num_warps=table.num_warps,
        num_stages=table.num_stages,
        max_registers=table.max_registers,
        min_resident=table.min_resident,
    )


def compile_variant(variant: Variant, architecture: int) -> Compiled:
    """Compile one variant for buffers aligned to 16 bytes, as torch's are."""
    module = __import__(f"ungan_dist.kernels.{variant.module}", fromlist=[variant.kernel])
    kernel = getattr(module, variant.kernel)
    types = {name.partition(":")[0]: name.partition(":")[2] for name in POINTERS[variant.kernel].split()}
    signature: dict[str, str] = {}
    for name in kernel.arg_names:
        if name in variant.constants:
            signature[name] = "constexpr"
        elif name in types:
            signature[name] = "*" + (types[name] or ("fp32" if name in FLOAT32 else variant.dtype))
        else:
            signature[name] = SCALARS.get(name, "i32")
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, kind in enumerate(signature.values())
        if kind.startswith("*") or (kind == "i32" and variant.sizes_of_16)
    }
    source = ASTSource(
        kernel,
        signature,
        {(kernel.arg_names.index(name),): value for name, value in variant.constants.items()},
        aligned,
    )
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": variant.num_warps, "num_stages": variant.num_stages, "maxnreg": variant.max_registers},
    )
    registers, stack = _resources(compiled.asm["cubin"])
    return Compiled(
        variant=variant,
        architecture=architecture,
        shared_bytes=compiled.metadata.shared,
        stack_bytes=stack,
        registers=registers,
    )


def _resources(cubin: bytes) -> tuple[int, int]:
    """Return the registers per thread and the bytes of stack of the machine code; only spilling uses stack here.

    They are read from the code, not from the assembler's report, so that cached kernels are checked too.
    """
    reader = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        report = subprocess.run([reader, "-res-usage", file], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"REG:(\d+) STACK:(\d+)", report)
    if len(found) != 1:
        raise RuntimeError(f"cuobjdump lists {len(found)} kernels instead of one: {report}")
    return int(found[0][0]), int(found[0][1])


def _compile(work: tuple[Variant, int]) -> Compiled:
    return compile_variant(*work)


def main() -> int:
    """Compile all variants on every core; return 1 if any exceeds a limit, else 0."""
    if triton.knobs.runtime.interpret:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError("compile_check cannot run in Triton's interpreter: unset TRITON_INTERPRET")
    everything = [(variant, architecture) for variant in variants() for architecture in SHARED_LIMIT]
    work = [one for one in everything if not compiler_fails(*one)]
    for variant, architecture in everything:
        if compiler_fails(variant, architecture):
            print(f"sm_{architecture} {variant}: left out, Triton {triton.__version__} cannot compile it")
    violations = 0
    with ProcessPoolExecutor() as pool:
        for compiled in pool.map(_compile, work):
            if "-v" in sys.argv:
                print(
                    f"sm_{compiled.architecture} {compiled.variant}: {compiled.shared_bytes} B shared, "
                    f"{compiled.registers} registers, {compiled.num_resident} blocks, {compiled.stack_bytes} B of stack"
                )
            violation = compiled.find_violation()
            if violation is not None:
                violations += 1
                print(violation, file=sys.stderr)
    print(f"{len(work)} kernels compiled for {', '.join(f'sm_{a}' for a in SHARED_LIMIT)}, {violations} refused")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
