"""What video encoders have around the layers that they share with language models."""

_REASON = "language models have none, pass it in `extra_params`"
UNPUBLISHED = {
    "embedding": f"embeds patches; {_REASON}",
    "e_space": f"spatial positions; {_REASON}",
    "e_time": f"positions of frames; {_REASON}",
    "norm": f"normalises the mean of all tokens; {_REASON}",
    "head": f"maps to the logits of the classes; {_REASON}",
}
