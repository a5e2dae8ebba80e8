import pytest

# Its assertions are those of the tests: they say what they saw.
pytest.register_assert_rewrite("tests.library.cycle.story")
