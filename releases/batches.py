"""How machines follow each other in a run."""


def batches(total, size, canary):
    """The sizes of the batches in which `total` machines run: up to `size` each, if any; a canary goes first, alone."""
    first = [1] if canary and total > 1 else []
    left = total - len(first)
    size = min(size or left, left)
    return first + [min(size, left - start) for start in range(0, left, size)]
