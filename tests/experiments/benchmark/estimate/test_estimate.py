"""Estimates for devices that are not here: the reading of programs, the roofline, and what is said without plugins."""

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark.estimate import __main__ as command
from experiments.benchmark.estimate import plugins, table
from experiments.benchmark.estimate.program_text import Kernel, kernels
from experiments.benchmark.estimate.programs import PROGRAMS
from experiments.benchmark.estimate.roofline import MACHINES, Machine, roofline
from jaxsens.execution import Execution, flops

GPU = """
HloModule of_a_gpu, is_scheduled=true

%fused (p0: f32[8,4], p1: s32[]) -> f32[1,4] {
  %p0 = f32[8,4]{1,0} parameter(0)
  %p1 = s32[] parameter(1)
  ROOT %part = f32[1,4]{1,0} dynamic-slice(%p0, %p1, %p1), dynamic_slice_sizes={1,4}
}

%body (s: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %s = (s32[], f32[8,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %x = f32[8,4]{1,0} get-tuple-element(%s), index=1
  %product = (f32[8,6]{1,0}, s8[1024]{0}) custom-call(%x, %w), custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  %slice = f32[1,4]{1,0} fusion(%x, %i), kind=kLoop, calls=%fused
  ROOT %t = (s32[], f32[8,4]{1,0}) tuple(%i, %x)
}

%condition (s: (s32[], f32[8,4])) -> pred[] {
  %s.1 = (s32[], f32[8,4]{1,0}) parameter(0)
  ROOT %go = pred[] constant(true)
}

ENTRY %main (a: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %a = (s32[], f32[8,4]{1,0}) parameter(0)
  %known = (s32[], f32[8,4]{1,0}) while(%a), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %data = (s32[], f32[8,4]{1,0}) while(%known), condition=%condition, body=%body
}
"""  # noqa: E501


def test_kernels_of_loops_count_as_often_as_they_run_and_slices_move_their_part():
    found = {}
    for kernel in kernels(GPU, trips=(5,)):
        found.setdefault(kernel.kind, []).append(kernel)
    products, slices = found["__cublas$lt$matmul"], found["fusion, loop"]
    assert [k.times for k in products] == [3, 5]
    assert {k.operations for k in products} == {2 * 8 * 6 * 4}
    assert {k.bytes for k in slices} == {4 * 4 + 4 + 4 * 4}, "a row, its index, and the row written"


def test_operations_of_a_compiled_program_are_those_of_its_products_and_convolutions():
    def fn(x, w, image, kernel):
        for _ in range(2):
            x = jnp.tanh(x @ w)
        return x, jax.lax.conv(image, kernel, (1, 1), "SAME")

    arguments = [jnp.ones(s) for s in ((64, 32), (32, 32), (2, 3, 8, 8), (5, 3, 3, 3))]
    text = jax.jit(fn).lower(*arguments).compile(compiler_options={"xla_cpu_use_onednn": False}).as_text()
    assert sum(k.times * k.operations for k in kernels(text)) == flops.count(fn, *arguments).operations


def test_a_kernel_takes_the_longest_of_computing_moving_and_launching():
    machine = Machine("none", {"highest": 10.0}, bandwidth=2.0, launch=1.0)
    every = [Kernel("a", "dot", 2, 40.0, 2.0, 0), Kernel("b", "copy", 1, 0.0, 12.0, 0), Kernel("c", "copy", 3, 0, 1, 0)]
    found = roofline(every, machine, "highest")
    assert (found.seconds, found.kernels) == (2 * 4 + 6 + 3 * 1, 6)
    assert found.shares == pytest.approx({"operations": 8 / 17, "bytes": 6 / 17, "launch": 3 / 17})
    with pytest.raises(ValueError, match="precision must be one of"):
        roofline(every, MACHINES["tpu"], "TF32_TF32_F32_X3")


def test_without_a_compiler_the_command_says_what_to_install(tmp_path, capsys):
    for platform in plugins.PLATFORMS:
        assert command.main(["--platform", platform, "--plugins", str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert str(tmp_path) in said
        assert "pip install --no-deps --target DIR" in said
        assert {"cuda": "jax-cuda13-plugin==", "tpu": "libtpu"}[platform] in said


def test_a_case_records_one_program_and_counts_what_it_evaluates():
    recorded = PROGRAMS["recognizer 32, plain"](Execution(devices=jax.devices()[:1], check=False))
    items = recorded.launch.chunk * recorded.launch.chunks
    assert recorded.count == items * 101
    assert recorded.trips[0] == recorded.launch.chunks
    assert jax.tree.leaves(recorded.launch.items)[0].shape[:2] == (1, items)


def test_rows_of_a_case_replace_each_other():
    row = {"case": "a", "machine": "H100", "precision": "highest"}
    first, other = row | {"forwards_per_second": 1.0}, row | {"case": "b"}
    assert table.merged([first, other], row | {"forwards_per_second": 2.0}) == [
        row | {"forwards_per_second": 2.0},
        other,
    ]
    assert table.merged([first], other) == [first, other]
