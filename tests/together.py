"""Which tests one process runs, where several do: those for which it would be dear to bring the same up twice.

pytest-xdist has marks for that, which pytest 9.2 no longer lets it see (pytest-xdist#1386): nothing told of it.
"""

from xdist.scheduler import LoadScopeScheduling


class Together(LoadScopeScheduling):
    """The largest groups come first, then one test after the other, in their order."""

    def _split_scope(self, nodeid):
        path = nodeid.partition("::")[0]
        folder, _, name = path.rpartition("/")
        if folder == "tests/browser":  # of two processes, each has a Chromium, whose start and first pages cost most
            return f"{folder}/a-l" if name < "test_m" else folder
        return path if folder == "tests/releases/demo" else nodeid  # a demo that a file's tests share
