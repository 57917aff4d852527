"""The sweeps that try docs/internals/reliability.md: `make torture` runs them whole, the tests a sample."""
