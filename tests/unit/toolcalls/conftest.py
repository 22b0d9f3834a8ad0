"""Lets the shared checks explain their failures as the tests' own asserts do."""

import pytest

pytest.register_assert_rewrite("tests.unit.toolcalls.support")
