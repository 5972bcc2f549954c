"""Mutation testing: one place of the code is changed, and a test has to fail."""
