"""The embedding models that texts can be embedded by; `choose.py` chooses among them."""
