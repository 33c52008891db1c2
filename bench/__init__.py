"""The benchmarks, and the scripted model server that they and the tests talk to."""
