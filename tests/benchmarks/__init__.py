"""How fast is asgipipe beside what a competent engineer writes by hand?

`python -m tests.benchmarks` measures over real sockets, `python -m tests.benchmarks.layers` in one process. The method
is described in docs/performance.md.
"""
