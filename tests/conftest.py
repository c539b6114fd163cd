"""What holds for every test."""

from hypothesis import settings

# The same examples on every machine and run: a failure is one for everybody (`make fuzz` is for finding new ones).
# No deadline: timings never fail a test.
settings.register_profile("nearmile", derandomize=True, deadline=None)
settings.load_profile("nearmile")
