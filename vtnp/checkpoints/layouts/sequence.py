"""What video encoders have around the layers that they share with language models."""

_WHY = "language models have none, give it as `beside`"
ALONE = {
    "embedding": f"makes tokens of patches; {_WHY}",
    "e_space": f"positions of places; {_WHY}",
    "e_time": f"positions of frames; {_WHY}",
    "norm": f"of the mean of all tokens; {_WHY}",
    "head": f"makes logits of the classes; {_WHY}",
}
