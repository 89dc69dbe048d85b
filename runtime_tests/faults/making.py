"""In what is made: a file of another recipe or of another model, or a model that int8 cannot hold."""

from typing import Any

from edgepass.exporters import Job
from edgepass.exporters._capture import capture
from edgepass.quantize import recipe as recipes
from runtime_tests.faults.fault import INT8, Fault, lister
from runtime_tests.faults.models import small

FAULTS: list[Fault] = []
fault = lister(FAULTS)


@fault("making", recipes=INT8)
def one_weight_left_in_float(job: Job) -> Job:
    """One layer of an int8 file stays in float32, and nobody says so."""
    return Job(job.program, job.recipe.keeping(("square",)), job._calibration)


@fault("making", recipes=("fp16", "static_wi8_ai8"))
def all_weights_left_in_float(job: Job) -> Job:
    """A float32 file in the place of the recipe's."""
    return Job(job.program, recipes.read("fp32"), job._calibration)


@fault("making")
def weights_of_another_seed(job: Job) -> Job:
    """The same model with other weights."""
    return Job(capture(small(seed=1), job.program.args), job.recipe, job._calibration)


@fault("making", recipes=INT8)
def calibrated_on_a_tenth(job: Job) -> Job:
    """Ranges come of inputs ten times smaller than those that come."""
    assert job._calibration
    calibrate = job._calibration
    return Job(job.program, job.recipe, lambda: [tuple(0.1 * x for x in args) for args in calibrate()])


@fault("none", model="offset", recipes=INT8)
def offset_hides_all(_: Any) -> None:
    """An output of 300 with a spread of 0.3: few int8 values, and a ratio of 50 dB."""


@fault("none", model="channels", recipes=INT8)
def large_channel_hides_a_small_one(_: Any) -> None:
    """Four columns of 0 to 640 beside one of 0 to 1, which is constant in int8."""
