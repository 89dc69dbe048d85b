"""Faults, each a small function that spoils what was healthy: a graph, a weight, what is made, a file, a folder.

What is spoiled is what a converter, a runtime or a hand may get wrong. The model that judges is never touched.
"""

from runtime_tests.faults import files, folders, graphs, making, weights
from runtime_tests.faults.fault import Fault

FAULTS: list[Fault] = [fault for kind in (graphs, weights, making, files, folders) for fault in kind.FAULTS]
