"""Failures of the shared suite explain themselves as other tests do."""

import pytest

pytest.register_assert_rewrite("tests.conformance.executor")
