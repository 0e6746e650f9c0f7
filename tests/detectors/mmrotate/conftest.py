"""All tests here need mmrotate."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _mmrotate(mmrotate):
    pass
