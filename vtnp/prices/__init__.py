"""Prices: what formulas, systems and whole models take, beside each other and beside papers."""
