"""The embedding models; `choose.py` chooses one of them."""
