"""The example in the docstring of `streams.testing.worker_process.worker`: a worker on embedded servers."""

from __future__ import annotations

import inspect
import textwrap

from streams.testing.worker_process import worker


def test_the_example_of_a_users_own_test_runs() -> None:
    _, _, block = inspect.cleandoc(worker.__doc__ or "").partition("::\n\n")
    code = textwrap.dedent(block)
    assert "process.wait_ready()" in code
    exec(compile(code, "the docstring of worker", "exec"), {})
