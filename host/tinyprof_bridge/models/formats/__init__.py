"""One module a file format, each of which gives a Source, and what these share: tensor names, tokenizers, RoPE.

May import: its siblings in models, but not convert or inspection."""
