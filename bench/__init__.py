"""The benchmarks, and the scripted model server that the benchmarks and the tests use."""
