"""The model architectures that boards run, and what each has that a plain llama does not. Pure data.

The device reads the table while it loads a model; the host builds its own from this file. Facts that only importers
need, such as names in other formats, are in the host's models/architectures.py. One piece of text takes the least RAM.

Each line starts with general.architecture of GGUF. Words that may follow:

    rope_factors  a tensor may hold divisors of the RoPE frequencies, as Llama 3 has them
    halves        RoPE rotates value i of a head with value i + dims / 2, otherwise neighbours
    qkv_biases    the products for queries, keys and values have biases
    head_norms    RMSNorm of each head of queries and keys
    post_norms    RMSNorm also after attention and after the feed-forward network
    embed_scale   the embedding is multiplied by the square root of its length
    gelu          the activation of the gate is GELU (with tanh), otherwise SiLU
    local_rope    layers with a window have a RoPE base of their own, and no scaling
    period=N      layers have windows, except every N-th layer, which sees all positions
    window=N      positions of a window where the file does not say it, otherwise none
    other=N       with N layers llama.cpp scales attention in another way, which is not supported
    score_cap=N   attention scores are limited to N where the file does not say it
    logit_cap=N   the same for logits

Source: llama.cpp, src/llama-model.cpp."""

ARCHITECTURES = """\
llama rope_factors
qwen2 halves qkv_biases
qwen3 halves head_norms
gemma halves embed_scale gelu
gemma2 halves embed_scale gelu post_norms period=2 window=4096 other=46 score_cap=50 logit_cap=30
gemma3 halves embed_scale gelu post_norms head_norms local_rope period=6 other=62"""
