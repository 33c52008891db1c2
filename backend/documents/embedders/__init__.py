"""The embedding models that texts can be embedded by; `embedding.py` chooses among them."""
