"""The usual mistakes of the pages in spec/encoder/."""

import math

from vtnp.encoder import attention_weights, softmax
from vtnp.mistakes._registry import mistake
from vtnp._xp import namespace, transposed


def _scores(Q, K, scale):  # type: ignore[no-untyped-def]
    return Q @ transposed(K) * (1.0 / math.sqrt(K.shape[-1]) if scale is None else scale)


@mistake("attention-weights", "softmax-over-queries")
def softmax_over_queries(Q, K, *, mask=None, scale=None):  # type: ignore[no-untyped-def]
    scores = _scores(Q, K, scale)
    if mask is not None:
        scores = namespace(Q, K).where(mask, scores, -math.inf)
    return transposed(softmax(transposed(scores)))


@mistake("attention-weights", "scale-after-softmax")
def scale_after_softmax(Q, K, *, mask=None, scale=None):  # type: ignore[no-untyped-def]
    late = 1.0 / math.sqrt(K.shape[-1]) if scale is None else scale
    return attention_weights(Q, K, mask=mask, scale=1.0) * late
