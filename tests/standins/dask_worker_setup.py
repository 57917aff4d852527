"""Stands in for the API's module of this name, which each Dask worker of the platform loads as it starts."""


def dask_setup(worker: object) -> None:
    """Leaves a mark on the worker, by which a test sees that the option reached it."""
    worker.preloaded = __name__  # type: ignore[attr-defined]
