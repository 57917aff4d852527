"""The sweeps that try the promises of docs/reliability.md: `make torture` runs them whole, the tests a sample."""
