"""Softmaxes of a running model, followed to the products that multiply values by them."""
