from _tinyprof import WritableBuffer

from .gguf import GGUF
from .plan import Buffer, Plan

ROLES: tuple[str, ...]
KV_TYPES: dict[str, int]

class Keys:
    architecture: str
    traits: list[str] | None
    window: int
    period: int
    score_cap: int
    logit_cap: int
    eps: int
    window_rope: tuple[int, int]
    rope_base: int
    rope_scale: int
    def __init__(self, gguf: GGUF) -> None: ...
    def trait(self, name: str, default: int) -> int: ...
    def layer(self, i: int) -> tuple[tuple[int, int], int]: ...

class Llama:
    keys: Keys
    architecture: str
    context: int
    batch: int
    macs: int
    rope_factors: bytes | None
    dim: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    trained_context: int
    head_dim: int
    kv_dim: int
    rope_dims: int
    vocab: int
    kv: str
    activations: int
    kv_row: int
    kv_bytes: int
    plan: Plan
    body: int
    freqs: dict[tuple[int, int], Buffer]
    logits: Buffer
    def __init__(
        self, gguf: GGUF, context: int | None, batch: int, kv: str | None = None, room: int = 0, activations: int = 8
    ) -> None: ...
    def tensor_types(self, gguf: GGUF) -> str: ...

def fill_freqs(llama: Llama, arena: WritableBuffer) -> None: ...
