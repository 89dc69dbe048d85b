"""What converters changed, on the first screen: what is too much, and what was not compared, is said."""

from dataclasses import replace

from edgepass.judging.manifest import AtBatch, Conversion, Excess, Kept, Operations, WeightValues
from edgepass.report import conversions
from runtime_tests.report.manifests import a_passing


def test_what_a_converter_changed_is_named_where_it_is_too_much() -> None:
    first, second = a_passing().artifacts
    right = Conversion(
        excess=[Excess(name="output_0", file_db=36.0, expected_db=36.1, ratio=1.02, bound=1.6)],
        float32=[Kept(name="output_0", centred_db=138.0, bound_db=80.0)],
    )
    wrong = Conversion(float32=[Kept(name="output_0[..., 4]", centred_db=18.4, bound_db=80.0)])
    fine = conversions.changed(a_passing(artifacts=[replace(first, conversion=right)]))
    assert fine.headline == "Nothing beyond rounding"
    assert [row.cells for row in fine.rows] == [("executorch", "1.02 \N{MULTIPLICATION SIGN}", "138.0 dB", "-")]
    assert "at most 1.6 times" in fine.detail
    assert "at least 80.0 dB" in fine.detail
    both = [replace(first, conversion=right), replace(second, target="tflite", conversion=wrong)]
    found = conversions.changed(a_passing(artifacts=both))
    assert found.headline == "Too much for tflite"
    assert [row.bad for row in found.rows] == [False, True]
    assert conversions.changed(a_passing()).headline == "Not known"
    exact = replace(right, float32=[Kept(name="output_0", centred_db=200.0, bound_db=80.0)])
    (row,) = conversions.changed(a_passing(artifacts=[replace(first, conversion=exact)])).rows
    assert row.cells[2] == "equal", "which fits its column"


def test_an_operation_that_is_not_the_graphs_is_too_much() -> None:
    first, _ = a_passing().artifacts
    right = Conversion(
        excess=[Excess(name="output_0", file_db=36.0, expected_db=36.1, ratio=1.02, bound=1.6)],
        operations=Operations(compared=12),
    )
    wrong = replace(right, operations=Operations(compared=12, differing={"body: sub": "it is off by 9 steps"}))
    for conversion, said in ((right, "equal"), (wrong, "1 differ")):
        found = conversions.changed(a_passing(artifacts=[replace(first, conversion=conversion)]))
        assert f"Operations: 12 parts of files, given the graph's own integers: {said}." in found.detail
        (row,) = found.rows
        assert row.bad == (conversion is wrong)


def test_why_operations_were_not_compared_is_said_once() -> None:
    silent = Conversion(
        excess=[Excess(name="output_0", file_db=36.0, expected_db=36.1, ratio=1.02, bound=1.6)],
        operations=Operations(compared=0, note="its runtime shows nothing"),
    )
    files = [replace(a, conversion=silent) for a in a_passing().artifacts]
    found = conversions.changed(a_passing(artifacts=files))
    assert found.detail.count("Operations were not compared: its runtime shows nothing.") == 1


def test_weights_that_were_not_compared_are_counted() -> None:
    held = Conversion(weights=WeightValues(compared=12, uncompared={"a": "not read", "b": "not read"}))
    files = [replace(a, conversion=held) for a in a_passing().artifacts]
    found = conversions.changed(a_passing(artifacts=files))
    assert "Weights: those in the file against the graph's; 4 of 28 were not compared." in found.detail
    every = [replace(a, conversion=Conversion(weights=WeightValues(compared=12))) for a in a_passing().artifacts]
    assert "not compared" not in conversions.changed(a_passing(artifacts=every)).detail
    none = [replace(a, conversion=Conversion(weights=replace(held.weights, compared=0))) for a in files[:1]]
    assert [row.cells[3] for row in conversions.changed(a_passing(artifacts=none)).rows] == ["-"]


def test_batches_that_were_judged_are_told_and_the_one_that_fails() -> None:
    base = a_passing()
    first, second = base.artifacts
    model = replace(base.model, max_batch=6, batch=2)
    held = [AtBatch(size=size, rows=32, parity=first.parity) for size in (1, 3, 6)]
    broken = [*held[:2], AtBatch(size=6, rows=32, reason="the file takes 5 rows")]
    files = [
        replace(first, batches=held),
        replace(second, target="onnx", batches=broken, verdict="fail", reasons=["at a batch of 6: the file takes 5"]),
    ]
    found = conversions.changed(replace(base, model=model, artifacts=files))
    assert [row.bad for row in found.rows] == [False, True]
    assert found.headline == "Too much for onnx"
    assert found.detail == "Batches of 1, 2, 3, 6 rows were judged: onnx fp16 at 6 is not right."
    alone = conversions.changed(replace(base, model=model, artifacts=files[:1]))
    assert alone.headline == "Not known"
    assert alone.detail == "Batches of 1, 2, 3, 6 rows were judged: all hold."
