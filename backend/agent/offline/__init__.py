"""The offline model, which needs no provider and answers by a fixed set of rules."""
