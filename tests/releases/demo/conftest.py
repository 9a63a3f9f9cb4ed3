from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """One process has the demo that a file's tests share: any other would bring up its own."""
    for item in items:
        if item.path.is_relative_to(HERE) and {"demo", "first"} & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
