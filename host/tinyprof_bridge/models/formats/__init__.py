"""One importer module per file format, each returning a Source, and their shared code: tensor names, tokenizers, RoPE.

May import: the other modules of models, except convert and inspection."""
