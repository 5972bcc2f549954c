"""Models in torch whose modules have released code's names, written from the pages.

They stand in for somebody's models whose checkpoints are those of the released code.
"""
